"""`etc-data train`, `evaluate` and `reproduce` on made-up photos."""

import json
import subprocess
import sys

import pytest
import yaml

from etc_data import Scheme, SecretKey

NETWORK = {"name": "etc_convmixer_256_8_p8", "options": {"dim": 16, "depth": 1, "kernel_size": 3}}


@pytest.fixture(scope="module")
def config(tmp_path_factory, labeled_photos):
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    values = {
        "epochs": 1,
        "batch": 8,
        "model": NETWORK,
        "data": {"source": str(labeled_photos), "size": 32, "workers": 0},
    }
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def weights(etc, config, tmp_path_factory):
    """A model that learned from plain photos."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    result = etc("train", config, f"out={out}")
    assert result.code == 0, result.err
    return out / "last.safetensors"


@pytest.fixture(scope="module")
def make_data_set(etc, labeled_photos, tmp_path_factory):
    def make(key, scheme):
        out = tmp_path_factory.mktemp("sets") / scheme
        result = etc("encrypt", labeled_photos, out, "--key", key, "--size", 32, "--scheme", scheme)
        assert result.code == 0, result.err
        return out

    return make


@pytest.mark.parametrize("name", ["train", "evaluate", "reproduce"])
def test_help_ends_with_examples(etc, name):
    result = etc(name, "--help")
    assert result.code == 0
    assert f"  etc-data {name} " in result.out[result.out.index("Examples:") :]


def test_train_help_names_every_config(etc):
    from etc_data.recipes.settings import config_names

    assert ", ".join(config_names()) in " ".join(etc("train", "--help").out.split())


def test_help_and_the_other_commands_load_no_torch(child_environment):
    code = (
        "import sys\nfrom etc_data.cli.main import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "assert not {'torch', 'timm', 'accelerate'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), check=True, stdout=subprocess.DEVNULL
    )


# -- train ------------------------------------------------------------------------------------------


def test_train_tells_where_everything_is(etc, config, tmp_path):
    result = etc("train", config, f"out={tmp_path}/run", "optimizer.lr=0.02", "--json")
    assert result.code == 0, result.err
    record = json.loads(result.out)
    assert record["out"] == f"{tmp_path}/run"
    assert 0 <= record["accuracy"] <= record["best_accuracy"] <= 1
    assert "test accuracy " in result.err
    assert f"  next     etc-data evaluate {tmp_path}/run/best.safetensors SOURCE" in result.err
    assert yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())["optimizer"]["lr"] == 0.02
    assert etc("train", tmp_path / "run" / "settings.yaml", "--resume").code == 0
    assert "is not empty" in etc("train", tmp_path / "run" / "settings.yaml").error


def test_train_encrypts_on_the_fly_and_never_shows_the_key(etc, config, key, key_line, tmp_path):
    result = etc("train", config, f"out={tmp_path}/run", "data.scheme=etc-8", f"data.key={key}")
    assert result.code == 0, result.err
    assert json.loads((tmp_path / "run" / "summary.json").read_bytes())["encryption"] == {
        "scheme": "etc-8",
        "steps": Scheme.preset("etc-8").describe()["steps"],
        "key_id": SecretKey.load(key).id,
        "key_scope": "dataset",
        "context": "",
        "codec": None,
    }
    assert key_line not in result.err + result.out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epoch=3", "epoch is no setting"),
        ("epochs", "'epochs' changes nothing; write it as name=value"),
        ("epochs=many", "epochs is 'many'; it must be a whole number"),
        ("model.name=resnet1", "model resnet1: Unknown model (resnet1)"),
        ("data.source=/no/such", "'/no/such' does not exist"),
    ],
)
def test_train_stops_at_wrong_settings(etc, config, tmp_path, change, message):
    result = etc("train", config, f"out={tmp_path}/run", change)
    assert result.code == 1
    assert result.error == message
    assert not (tmp_path / "run").exists()


def test_train_without_a_config_is_wrong_usage(etc, tmp_path):
    assert etc("train").code == 2
    assert "does not exist" in etc("train", tmp_path / "none.yaml").error


# -- evaluate ---------------------------------------------------------------------------------------


def test_evaluate_tests_plain_encrypted_and_wrong_keys(etc, weights, labeled_photos, key, tmp_path):
    pytest.importorskip("matplotlib")
    plain = json.loads(etc("evaluate", weights, labeled_photos, "--json").out)
    options = ["--encrypt-model", "--scheme", "ind-8", "--key", key, "--wrong-keys", 3]
    result = etc("evaluate", weights, labeled_photos, *options, "-o", tmp_path / "report", "--json")
    assert result.code == 0, result.err
    record = json.loads(result.out)
    assert record["accuracy"] == plain["accuracy"]
    assert record["samples"] == plain["samples"] == 8
    assert len(record["wrong_keys"]) == 3
    assert record["key_id"] == SecretKey.load(key).id
    assert json.loads((tmp_path / "report" / "scores.json").read_bytes())["classes"] == ["a", "b"]
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "classes.png",
        "confusion.png",
        "scores.json",
        "wrong-keys.png",
    }


def test_evaluate_sweeps_qualities(etc, weights, labeled_photos, tmp_path):
    result = etc("evaluate", weights, labeled_photos, "--quality", 90, "--quality", 30, "--json")
    assert [record["quality"] for record in json.loads(result.out)] == [90, 30]
    assert "at JPEG quality 30" in result.err


def test_evaluate_takes_the_file_of_an_encrypted_model_and_checks_that_shards_belong_to_it(
    etc, weights, key, other_key, make_data_set, tmp_path
):
    from etc_data.cipher import Cipher
    from etc_data.models import save_encrypted_model
    from etc_data.recipes.evaluate import TrainedModel

    encrypted = tmp_path / "encrypted.safetensors"
    cipher = Cipher("ind-8", SecretKey.load(key), key_scope="dataset")
    save_encrypted_model(TrainedModel.load(weights).encrypted(cipher).model, encrypted)
    mine, theirs = make_data_set(key, "ind-8"), make_data_set(other_key, "ind-8")
    right = etc("evaluate", encrypted, mine, "--workers", 0, "--json")
    assert right.code == 0, right.err
    assert json.loads(right.out)["samples"] == 8
    wrong = etc("evaluate", encrypted, theirs, "--workers", 0)
    ids = [SecretKey.load(path).id for path in (key, other_key)]
    assert wrong.code == 1
    assert wrong.error == f"the model is for images of key {ids[0]}, but these have key {ids[1]}"
    assert wrong.hint == "--any tests it all the same"
    assert etc("evaluate", encrypted, theirs, "--workers", 0, "--any").code == 0
    other = etc("evaluate", encrypted, make_data_set(key, "com-8"), "--workers", 0)
    assert other.error == "the model is for images of scheme ind-8, but these have com-8"
    # The plain model, encrypted on the way, reads the same shards, under its own key only.
    options = ["--encrypt-model", "--scheme", "ind-8", "--key", key, "--workers", 0]
    again = etc("evaluate", weights, mine, *options, "--json")
    assert json.loads(again.out)["accuracy"] == json.loads(right.out)["accuracy"]
    assert "but these have key" in etc("evaluate", weights, theirs, *options).error
    wrong_keys = etc("evaluate", weights, mine, *options, "--wrong-keys", 2)
    assert wrong_keys.code == 2
    assert "--wrong-keys encrypts images itself" in wrong_keys.error


def test_a_model_of_shards_is_tested_on_shards_and_refuses_plain_images(
    etc, config, labeled_photos, key, make_data_set, tmp_path
):
    shards = make_data_set(key, "etc-8")
    trained = etc("train", config, f"out={tmp_path}/run", f"data.source={shards}", "--json")
    assert trained.code == 0, trained.err
    weights = tmp_path / "run" / "last.safetensors"
    result = etc("evaluate", weights, shards, "--workers", 0, "--json")
    assert json.loads(result.out)["accuracy"] == json.loads(trained.out)["accuracy"]
    plain = etc("evaluate", weights, labeled_photos)
    assert plain.error == "the model is for encrypted (etc-8) images, but these are plain"
    assert etc("evaluate", weights, labeled_photos, "--any").code == 0


def test_plain_images_meet_the_file_of_an_encrypted_model_only_with_any(
    etc, weights, labeled_photos, key, tmp_path
):
    encrypted = tmp_path / "encrypted.safetensors"
    options = ["--scheme", "ind-8", "--key", key]
    assert etc("encrypt-model", weights, encrypted, *options).code == 0
    assert (
        "for encrypted (ind-8) images, but these are plain"
        in etc("evaluate", encrypted, labeled_photos).error
    )
    assert etc("evaluate", encrypted, labeled_photos, "--any").code == 0
    right = etc("evaluate", encrypted, labeled_photos, *options, "--json")
    plain = etc("evaluate", weights, labeled_photos, "--json")
    assert json.loads(right.out)["accuracy"] == json.loads(plain.out)["accuracy"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--encrypt-model"], 2, "need --scheme"),
        (["--key-scope", "image"], 2, "need --scheme"),
        (["--wrong-keys", 2, "--scheme", "ind-8"], 2, "add --encrypt-model"),
        (["--split", "test"], 1, "test"),
        (["--scheme", "ind-8", "--key", "KEY"], 1, "the model is for plain images"),
    ],
)
def test_evaluate_refuses(etc, weights, labeled_photos, key, options, code, message):
    options = [key if option == "KEY" else option for option in options]
    result = etc("evaluate", weights, labeled_photos, *options)
    assert result.code == code
    assert message in result.error


def test_evaluate_refuses_files_that_are_no_models(etc, config, labeled_photos):
    assert "is no model of a recipe" in etc("evaluate", config, labeled_photos).error


# -- reproduce --------------------------------------------------------------------------------------


def test_reproduce_names_tables_and_data_sets(etc, tmp_path):
    assert etc("reproduce", "table-9").error.startswith("table 'table-9' is unknown; known are iijima")
    missing = etc("reproduce", "iijima-table1", "--out", tmp_path / "out")
    assert missing.error == "table iijima-table1 needs images; its data sets are cifar10"
    assert missing.hint == "name them: --data cifar10=SOURCE"
    assert etc("reproduce", "iijima-table1", "--data", "cifar10").code == 2
    assert not (tmp_path / "out").exists()


def test_reproduce_help_names_every_table(etc):
    from etc_data.recipes.reproduce.table import table_names

    words = " ".join(etc("reproduce", "--help").out.split())
    assert all(name in words for name in table_names())
