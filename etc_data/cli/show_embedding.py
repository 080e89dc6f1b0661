"""`etc-data show-embedding`: the patch embeddings of models as pictures, side by side."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from etc_data.cli.contact_sheet import Cell, draw_sheet
from etc_data.cli.options import about, check_output, say, write_output
from etc_data.errors import EtcError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@click.command("show-embedding")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="FILE", help="The PNG to write, - for stdout.")
@click.option(
    "--filters",
    "count",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="How many filters of each model to draw, from the first.",
)
@click.option("--force", is_flag=True, help="Replace the file that is there.")
def show_embedding(models: tuple[str, ...], output: str, count: int, force: bool) -> None:
    """Draw the filters of each MODEL's patch embedding, and their principal components.

    MODEL is a checkpoint (.safetensors, or .pth with weights alone), a folder as Hugging Face writes
    it, or the name of a model that timm has weights for. The first row holds the filters, the second
    the components, a column for each model.

    What a plain model looks for shows; an encrypted model shows it under the key.

    \b
    Examples:
      etc-data show-embedding plain.safetensors encrypted.safetensors -o embeddings.png
      etc-data show-embedding vit_base_patch16_224.augreg_in21k -o vit.png
    """
    if output != "-" and Path(output).suffix.lower() != ".png":
        raise EtcError(f"{output} must end with .png")
    check_output(output, force=force)
    from etc_data.models.embedding_picture import draw_filters, embedding_filters, principal_components

    filter_cells, component_cells = [], []
    for model in models:
        state = _load(model)
        with about(model):
            filters = embedding_filters(state)
        drawn = filters[:count]
        components = principal_components(filters)
        name = Path(model).name
        size = f"{len(drawn)} of {len(filters)} filters, {filters.shape[1]}x{filters.shape[2]} pixels"
        filter_cells.append(Cell(np.asarray(draw_filters(drawn)), (name, size)))
        caption = (f"{len(components)} principal components",)
        drawn_components = draw_filters(components, columns=8, tile_size=32)
        component_cells.append(Cell(np.asarray(drawn_components), caption))
    file = io.BytesIO()
    draw_sheet([filter_cells, component_cells]).save(file, "PNG")
    write_output(output, file.getvalue(), force=force)
    if output != "-":
        say(f"wrote {output}: {len(models)} patch {'embedding' if len(models) == 1 else 'embeddings'}")


def _load(model: str) -> "Mapping[str, Tensor]":
    """Returns the state dict of a file, a folder or a name that timm knows."""
    path = Path(model)
    if path.is_dir():
        found = [path / name for name in _WEIGHTS if (path / name).is_file()]
        if not found:
            raise ModelError(
                f"{model} is a folder without weights", f"it needs {' or '.join(_WEIGHTS)}"
            )
        path = found[0]
    import etc_data.torchvision_cpu

    # isort: split
    import timm

    import etc_data.models  # noqa: F401

    if path.is_file():
        try:
            state: Mapping[str, Tensor] = timm.models.load_state_dict(str(path))
        except Exception:  # torch, pickle and safetensors have no common error
            raise ModelError(
                f"{model} cannot be read as a checkpoint",
                "it must be .safetensors, or .pth that holds weights alone",
            ) from None
        return state
    if not timm.models.is_model_pretrained(model):
        raise ModelError(
            f"{model} is neither a file nor a model that timm has weights for",
            "give the checkpoint, or a name of timm.list_pretrained()",
        )
    weights: Mapping[str, Tensor] = timm.create_model(model, pretrained=True).state_dict()
    return weights
