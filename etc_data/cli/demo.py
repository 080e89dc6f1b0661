"""`etc-data demo`: the whole way on a few real photos and digits, with pictures to look at."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table

from etc_data.cipher import Cipher
from etc_data.cli.contact_sheet import Cell, describe_psnr, draw_sheet, psnr
from etc_data.cli.demo_learning import learn_digits
from etc_data.cli.options import human_bytes, say
from etc_data.codecs import JpegCodec, PngCodec, decode
from etc_data.errors import CodecError, OutputExistsError, WrongKeyError
from etc_data.keys import SecretKey
from etc_data.schemes import KeyScope
from etc_data.shards.decrypt import decrypt_shards
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.shards.samples import Sample
from etc_data.shards.verify import verify_shards
from etc_data.shards.writer import write_shards
from etc_data.sources.folder import ImageFolder
from etc_data.sources.images import load_rgb, resize_to

_SIZE = 224
_QUALITY = 95
_PHOTOS = {
    "medical": ("retina", "immunohistochemistry", "cell"),
    "nature": ("cat", "flower.jpg", "hubble_deep_field"),
    "people": ("astronaut", "camera"),
    "things": ("coffee", "rocket", "china.jpg"),
}
_SCHEMES: tuple[tuple[str, KeyScope], ...] = (
    ("etc-16", "dataset"),
    ("etc-16", "image"),
    ("ind-16/8", "dataset"),
    ("com-16", "dataset"),
    ("vit-16/8", "dataset"),
    ("pe", "image"),
)
_SHEET_PHOTOS = 5


@dataclass(frozen=True)
class _Result:
    """One scheme's data set, and what came back from it: item id → pixels."""

    name: str
    manifest: Manifest
    encrypted: dict[str, npt.NDArray[np.uint8]]
    decrypted: dict[str, npt.NDArray[np.uint8]]
    image_bytes: int
    streamed: int


@click.command()
@click.argument(
    "folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("etc-data-demo")
)
def demo(folder: Path) -> None:
    """Encrypt a few photos under several schemes, stream the shards, decrypt, draw a sheet, and learn.

    The photos are scikit-image's and scikit-learn's own; a tiny network learns scikit-learn's digits,
    plain and encrypted. DIR must not exist or be empty.

    \b
    Example:
      etc-data demo /tmp/demo
    """
    start = time.monotonic()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExistsError(f"{folder} is not an empty folder", "choose another one, or remove it")
    photos = folder / "photos"
    count = _save_photos(photos)
    say(f"photos    {count} real photos in {photos}")
    key = SecretKey.generate()
    key_path = folder / "demo.key"
    key.save(key_path)
    say(f"key       {key_path}, id {key.id}")

    plain = _prepare(photos)
    results = []
    for name, scope in _SCHEMES:
        results.append(_run(folder, photos, Cipher(name, key, key_scope=scope)))
        say(f"encrypted {results[-1].name}: {results[-1].streamed} samples streamed back")
    _print_table(plain, results)
    sheet = folder / "contact-sheet.png"
    _draw(plain, results).save(sheet)

    first = folder / _folder_name("etc-16", "dataset")
    decrypt_shards(first, folder / "decrypted", key)
    try:
        decrypt_shards(first, folder / "never", SecretKey.generate())
    except WrongKeyError as error:
        say(f"wrong key refused: {error}")
    learn_digits(folder, key_path)
    say()
    say(f"look at   {sheet}")
    say(f"shards    {first}  (what you would upload)")
    say(f"ledger    {Ledger.of(first).folder}  (what you would not)")
    say(f"decrypted {folder / 'decrypted'}")
    say(f"next      etc-data inspect {first}")
    say(f"          etc-data encrypt YOUR_PHOTOS shards --key {key_path} --size {_SIZE}")
    say(f"done in {time.monotonic() - start:.0f} s")


