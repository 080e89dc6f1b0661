import pytest

from etc_data import Cipher, Scheme, SecretKey
from etc_data.errors import ManifestError, SettingsError
from etc_data.recipes.encryption import check_images, encryption_of_cipher

KEY = SecretKey(bytes(range(32)))


def facts(preset, name="mine"):
    return encryption_of_cipher(Cipher(Scheme(Scheme.preset(preset).steps, name=name), KEY))


def test_schemes_are_told_apart_by_their_steps_and_not_by_names():
    check_images(facts("ind-8", "mine"), facts("ind-8", "yours"))
    with pytest.raises(
        SettingsError, match=r"scheme mine \(.*independent.*\), but .* mine \(.*common.*\)$"
    ):
        check_images(facts("ind-8"), facts("com-8"))


@pytest.mark.parametrize("steps", [[], [{"step": "none"}], "all", None])
def test_a_file_that_names_no_scheme_is_no_model(steps):
    with pytest.raises(ManifestError, match="tells of no encryption that there is"):
        check_images(facts("ind-8") | {"steps": steps}, facts("ind-8"))
    missing = facts("ind-8")
    del missing["steps"]
    with pytest.raises(ManifestError, match="steps"):
        check_images(missing, facts("ind-8"))
