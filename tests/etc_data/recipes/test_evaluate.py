import numpy as np
import pytest

from etc_data import Cipher, SecretKey
from etc_data.errors import EtcError, ManifestError, ModelError, SettingsError, WrongKeyError
from etc_data.models import save_encrypted_model
from etc_data.recipes.evaluate import TrainedModel, evaluate, wrong_key_accuracies
from etc_data.recipes.settings import DataSettings
from etc_data.recipes.train import train

SCHEME = "ind-8"


@pytest.fixture(scope="module")
def plain(trained):
    return TrainedModel.load(trained / "last.safetensors")


@pytest.fixture(scope="module")
def test_images(digits):
    return DataSettings(source=str(digits))


def cipher_of(path, scheme=SCHEME, **options):
    return Cipher(scheme, SecretKey.load(path), **{"key_scope": "dataset"} | options)


@pytest.fixture(scope="module")
def lossless_shards(make_shards, key):
    """Shards of the scheme that the model is encrypted for, without loss."""
    return make_shards(key, SCHEME)


@pytest.fixture(scope="module")
def encrypted_file(plain, key, tmp_path_factory):
    path = tmp_path_factory.mktemp("encrypted") / "encrypted.safetensors"
    save_encrypted_model(plain.encrypted(cipher_of(key)).model, path)
    return path


def test_a_trained_model_does_as_well_as_its_run_said(plain, test_images, trained):
    import json

    summary = json.loads((trained / "summary.json").read_bytes())
    assert evaluate(plain, test_images).accuracy == summary["accuracy"]


@pytest.mark.parametrize("scheme", ["ind-8", "com-8", "ind-8/4", "flip-8", "etc-8"])
def test_the_encrypted_model_takes_each_encrypted_digit_for_what_the_plain_one_took_it(
    plain, test_images, key, scheme
):
    cipher = cipher_of(key, scheme)
    try:
        encrypted = plain.encrypted(cipher)
    except ModelError:
        assert scheme == "etc-8"  # a ConvMixer cannot follow scrambled blocks
        return
    scores, same = evaluate(plain, test_images), evaluate(encrypted, test_images, cipher=cipher)
    assert np.array_equal(scores.confusion, same.confusion)
    assert same.loss == pytest.approx(scores.loss, rel=1e-4)


def test_wrong_keys_give_about_chance(plain, test_images, key):
    ticks = []
    wrong = wrong_key_accuracies(plain, cipher_of(key), test_images, 5, tick=ticks.append)
    assert len(wrong) == len(ticks) == 5
    assert np.mean(wrong) < 0.3 < evaluate(plain, test_images).accuracy


def test_plain_images_on_the_encrypted_model_give_less(plain, test_images, key):
    encrypted = plain.encrypted(cipher_of(key))
    with pytest.raises(SettingsError, match=r"for encrypted \(ind-8\) images, but these are plain"):
        evaluate(encrypted, test_images)
    assert evaluate(encrypted, test_images, any_images=True).accuracy < 0.5


def test_an_encrypted_model_from_its_file_reads_shards_of_its_key(
    plain, test_images, encrypted_file, lossless_shards
):
    scores = evaluate(
        TrainedModel.load(encrypted_file), DataSettings(source=str(lossless_shards), workers=0)
    )
    assert scores.accuracy == pytest.approx(evaluate(plain, test_images).accuracy, abs=0.05)


def test_images_of_another_key_are_refused(encrypted_file, make_shards, other_key, test_images):
    model = TrainedModel.load(encrypted_file)
    shards = DataSettings(source=str(make_shards(other_key, SCHEME)), workers=0)
    other = SecretKey.load(other_key).id
    with pytest.raises(WrongKeyError, match=f"but these have key {other}"):
        evaluate(model, shards)
    with pytest.raises(WrongKeyError, match=f"but these have key {other}"):
        evaluate(model, test_images, cipher=cipher_of(other_key))
    assert evaluate(model, shards, any_images=True).samples == 120


def test_images_of_another_scheme_context_or_scope_are_refused(
    encrypted_file, shards, key, test_images
):
    model = TrainedModel.load(encrypted_file)
    with pytest.raises(SettingsError, match="images of scheme ind-8, but these have etc-8"):
        evaluate(model, DataSettings(source=str(shards), workers=0))
    with pytest.raises(SettingsError, match="images of context '', but these have 'b'"):
        evaluate(model, test_images, cipher=cipher_of(key, context="b"))
    with pytest.raises(SettingsError, match="key scope 'dataset', but these have 'image'"):
        evaluate(model, test_images, cipher=cipher_of(key, key_scope="image"))


def test_plain_and_encrypted_do_not_go_together(plain, shards, key, test_images):
    with pytest.raises(SettingsError, match="for plain images, but these are encrypted"):
        evaluate(plain, DataSettings(source=str(shards), workers=0))
    with pytest.raises(SettingsError, match="for plain images, but these are encrypted"):
        evaluate(plain, test_images, cipher=cipher_of(key))
    with pytest.raises(SettingsError, match="which scheme ind-8 cannot encrypt"):
        evaluate(plain, DataSettings(source=str(shards), workers=0), cipher=cipher_of(key))


def test_a_model_that_learned_from_encrypted_images_is_not_encrypted_again(
    shards, key, make_settings, tmp_path
):
    train(make_settings(shards, tmp_path, epochs=1))
    model = TrainedModel.load(tmp_path / "best.safetensors")
    assert evaluate(model, DataSettings(source=str(shards), workers=0)).samples == 120
    with pytest.raises(SettingsError, match="for images of scheme etc-8 already"):
        model.encrypted(cipher_of(key))


def test_images_of_another_size_are_refused(plain, digits, key, tmp_path):
    from etc_data.shards.writer import write_shards

    write_shards(digits, tmp_path / "large", cipher_of(key), size=64)
    with pytest.raises(SettingsError, match="of 32×32 pixels, but these have 64×64"):
        evaluate(plain, DataSettings(source=str(tmp_path / "large"), workers=0), any_images=True)


def test_coarser_jpeg_keeps_less(plain, test_images):
    import dataclasses

    losses = {
        quality: evaluate(plain, dataclasses.replace(test_images, quality=quality)).loss
        for quality in (100, 5)
    }
    exact = evaluate(plain, test_images).loss
    assert abs(losses[100] - exact) < abs(losses[5] - exact)


def test_other_files_are_no_models(tmp_path, trained):
    with pytest.raises(ManifestError, match="does not exist"):
        TrainedModel.load(tmp_path / "none.safetensors")
    with pytest.raises(EtcError, match="is no model of a recipe"):
        TrainedModel.load(trained / "state.pt")
