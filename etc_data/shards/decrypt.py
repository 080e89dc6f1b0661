"""`decrypt_shards`: back from shards to a folder of plain images, for the owner."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from etc_data.codecs import Codec, PngCodec, decode
from etc_data.errors import CodecError, DamagedShardError, OutputExistsError
from etc_data.keys import SecretKey
from etc_data.shards.files import published, writing
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.shards.output import check_apart
from etc_data.shards.verify import iterate_samples


@dataclass(frozen=True)
class DecryptSummary:
    """What `decrypt_shards` did.

    Attributes:
        images: how many were written.
        named_by_ledger: whether they carry the names of their sources.
    """

    images: int
    named_by_ledger: bool


def decrypt_shards(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    key: SecretKey,
    *,
    codec: Codec | None = None,
    tick: Callable[[int], None] = lambda _: None,
) -> DecryptSummary:
    """Decrypts all images of a data set into a folder.

    If the owner's ledger lies beside `folder`, images are called like their sources, such as
    ``train/cat/7.jpg.png``; else ``{split}/{label}/{sample key}.png``.  Several samples of one source
    get their keys behind its name.

    Args:
        folder: the data set.
        out: a folder that does not exist or is empty, outside of `folder`.
        key: the key it was encrypted with.
        codec: of the decrypted files; lossless PNG by default.
        tick: called with the number of images done, for a progress bar.

    Raises:
        WrongKeyError: the key is another; nothing was written.
        ManifestError: the manifest is missing, malformed, newer or altered.
        DamagedShardError: a shard is missing, cut short or altered.
        OutputExistsError: `out` holds something.
        SourceError: `out` lies in `folder` or around it.
        EtcError: `out` cannot be written.
    """
    folder, out = Path(folder), Path(out)
    manifest = Manifest.read(folder)
    manifest.check_seal(key)
    cipher = manifest.cipher(key)
    codec = codec or PngCodec(compress_level=1)
    ledger = Ledger.of(folder)
    images, all_named = 0, True
    with writing(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputExistsError(f"{out} is not an empty folder", "choose another one")
        check_apart(folder, out)
        for entry in manifest.shards:
            names = ledger.read_items(entry.name)
            for sample in iterate_samples(folder, entry):
                try:
                    pixels = cipher.decrypt(decode(sample.image), nonce=sample.nonce())
                except (CodecError, ValueError) as error:
                    raise DamagedShardError(
                        f"shard {entry.name}: sample {sample.key} cannot be read: {error}"
                    ) from None
                name = _source_name(names.get(sample.key, ""))
                all_named = all_named and name is not None
                label = "unlabeled" if sample.label < 0 else f"{sample.label:04d}"
                stem = name or f"{entry.split}/{label}/{sample.key}"
                target = out / f"{stem}.{codec.extension}"
                if target.exists():
                    target = out / f"{stem}.{sample.key}.{codec.extension}"
                target.parent.mkdir(parents=True, exist_ok=True)
                with published(target, durable=False) as file:
                    file.write(codec.encode(pixels))
                images += 1
                tick(1)
    return DecryptSummary(images, all_named)


def _source_name(item: str) -> str | None:
    path = PurePosixPath(item)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in item:
        return None
    return str(path)
