"""Encrypted models as files: safetensors, with the public facts of the model as metadata.

Every tensor's name begins with ``encrypted.``, so that no loader of plain models takes one of them by
accident, and timm's checkpoint filters find neither a kernel nor a position embedding to resample.
"""

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from etc_data.errors import ModelError
from etc_data.models.foreign_errors import reason_of
from etc_data.models.model_encryption import prepare_layers
from etc_data.models.named_networks import make_network
from etc_data.models.patch_embedding import find_patch_embedding
from etc_data.models.public_facts import ModelInfo, is_encrypted, model_info
from etc_data.shards.files import published, writing

PREFIX = "encrypted."
WEIGHTS_NAME = "model.safetensors"

_METADATA_KEY = "etc-data-model"


def save_encrypted_model(model: nn.Module, path: str | Path) -> None:
    """Writes an encrypted model to a safetensors file, whole or not at all.

    The same model gives the same bytes.  A file of that name is replaced.

    Args:
        model: from `encrypt_model` or `load_encrypted_model`.
        path: of the file.

    Raises:
        ModelError: the model is not encrypted.
        EtcError: the file cannot be written.
    """
    info = model_info(model)
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in model.state_dict().items()}
    write_tensors(tensors, path, (_METADATA_KEY, info.to_json()))


def load_encrypted_model(path: str | Path, model: nn.Module | str | None = None) -> nn.Module:
    """Returns the encrypted model of a file.

    Args:
        path: of the file, or of a folder with a model.safetensors.
        model: a plain model of the same architecture, which is copied; or its name in timm.  By
            default the file tells, if the model came from timm.

    Returns:
        a model on the CPU in the file's dtype, or on the device and in the dtype of the model given.

    Raises:
        ModelError: the file is no encrypted model, is damaged or newer, or does not fit the model.
    """
    path = _weights_file(path)
    info = read_model_info(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name.removeprefix(PREFIX): file.get_tensor(name) for name in file.keys()}
    given = isinstance(model, nn.Module)
    plain = copy.deepcopy(model) if isinstance(model, nn.Module) else _create(path, info, model)
    if is_encrypted(plain):
        raise ModelError("the model given is encrypted itself; give a plain one, or its name")
    embedding = find_patch_embedding(plain, info.image_size, info.patch_embedding)
    if embedding.patch_size != info.patch_size:
        raise ModelError(
            "{}: the file is for patches of {}×{} pixels, ".format(path, *info.patch_size)
            + "but the model has patches of {}×{}".format(*embedding.patch_size),
            "an encrypted kernel cannot be resampled; give a model of the same patch size",
        )
    prepare_layers(plain, embedding, info)
    try:
        plain.load_state_dict(tensors, assign=not given)
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not fit a {type(plain).__name__}: {reason_of(error)}",
            "give load_encrypted_model a plain model that was made with the same arguments",
        ) from None
    return plain


def read_model_info(path: str | Path) -> ModelInfo:
    """Returns the public facts of an encrypted model's file, without its weights.

    Raises:
        ModelError: the file is no encrypted model, is damaged or newer.
    """
    path = _weights_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, file.keys()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is no safetensors file, or damaged: {reason_of(error)}") from None
    if _METADATA_KEY not in metadata or not all(name.startswith(PREFIX) for name in names):
        raise ModelError(
            f"{path} is no encrypted model", "save_encrypted_model and etc-data encrypt-model write one"
        )
    try:
        return ModelInfo.from_json(metadata[_METADATA_KEY])
    except ModelError as error:
        raise ModelError(f"{path}: {error}", error.hint) from None


def write_tensors(
    tensors: dict[str, torch.Tensor], path: str | Path, metadata: tuple[str, str]
) -> None:
    """Writes a safetensors file with one entry of metadata, under its final name once it is whole.

    One entry, because safetensors writes several in an order that changes from run to run.

    Raises:
        EtcError: it cannot be written.
    """
    # Tensors may be views of one memory, which safetensors refuses.
    own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with writing(Path(path)), published(Path(path)) as file:
        file.write(save(own, dict([metadata])))


def _weights_file(path: str | Path) -> Path:
    return Path(path) / WEIGHTS_NAME if Path(path).is_dir() else Path(path)


def _create(path: Path, info: ModelInfo, name: str | None) -> nn.Module:
    """Returns a plain model with random weights, of the architecture that the file tells."""
    name = name or info.architecture
    if name is None:
        raise ModelError(
            f"{path} does not tell its architecture: timm did not make the model, or by arguments that "
            "no file can hold",
            "give a plain model: load_encrypted_model(path, model)",
        )
    return make_network(path, name, info.model_args)
