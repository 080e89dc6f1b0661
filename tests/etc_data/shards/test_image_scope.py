"""Key scope "image": a nonce for every sample, derived, distinct, public, and needed."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from etc_data.cipher import Cipher
from etc_data.codecs import PngCodec, decode
from etc_data.errors import DamagedShardError, NonceError
from etc_data.shards import ShardWriter, decrypt_shards, open_shards, write_shards
from etc_data.shards.ledger import Ledger
from etc_data.shards.manifest import Manifest
from etc_data.sources import load_rgb

SECRET = bytes(range(32))
TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["etc-16", "pe"])
def scheme(request):
    return request.param


@pytest.fixture(scope="module")
def out(tmp_path_factory, source, key, scheme):
    """`source`, one photo doubled, in key scope "image", without loss."""
    folder = tmp_path_factory.mktemp("image")
    for path in source.rglob("*.jpg"):
        target = folder / "in" / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (folder / "in/train/cat/same.jpg").write_bytes((source / "train/cat/0.jpg").read_bytes())
    cipher = Cipher(scheme, key, key_scope="image", context="ward ☀")
    write_shards(folder / "in", folder / "out", cipher, size=48, codec=PngCodec(), samples_per_shard=10)
    return folder / "out"


def samples(out):
    return list(open_shards(out, form="sample"))


def items(out):
    """Sample key → path of the plain file."""
    found = {}
    for shard in Manifest.read(out).shards:
        found |= Ledger.of(out).read_items(shard.name)
    return {key: out.with_name("in") / item for key, item in found.items()}


def prepared(path):
    image = load_rgb(path).resize((61, 48), 3)
    return np.asarray(image)[:, 6:54]


def test_pe_has_image_scope_by_default(tmp_path, source, key):
    write_shards(source, tmp_path / "out", Cipher("pe", key), size=48, codec=PngCodec())
    assert Manifest.read(tmp_path / "out").key_scope == "image"
    assert all(sample.nonce() for sample in samples(tmp_path / "out"))


def test_every_sample_has_its_own_nonce(out):
    nonces = [sample.nonce() for sample in samples(out)]
    assert len(set(nonces)) == len(nonces) == 34
    assert {len(nonce) for nonce in nonces} == {16}


def test_nonces_are_those_of_the_format_page(out, scheme, reference):
    options = {
        "codec": {"name": "png", "compress_level": 6},
        "context": "ward ☀",
        "fit": None,
        "key_scope": "image",
        "resize": "crop",
        "scheme": reference.describe(scheme, scheme),
        "size": [48, 48],
    }
    paths = items(out)
    for sample in samples(out):
        split, position = sample.key.split("-")
        source_hash = hashlib.sha256(paths[sample.key].read_bytes()).digest()
        expected = reference.sample_nonce(SECRET, options, split, int(position), source_hash, 0)
        assert sample.nonce() == expected
        info = json.loads(sample.info)
        assert re.fullmatch("[0-9a-f]{32}", info["nonce"])
        assert (info["key_scope"], info["copy"]) == ("image", 0)


def test_pixels_are_those_of_the_reference(out, scheme, reference):
    paths = items(out)
    for sample in samples(out)[::16]:
        plain = prepared(paths[sample.key]).tolist()
        expected = reference.encrypt(plain, scheme, SECRET, "ward ☀", sample.nonce())
        assert decode(sample.image).tolist() == expected


def test_samples_decrypt_with_their_nonce_and_no_other(out, key):
    cipher = Manifest.read(out).cipher(key)
    paths = items(out)
    found = samples(out)
    for sample, other in zip(found, found[1:] + found[:1], strict=True):
        plain = prepared(paths[sample.key])
        encrypted = decode(sample.image)
        assert np.array_equal(cipher.decrypt(encrypted, nonce=sample.nonce()), plain)
        wrong = cipher.decrypt(encrypted, nonce=other.nonce())
        assert np.mean(wrong != plain) > 0.8
        with pytest.raises(NonceError):
            cipher.decrypt(encrypted)


def test_same_photo_twice_gives_different_ciphertexts(out):
    paths = items(out)
    twins = [s for s in samples(out) if paths[s.key].name in ("same.jpg", "0.jpg")]
    twins = [s for s in twins if paths[s.key].parent.match("train/cat")]
    assert len(twins) == 2
    one, other = (decode(sample.image) for sample in twins)
    assert np.mean(one != other) > 0.8


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_repeat(tmp_path, out, key, scheme, contents, workers):
    cipher = Cipher(scheme, key, key_scope="image", context="ward ☀")
    options = {"size": 48, "codec": PngCodec(), "samples_per_shard": 10, "workers": workers}
    write_shards(out.with_name("in"), tmp_path / "out", cipher, **options)
    assert contents(tmp_path / "out") == contents(out)


def test_whole_data_set_decrypts(tmp_path, out, key):
    summary = decrypt_shards(out, tmp_path / "plain", key)
    assert (summary.images, summary.named_by_ledger) == (34, True)
    for path in out.with_name("in").rglob("*.jpg"):
        name = path.relative_to(out.with_name("in")).as_posix()
        found = decode((tmp_path / "plain" / f"{name}.png").read_bytes())
        assert np.array_equal(found, prepared(path))


def test_swapped_nonces_are_told_by_the_hash(tmp_path, out):
    harmed = Path(shutil.copytree(out, tmp_path / "harmed"))
    one, other, *_ = (sample.nonce().hex().encode() for sample in samples(out))
    shard = harmed / "train-000000.tar"
    data, mark = shard.read_bytes(), b"?" * 32
    shard.write_bytes(data.replace(one, mark).replace(other, one).replace(mark, other))
    with pytest.raises(DamagedShardError, match=r"train-000000\.tar was altered"):
        list(open_shards(harmed))


def test_hand_written_samples_have_their_own_nonces(tmp_path, photo, key):
    cipher = Cipher("etc-16", key, key_scope="image")
    image = load_rgb(photo(0))
    with ShardWriter(tmp_path / "out", cipher, size=48, codec=PngCodec()) as writer:
        for given in (image, image, np.asarray(image), photo(0), photo(0)):
            writer.write(given)
        writer.write(image, split="val")
    found = samples(tmp_path / "out")
    assert len({sample.nonce() for sample in found}) == 6
    plain = {cipher.decrypt(decode(s.image), nonce=s.nonce()).tobytes() for s in found}
    assert len(plain) == 1
