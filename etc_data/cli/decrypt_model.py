"""`etc-data decrypt-model`: an encrypted model back to the plain one."""

from pathlib import Path

import click

from etc_data.cipher import Cipher
from etc_data.cli.model_places import check_model_output, place_weights
from etc_data.cli.options import human_bytes, key_options, load_key, say


@click.command("decrypt-model")
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@key_options
@click.option("--model", "name", metavar="NAME", help="The architecture in timm, if IN does not tell.")
@click.option("--force", is_flag=True, help="Replace the model that is there.")
def decrypt_model(
    source: Path, out: Path, key_path: Path | None, passphrase: bool, name: str | None, force: bool
) -> None:
    """Write the plain model of the encrypted model IN, a .safetensors file or a folder, to OUT.

    A wrong key is refused by its id before any work.

    \b
    Examples:
      etc-data decrypt-model vit-enc.safetensors vit.safetensors --key clinic.key
      etc-data decrypt-model mixer-enc/ mixer/ --key clinic.key
    """
    check_model_output(source, out, force=force)
    key = load_key(key_path, passphrase)
    from etc_data.models import model_encryption
    from etc_data.models.encrypted_files import load_encrypted_model, read_model_info
    from etc_data.models.plain_files import save_plain_model

    info = read_model_info(source)
    cipher = Cipher(info.scheme, key, key_scope="dataset", context=info.context)
    info.check_cipher(cipher)
    plain = model_encryption.decrypt_model(load_encrypted_model(source, name), cipher)
    weights = place_weights(source, out)
    save_plain_model(plain, weights)
    say(f"wrote {out}: {human_bytes(weights.stat().st_size)}, plain weights")