def _save_photos(folder: Path) -> int:
    try:
        import skimage.data
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise CodecError(
            f"the demo's photos come with scikit-image and scikit-learn ({error})",
            "pip install 'etc-data[demo]'",
        ) from None
    count = 0
    for label, names in _PHOTOS.items():
        (folder / label).mkdir(parents=True)
        for name in names:
            photo: Any = getattr(skimage.data, name, None)
            pixels = photo() if photo else load_sample_image(name)
            Image.fromarray(pixels).save(folder / label / f"{name.split('.')[0]}.png")
            count += 1
    return count


def _prepare(photos: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Returns item id → the pixels that are encrypted, made apart from the shard writer."""
    items = ImageFolder(photos).items("train")
    return {item.id: np.asarray(resize_to(load_rgb(item.read()), _SIZE, _SIZE)) for item in items}


def _folder_name(name: str, scope: str) -> str:
    return f"shards-{name.replace('/', '_')}-{scope}"


def _run(folder: Path, photos: Path, cipher: Cipher) -> _Result:
    from torch.utils.data import DataLoader

    from etc_data.shards.reader import open_shards

    scheme = cipher.scheme
    out = folder / _folder_name(scheme.name, cipher.key_scope)
    codec = JpegCodec(quality=_QUALITY) if scheme.jpeg_friendly else PngCodec()
    write_shards(photos, out, cipher, size=_SIZE, codec=codec, workers=1)
    manifest = verify_shards(out)
    # What a training machine does: no key, only the folder.
    batches = DataLoader(open_shards(out, shuffle=True, batch_size=4), batch_size=4, num_workers=2)
    streamed = sum(len(labels) for _, labels in batches)
    encrypted, decrypted, image_bytes = {}, {}, 0
    names = {
        key: item
        for shard in manifest.shards
        for key, item in Ledger.of(out).read_items(shard.name).items()
    }
    sample: Sample
    for sample in open_shards(out, form="sample"):
        image_bytes += len(sample.image)
        pixels = decode(sample.image)
        encrypted[names[sample.key]] = pixels
        decrypted[names[sample.key]] = cipher.decrypt(pixels, nonce=sample.nonce())
    label = f"{scheme.name}, key per {'image' if cipher.key_scope == 'image' else 'data set'}"
    return _Result(label, manifest, encrypted, decrypted, image_bytes, streamed)


def _print_table(plain: dict[str, npt.NDArray[np.uint8]], results: list[_Result]) -> None:
    codec = JpegCodec(quality=_QUALITY)
    files = {item: codec.encode(pixels) for item, pixels in plain.items()}
    plain_bytes = sum(map(len, files.values()))
    plain_psnr = np.mean([psnr(plain[item], decode(file)) for item, file in files.items()])
    table = Table(title=f"{len(plain)} photos at {_SIZE} px, JPEG quality {_QUALITY}, 4:4:4")
    for column in ("scheme", "coding", "bytes of images", "decrypted PSNR"):
        table.add_column(column, justify="left" if column in ("scheme", "coding") else "right")
    table.add_row("plain", "jpeg", human_bytes(plain_bytes), f"{plain_psnr:.1f} dB")
    for result in results:
        values = [psnr(plain[item], result.decrypted[item]) for item in plain]
        mean = float("inf") if np.isinf(values).all() else float(np.mean(values))
        coding = str(result.manifest.codec["name"])
        table.add_row(result.name, coding, human_bytes(result.image_bytes), describe_psnr(mean))
    Console().print(table)


def _draw(plain: dict[str, npt.NDArray[np.uint8]], results: list[_Result]) -> Image.Image:
    rows = []
    for item in list(plain)[:: max(1, len(plain) // _SHEET_PHOTOS)][:_SHEET_PHOTOS]:
        row = [Cell(plain[item], ("plain", item))]
        row += [Cell(result.encrypted[item], (result.name,)) for result in results]
        last = results[0].decrypted[item]
        caption = ("decrypted from " + results[0].name, describe_psnr(psnr(plain[item], last)))
        rows.append([*row, Cell(last, caption)])
    return draw_sheet(rows)
