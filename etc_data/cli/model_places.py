"""Where the commands for models write: a safetensors file, or a folder like the one that was read."""

import shutil
from pathlib import Path

from etc_data.cli.options import check_output
from etc_data.errors import EtcError, OutputExistsError
from etc_data.shards.files import published, writing

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def check_model_output(source: Path, out: Path, *, force: bool) -> None:
    """Checks, before work starts, that OUT is of the kind of IN and would overwrite nothing.

    Raises:
        OutputExistsError: there is something that `force` does not allow to replace.
        EtcError: a file's name does not end with .safetensors, or it has no folder to lie in.
    """
    if not source.is_dir():
        if out.suffix != ".safetensors":
            raise EtcError(f"{out} must end with .safetensors, the form that models are written in")
        check_output(str(out), force=force)
        return
    if not (source / _CONFIG).is_file():
        raise EtcError(f"{source} has no {_CONFIG}", "timm.models.save_for_hf writes such a folder")
    if out.exists() and (not out.is_dir() or out.resolve() == source.resolve()):
        raise OutputExistsError(f"{out} exists and is no other folder", "choose another name")
    present = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if present and not force:
        raise OutputExistsError(f"folder {out} is not empty", "choose another name, or use --force")
    if not set(present) <= {_CONFIG, _WEIGHTS}:
        raise OutputExistsError(
            f"folder {out} holds more than a model's {_CONFIG} and {_WEIGHTS}", "choose another folder"
        )


def place_weights(source: Path, out: Path) -> Path:
    """Returns the file to write the weights to; a folder is made and gets the config.json of IN.

    Raises:
        EtcError: it cannot be written.
    """
    if not source.is_dir():
        return out
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        with (source / _CONFIG).open("rb") as config, published(out / _CONFIG) as file:
            shutil.copyfileobj(config, file)
    return out / _WEIGHTS
