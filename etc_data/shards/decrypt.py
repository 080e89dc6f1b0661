"""`decrypt_shards`: back from shards to a folder of plain images, for the owner."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from etc_data.codecs import Codec, PngCodec, decode
from etc_data.errors import CodecError, DamagedShardError, OutputExistsError
from etc_data.keys import SecretKey
from etc_data.shards.data_set import DataSet
from etc_data.shards.files import published, writing
from etc_data.shards.ledger import Ledger
from etc_data.shards.output import check_apart
from etc_data.shards.storage import LocalStorage, check_local

_LONGEST_NAME = 200  # bytes; file systems take 255, and a sample's key and an ending may follow


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
    place: str | os.PathLike[str],
    out: str | os.PathLike[str],
    key: SecretKey,
    *,
    codec: Codec | None = None,
    ledger: str | os.PathLike[str] | None = None,
    tick: Callable[[int], None] = lambda _: None,
) -> DecryptSummary:
    """Decrypts all images of a data set into a folder.

    If the owner's ledger lies beside `place`, or for a URL in the current folder, images are called
    like their sources, such as ``train/cat/7.jpg.png``; else ``{split}/{label}/{sample key}.png``.
    Several samples of one source get their keys behind its name.

    Args:
        place: the data set: a folder or a URL.
        out: a folder that does not exist or is empty, outside of `place`.
        key: the key it was encrypted with.
        codec: of the decrypted files; lossless PNG by default.
        ledger: the ledger's folder, if not the usual one.  It names the samples of those shards alone
            that were written with it.
        tick: called with the number of images done, for a progress bar.

    Raises:
        WrongKeyError: the key is another; nothing was written.
        ManifestError: the manifest is missing, malformed, newer or altered.
        DamagedShardError: a shard is missing, cut short or altered.
        OutputExistsError: `out` holds something.
        SourceError: `out` lies in `place` or around it.
        StorageError: the URL cannot be reached.
        EtcError: `out` cannot be written.
    """
    check_local(out, "the folder of decrypted images")
    if ledger is not None:
        check_local(ledger, "a ledger")
    out = Path(out)
    data_set = DataSet.find(place, None, key, None)
    manifest = data_set.manifest
    cipher = manifest.cipher(key)
    codec = codec or PngCodec(compress_level=1)
    notes = Ledger.of(place) if ledger is None else Ledger(Path(ledger))
    images, all_named = 0, True
    with writing(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputExistsError(f"{out} is not an empty folder", "choose another one")
        if isinstance(data_set.storage, LocalStorage):
            check_apart(data_set.storage.folder, out)
        for entry in manifest.shards:
            # Samples of every data set of one key have the same keys: only the ledger that was
            # written with this very shard tells their names.
            names = notes.read_items(entry.name)
            noted = notes.read_result(entry.name)
            if noted is None or noted.entry != entry:
                names = {}
            for sample in data_set.samples(entry):
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
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        return None
    return str(path)
