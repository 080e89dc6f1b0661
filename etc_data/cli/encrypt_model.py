"""`etc-data encrypt-model`: a trained plain model into one that takes encrypted images."""

from pathlib import Path
from typing import Any

import click

from etc_data.cipher import Cipher
from etc_data.cli.model_places import check_model_output, place_weights
from etc_data.cli.options import SizeType, human_bytes, key_options, load_key, say


class ThreeNumbers(click.ParamType):  # type: ignore[type-arg]
    """``0.5`` or ``0.485,0.456,0.406``: one number for all color components, or one for each."""

    name = "number[,number,number]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        """Returns three numbers."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = [float(part) for part in str(value).split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            self.fail(f"{value!r} is not one number or three, such as 0.485,0.456,0.406", param, ctx)
        red, green, blue = numbers * (3 // len(numbers))
        return red, green, blue


@click.command("encrypt-model")
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@key_options
@click.option("--scheme", default="etc-16", show_default=True, help="See: etc-data schemes.")
@click.option("--context", default="", help="A public text that sets data sets of one key apart.")
@click.option(
    "--size", type=SizeType(), help="Of the images: pixels, or HEIGHTxWIDTH (default: the model's)."
)
@click.option(
    "--model", "name", metavar="NAME", help="The architecture in timm, where IN does not tell it."
)
@click.option("--mean", type=ThreeNumbers(), help="Of the input normalization (default: the model's).")
@click.option("--std", type=ThreeNumbers(), help="Likewise.")
@click.option(
    "--form",
    type=click.Choice(["compact", "dense"]),
    default="compact",
    show_default=True,
    help="Where patches have their own keys: one matrix and relative keys, or N matrices.",
)
@click.option("--force", is_flag=True, help="Replace the model that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the facts of the model as JSON.")
def encrypt_model(
    source: Path,
    out: Path,
    key_path: Path | None,
    passphrase: bool,
    scheme: str,
    context: str,
    size: tuple[int, int] | None,
    name: str | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    form: Any,
    force: bool,
    as_json: bool,
) -> None:
    """Rewrite the trained plain model IN so that it takes images encrypted with the key.

    IN is what train wrote, a checkpoint of timm (.safetensors, .pth), or a folder with config.json, as
    timm writes it for Hugging Face; OUT becomes a .safetensors file or a folder likewise. The encrypted
    model gives the same answers; its images are encrypted, then normalized as before.

    A vision transformer takes every scheme that moves whole patches; ConvMixer and MLP-Mixer need one
    that leaves them in place, such as ind-16 for patches of 16.

    OUT holds no key, but its patch embedding tells more than encrypted images do: see
    docs/models-encryption.md before you give it away.

    \b
    Examples:
      etc-data encrypt-model runs/one/best.safetensors enc.safetensors --key clinic.key --scheme ind-4
      etc-data encrypt-model vit.safetensors vit-enc.safetensors --key clinic.key \\
          --model vit_tiny_patch16_224
      etc-data encrypt-model mixer/ mixer-enc/ --key clinic.key --scheme ind-16 --size 224
    """
    check_model_output(source, out, force=force)
    cipher = Cipher(scheme, load_key(key_path, passphrase), key_scope="dataset", context=context)
    from etc_data.models import model_encryption
    from etc_data.models.encrypted_files import save_encrypted_model
    from etc_data.models.plain_files import load_plain_model
    from etc_data.models.public_facts import model_info

    plain: Any = load_plain_model(source, name, size)
    encrypted = model_encryption.encrypt_model(
        plain,
        cipher,
        image_size=size or plain.pretrained_cfg["input_size"][1:],
        mean=mean,
        std=std,
        form=form,
    )
    info = model_info(encrypted)
    weights = place_weights(source, out)
    save_encrypted_model(encrypted, weights)
    if as_json:
        click.echo(info.to_json())
    sizes = "any size of whole blocks" if info.any_size else "{}×{} pixels".format(*info.image_size)
    told = ("the model's", "given")
    say(
        f"wrote {out}: {human_bytes(weights.stat().st_size)}, {info.scheme.name}, key {info.key_id}, "
        f"{info.form} form"
    )
    say(f"  images   {sizes}, encrypted and then normalized")
    say(f"  mean     {_listed(info.normalization.mean)} ({told[mean is not None]})")
    say(f"  std      {_listed(info.normalization.std)} ({told[std is not None]})")


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
