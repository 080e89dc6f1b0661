"""`etc-data evaluate`: tests a trained classifier on plain or encrypted images."""

import json
from pathlib import Path
from typing import Any

import click

from etc_data.cipher import Cipher
from etc_data.cli.options import key_options, load_key, progress_bar, say
from etc_data.errors import EtcError


@click.command()
@click.argument(
    "weights", metavar="WEIGHTS", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.argument("source", metavar="SOURCE")
@click.option("--split", default="val", show_default=True, help="The split to test on.")
@click.option("--limit", type=click.IntRange(1), help="Test on at most so many images.")
@click.option("--scheme", help="Encrypt plain images by this scheme.")
@click.option("--context", default="", help="Of the cipher, as for encrypt.")
@click.option(
    "--key-scope", type=click.Choice(["dataset", "image"]), help="Of the cipher, as for encrypt."
)
@key_options
@click.option(
    "--encrypt-model", "encrypt", is_flag=True, help="Encrypt the model too, with the same key."
)
@click.option("--wrong-keys", type=click.IntRange(1), help="Also test with so many wrong keys.")
@click.option(
    "--quality",
    "qualities",
    multiple=True,
    type=click.IntRange(1, 100),
    help="Code images as JPEG of this quality (may be repeated).",
)
@click.option("--any", "any_images", is_flag=True, help="Test on images of another key or scheme too.")
@click.option(
    "--workers", type=click.IntRange(0), default=2, show_default=True, help="Readers of shards."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write scores, confusion matrix and pictures there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def evaluate(
    weights: Path,
    source: str,
    split: str,
    limit: int | None,
    scheme: str | None,
    context: str,
    key_scope: Any,
    key_path: Path | None,
    passphrase: bool,
    encrypt: bool,
    wrong_keys: int | None,
    qualities: tuple[int, ...],
    any_images: bool,
    workers: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Test the classifier in WEIGHTS on a split of SOURCE: EtC shards, or plain images.

    WEIGHTS come from train or encrypt-model. Images and model must belong together (plain and plain,
    or one key and scheme); --any tests other pairs, such as plain images on a model of encrypted ones.

    \b
    Examples:
      etc-data evaluate runs/one/best.safetensors shards/
      etc-data evaluate runs/plain/best.safetensors photos/ --split test
      etc-data evaluate runs/plain/best.safetensors photos/ --encrypt-model --scheme ind-4 --key K
      etc-data evaluate runs/plain/best.safetensors photos/ --encrypt-model --scheme ind-4 --key K \\
        --wrong-keys 100 -o report/
    """
    if (encrypt or wrong_keys or context or key_scope) and scheme is None:
        raise click.UsageError("--encrypt-model, --wrong-keys, --context and --key-scope need --scheme")
    if wrong_keys and not encrypt:
        raise click.UsageError("--wrong-keys tests an encrypted model: add --encrypt-model")
    try:
        from etc_data.recipes import evaluate as recipe
        from etc_data.recipes.batches import manifest_of
        from etc_data.recipes.pictures import draw_wrong_keys, write_report
        from etc_data.recipes.settings import DataSettings
    except ImportError as error:
        raise EtcError(
            f"evaluation needs more packages: {error}", "pip install 'etc-data[train]'"
        ) from None
    encrypted_source = manifest_of(source) is not None
    if wrong_keys and encrypted_source:
        raise click.UsageError(f"--wrong-keys encrypts images itself, and {source} is encrypted")
    cipher = None
    if scheme is not None:
        cipher = Cipher(scheme, load_key(key_path, passphrase), key_scope=key_scope, context=context)
    trained = recipe.TrainedModel.load(weights)
    model = trained.encrypted(cipher) if encrypt and cipher is not None else trained
    # Shards hold encrypted images; the key is then for the model alone.
    of_images = None if encrypt and encrypted_source else cipher
    records: list[dict[str, Any]] = []
    for quality in qualities or (None,):
        data = DataSettings(source=source, val=split, val_limit=limit, quality=quality, workers=workers)
        scores = recipe.evaluate(model, data, cipher=of_images, any_images=any_images)
        facts = {"weights": str(weights), "source": source, "split": split, "quality": quality}
        facts |= {"scheme": scheme, "key_id": None if cipher is None else cipher.key_id}
        facts |= {"encrypted_model": encrypt}
        coded = "" if quality is None else f" at JPEG quality {quality}"
        tops = ", ".join(f"top-{k} {scores.top(k):.2%}" for k in scores.right if k > 1)
        say(
            f"accuracy {scores.accuracy:.2%} of {scores.samples} images{coded}"
            + (f", {tops}" if tops else "")
        )
        records.append({**facts, "samples": scores.samples, "accuracy": scores.accuracy})
        if output is not None:
            place = output if quality is None else output / f"quality-{quality}"
            write_report(place, scores, recipe.class_names(source), facts)
            say(f"  report   {place}/confusion.png, {place}/classes.png, {place}/scores.json")
    if wrong_keys and cipher is not None:
        tick = progress_bar("wrong keys", "key")(wrong_keys)
        wrong = recipe.wrong_key_accuracies(trained, cipher, data, wrong_keys, tick=tick)
        say(f"accuracy with {wrong_keys} wrong keys: {min(wrong):.2%} to {max(wrong):.2%}")
        records[-1]["wrong_keys"] = wrong
        if output is not None:
            draw_wrong_keys(scores.accuracy, wrong, output / "wrong-keys.png")
            say(f"  picture  {output}/wrong-keys.png")
    if as_json:
        click.echo(json.dumps(records if qualities else records[0]))
