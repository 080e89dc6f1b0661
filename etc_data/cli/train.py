"""`etc-data train`: trains a classifier by a recipe."""

import json

import click

from etc_data.cli.options import say
from etc_data.errors import EtcError


@click.command()
@click.argument("config", metavar="CONFIG")
@click.argument("changes", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--resume", is_flag=True, help="Go on with a run of the same settings.")
@click.option("--force", is_flag=True, help="Replace the run that stands in its folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def train(config: str, changes: tuple[str, ...], resume: bool, force: bool, as_json: bool) -> None:
    """Train a classifier by the settings of CONFIG, changed by NAME=VALUE.

    CONFIG is a YAML file, or one that comes with the library: cifar10-etc, cifar10-plain, digits,
    orderfree-cifar10, orderfree-imagenette, vit-finetune.

    Images are EtC shards (a folder or a URL), or plain ones that are encrypted on the fly by
    data.scheme. Learning curves, weights and a summary go to the folder that the setting out names.
    On several GPUs: torchrun --nproc-per-node N -m etc_data.recipes.train CONFIG NAME=VALUE…

    \b
    Examples:
      etc-data train cifar10-etc data.source=shards/ out=runs/one
      etc-data train cifar10-etc data.source=s3://bucket/set epochs=5 model.options.depth=4
      etc-data train mine.yaml data.scheme=etc-8 data.key=owner.key
      etc-data train runs/one/settings.yaml --resume
    """
    try:
        from etc_data.recipes.settings import load_settings
        from etc_data.recipes.train import train as run
    except ImportError as error:
        raise EtcError(
            f"training needs more packages: {error}", "pip install 'etc-data[train]'"
        ) from None
    summary = run(load_settings(config, changes), resume=resume, force=force)
    if as_json:
        record = {
            "out": str(summary.out),
            "accuracy": summary.accuracy,
            "best_accuracy": summary.best_accuracy,
            "seconds": round(summary.seconds, 1),
            "parameters": summary.parameters,
        }
        click.echo(json.dumps(record))
    say(
        f"test accuracy {summary.accuracy:.2%}, best {summary.best_accuracy:.2%}, "
        f"in {summary.seconds:.0f} s, {summary.parameters:,} parameters"
    )
    say(f"  weights  {summary.out}/best.safetensors, {summary.out}/last.safetensors")
    say(f"  curves   {summary.out}/curves.png, {summary.out}/history.csv, {summary.out}/tensorboard")
    say(f"  next     etc-data evaluate {summary.out}/best.safetensors SOURCE")
