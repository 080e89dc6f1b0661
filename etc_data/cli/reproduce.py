"""`etc-data reproduce`: a paper's accuracy table, its numbers beside ours."""

from pathlib import Path
from typing import Any

import click

from etc_data.cli.options import say
from etc_data.errors import EtcError


@click.command()
@click.argument("table", metavar="TABLE")
@click.option(
    "--data", "sources", multiple=True, metavar="NAME=SOURCE", help="Where a data set lies (repeat)."
)
@click.option(
    "--budget",
    type=click.Choice(["cpu", "gpu-10min", "full"]),
    default="cpu",
    show_default=True,
    help="cpu and gpu-10min are scaled down, and say so.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/reproduce"),
    show_default=True,
    help="The folder of all runs.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Make each run so often; the table shows mean ± standard deviation.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Pretrained networks start from this file, in place of timm's hub.",
)
def reproduce(
    table: str, sources: tuple[str, ...], budget: Any, out: Path, seeds: int, weights: Path | None
) -> None:
    """Run what a paper's TABLE needs and is not there yet, and show it beside the paper's numbers.

    TABLE is one of iijima-table1, lin2024-table2, maungmaung2022-table2, maungmaung2022-table3,
    qi2022-convmixer-table1, qi2022-vit-table1.  Data sets are folders of images, hf:, torchvision:
    or tars; rows of data sets that are not named are left out; runs that were stopped go on.

    \b
    Examples:
      etc-data reproduce iijima-table1 --data cifar10=cifar10/
      etc-data reproduce lin2024-table2 --data 'cifar10=torchvision:CIFAR10?root=data' --budget full
      etc-data reproduce maungmaung2022-table2 --data cifar10=cifar10/ --data imagenette=imagenette/ \
        --weights vit_b16_in21k.safetensors --budget full --seeds 3
    """
    try:
        from etc_data.recipes.reproduce.run import reproduce as run
        from etc_data.recipes.reproduce.table import load_table
    except ImportError as error:
        raise EtcError(
            f"training needs more packages: {error}", "pip install 'etc-data[train]'"
        ) from None
    named = dict(entry.partition("=")[::2] for entry in sources)
    if not all(named.values()):
        raise click.UsageError("--data names a data set and where it lies: --data cifar10=FOLDER")
    loaded = load_table(table)
    run(loaded, named, out, budget=budget, seeds=seeds, weights=weights, say=say)
    place = out / table / budget
    click.echo((place / "table.md").read_text("utf-8"), nl=False)
    say(f"  table    {place}/table.md, {place}/table.json")
    say(f"  runs     {place}/*/ (curves.png, history.csv, last.safetensors)")
