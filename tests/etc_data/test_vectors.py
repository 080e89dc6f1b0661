"""The library, the fixed vectors and the reference implementation of docs/format.md agree."""

import hashlib
import importlib.util
import itertools
import json
import math
import random
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from etc_data.cipher import Cipher
from etc_data.codecs import codec_from_dict
from etc_data.errors import KeyFileError, ManifestError, SchemeError
from etc_data.keyfile import seal_secret
from etc_data.keys import SecretKey, format_key_line
from etc_data.keystream import KeyStream, derived_permutation, label
from etc_data.presets import PRESET_NAMES
from etc_data.schemes import Scheme
from etc_data.shards.manifest import Manifest
from etc_data.shards.samples import SampleEncoder

TESTS = Path(__file__).resolve().parent.parent
VECTORS = TESTS / "vectors"

# A fixed seed makes every run the same.
repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=300)


def load_file(path):
    """Loads a Python file that belongs to no package, without touching the import path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_file(TESTS / "reference" / "etc_reference.py")
make_vectors = load_file(VECTORS / "make_vectors.py")


def vectors(name, part):
    return json.loads((VECTORS / name).read_text("ascii"))[part]


def names(entries):
    return [entry["name"].replace(" ", "-") for entry in entries]


def content_of(entry):
    """Gives the bytes of a key file that an entry of the vectors tells."""
    if "hex" in entry:
        return bytes.fromhex(entry["hex"])
    return (entry["text"] * entry.get("times", 1) + entry.get("then", "")).encode()


def array_of(pixels):
    return np.array(pixels, np.uint8)


def cipher_of(scheme, secret, context, nonce):
    """Gives a cipher, and the argument that hands it the nonce if there is one."""
    key_scope = "image" if nonce else "dataset"
    cipher = Cipher(scheme, SecretKey(secret), key_scope=key_scope, context=context)
    return cipher, {"nonce": nonce} if nonce else {}


# -- the vectors and the reference ----------------------------------------------------------------


@pytest.mark.parametrize("name", make_vectors.MAKERS)
def test_committed_vectors_are_what_the_reference_makes(name):
    made = make_vectors.format_vectors(make_vectors.MAKERS[name]())
    assert (VECTORS / name).read_bytes() == made.encode("ascii")


def test_vectors_hold_every_preset_of_the_library():
    told = {entry["scheme"]["name"] for entry in vectors("presets.json", "images")}
    assert told >= set(PRESET_NAMES)


# -- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", vectors("keys.json", "keys"), ids=lambda e: e["key_id"])
def test_key_id_sub_keys_and_key_line_match(entry):
    secret = bytes.fromhex(entry["secret"])
    key = SecretKey(secret)
    assert key.id == entry["key_id"]
    assert {purpose: key.subkey(purpose).hex() for purpose in entry["subkeys"]} == entry["subkeys"]
    assert format_key_line(secret) == entry["key_line"]
    assert SecretKey.from_text(entry["key_line"].encode()) == key
    assert reference.parse_key_line(entry["key_line"]) == secret


@pytest.mark.parametrize("entry", vectors("keys.json", "files"), ids=lambda e: e["name"])
def test_key_file_is_read(entry):
    secret = bytes.fromhex(entry["secret"])
    assert SecretKey.from_text(content_of(entry)) == SecretKey(secret)
    assert reference.parse_key_line(reference.key_line_of(content_of(entry))) == secret


@pytest.mark.parametrize("entry", vectors("keys.json", "sealed"), ids=["sealed"])
def test_sealed_key_line_is_opened(entry):
    key = SecretKey(bytes.fromhex(entry["secret"]))
    for form in ("NFC", "NFD"):
        passphrase = normalize(form, entry["passphrase"])
        assert SecretKey.from_text(entry["key_line"].encode(), passphrase=passphrase) == key


def test_library_seals_key_lines_as_the_page_says():
    secret = bytes(range(32))
    line = seal_secret(secret, "A\u030angstr\u00f6m", log2_cost=5)
    c, additional, salt, iv, sealed = reference.parse_sealed_line(line)
    key = reference.stretch("\u00c5ngstro\u0308m", salt, c)
    assert c == 5
    assert AESGCM(key).decrypt(iv, sealed, additional) == secret


@pytest.mark.parametrize(
    "entry", vectors("bad_keys.json", "bad_keys"), ids=names(vectors("bad_keys.json", "bad_keys"))
)
def test_bad_key_raises_and_its_message_keeps_the_secret(entry):
    content = content_of(entry)
    with pytest.raises(KeyFileError) as caught:
        SecretKey.from_text(content, passphrase=entry.get("passphrase"))
    told = f"{caught.value} {caught.value.hint} {caught.value.__context__}"
    for line in (make_vectors.KEY_LINE, make_vectors.SEALED_LINE):
        body = line.rsplit("-", 1)[1]
        assert not any(body[start : start + 8] in told for start in range(len(body) - 7))
    if entry.get("passphrase"):
        assert entry["passphrase"] not in told


@repeatable
@given(secret=st.binary(min_size=32, max_size=32), purpose=st.text(max_size=20))
def test_keys_agree_with_the_reference(secret, purpose):
    key = SecretKey(secret)
    assert key.id == reference.key_id(secret)
    assert key.subkey(purpose) == reference.subkey(secret, purpose)
    line = reference.format_key_line(secret)
    assert format_key_line(secret) == line
    assert SecretKey.from_text(line.encode()) == key
    assert reference.parse_key_line(line) == secret


# -- draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", vectors("draws.json", "draws"), ids=range(4))
def test_draws_match(entry):
    fields = tuple(bytes.fromhex(field) for field in entry["fields"])
    assert label(fields).hex() == entry["label"]
    stream = KeyStream(bytes.fromhex(entry["subkey"]), label(fields))
    assert stream.read(64).tobytes().hex() == entry["stream"]
    assert stream.bits(len(entry["bits"])).astype(int).tolist() == entry["bits"]
    for case in entry["integers"]:
        assert stream.integers(len(case["drawn"]), case["b"]).tolist() == case["drawn"]
    for case in entry["permutations"]:
        assert stream.permutations(len(case["drawn"]), case["m"]).tolist() == case["drawn"]


@repeatable
@given(
    seed=st.binary(min_size=32, max_size=32),
    fields=st.lists(st.binary(max_size=9), max_size=7),
    count=st.integers(1, 300),
    bound=st.integers(1, 256),
    length=st.integers(1, 40),
)
def test_draws_agree_with_the_reference(seed, fields, count, bound, length):
    assert label(tuple(fields)) == reference.label(*fields)
    fast = KeyStream(seed, label(tuple(fields)))
    slow = reference.Stream(seed, reference.label(*fields))
    assert fast.read(count).tobytes() == slow.slice(0, count)
    assert fast.bits(count).astype(int).tolist() == reference.bits(slow, count)
    assert fast.integers(count, bound).tolist() == reference.integers(slow, count, bound)
    few = count % 5 + 1
    assert fast.permutations(few, length).tolist() == reference.permutations(slow, few, length)


# -- schemes and images ---------------------------------------------------------------------------


def ids_of_images():
    entries = vectors("presets.json", "images")
    scopes = ["image" if entry["nonce"] else "dataset" for entry in entries]
    return [
        f"{number}-{entry['scheme']['name']}-{scope}"
        for number, (entry, scope) in enumerate(zip(entries, scopes, strict=True))
    ]


@pytest.mark.parametrize("entry", vectors("presets.json", "images"), ids=ids_of_images())
def test_encrypted_image_matches(entry):
    scheme = Scheme.from_description(entry["scheme"])
    assert scheme.canonical == entry["canonical"]
    assert scheme.describe() == entry["scheme"]
    if scheme.name != "custom":
        assert Scheme.preset(scheme.name) == scheme
        scheme = scheme.name
    nonce = bytes.fromhex(entry["nonce"])
    cipher, argument = cipher_of(scheme, bytes.fromhex(entry["secret"]), entry["context"], nonce)
    plain = array_of(make_vectors.plain_image(entry["height"], entry["width"]))
    encrypted = cipher.encrypt(plain, **argument)
    octets = encrypted.tobytes()
    if "encrypted" in entry:
        assert octets.hex() == entry["encrypted"]
    else:
        assert octets[:48].hex() == entry["encrypted_begins"]
        assert hashlib.sha256(octets).hexdigest() == entry["encrypted_sha256"]
    assert (cipher.decrypt(encrypted, **argument) == plain).all()


FAMILIES = ("etc", "com", "ind", "shuffle-com", "shuffle-ind", "flip", "adaptive")
FAMILIES += ("adaptive-pixel", "le", "ele")
WITH_SUB_BLOCKS = ("com", "ind", "vit")


@st.composite
def presets(draw):
    """Presets of small sizes, as their names."""
    form = draw(st.sampled_from(("B", "B/S", "pe")))
    if form == "pe":
        return "pe"
    size = draw(st.integers(1, 4))
    if form == "B/S":
        times = draw(st.integers(1, 3))
        return f"{draw(st.sampled_from(WITH_SUB_BLOCKS))}-{times * size}/{size}"
    family = draw(st.sampled_from(FAMILIES))
    return f"{family}-{2 * size if family == 'flip' else size}"


@st.composite
def steps(draw):
    """Single steps of small sizes, as their canonical texts."""
    name = draw(st.sampled_from(sorted(reference.FIELDS)))
    size = draw(st.sampled_from((1, 2, 3, 4, 6)))
    divisors = [divisor for divisor in range(1, size + 1) if size % divisor == 0]
    values = {
        "block_size": size,
        "assignment": draw(st.sampled_from(("common", "independent"))),
        "sub_block_size": draw(st.sampled_from(divisors)),
        "unit": draw(st.sampled_from(("value", "pixel", "half"))),
        "share": draw(st.sampled_from(("random", "half"))),
    }
    if values["share"] == "half" and size % 2 and values["unit"] != "half":
        values["share"] = "random"
    return f"{name}({','.join(str(values[field]) for field in reference.FIELDS[name])})"


@st.composite
def images(draw, canonical):
    """Images of a few blocks with random pixels, as lists."""
    side = math.lcm(*(step["block_size"] for step in reference.parse_scheme(canonical)))
    height, width = (side * draw(st.integers(1, 3 if side < 12 else 2)) for _ in range(2))
    random_pixels = random.Random(draw(st.integers(0, 2**32)))
    return [
        [[random_pixels.randrange(256) for _ in range(3)] for _ in range(width)] for _ in range(height)
    ]


secrets = st.binary(min_size=32, max_size=32)
nonces = st.one_of(st.just(b""), st.binary(min_size=16, max_size=16))


def check_image(scheme, canonical, pixels, secret, context, nonce):
    encrypted = reference.encrypt(pixels, canonical, secret, context, nonce)
    assert reference.decrypt(encrypted, canonical, secret, context, nonce) == pixels
    cipher, argument = cipher_of(scheme, secret, context, nonce)
    plain = array_of(pixels)
    assert cipher.encrypt(plain, **argument).tolist() == encrypted
    assert cipher.decrypt(array_of(encrypted), **argument).tolist() == pixels


@repeatable
@given(data=st.data(), name=presets(), secret=secrets, context=st.text(max_size=9), nonce=nonces)
def test_presets_agree_with_the_reference(data, name, secret, context, nonce):
    canonical = reference.preset(name)
    assert Scheme.preset(name).canonical == canonical
    pixels = data.draw(images(canonical))
    check_image(name, canonical, pixels, secret, context, nonce)


@repeatable
@given(
    data=st.data(),
    texts=st.lists(steps(), min_size=1, max_size=4),
    secret=secrets,
    context=st.text(max_size=9),
    nonce=nonces,
)
def test_schemes_composed_by_hand_agree_with_the_reference(data, texts, secret, context, nonce):
    canonical = "|".join(texts)
    scheme = Scheme.from_description(reference.describe("custom", texts))
    assert scheme.canonical == canonical
    pixels = data.draw(images(canonical))
    check_image(scheme, canonical, pixels, secret, context, nonce)


NO_PRESETS = ["", "etc", "etc-0", "etc-08", "etc-8/4", "ETC-8", "pe-1", "com-6/4", "flip-3"]
NO_PRESETS += ["flip-4/2", "vit-8", "ind-8/", "ind-8/0", "adaptive-half-4", "shuffle-4", " etc-8"]
NO_PRESETS += ["etc-8\n", "etc-\u0668"]


@pytest.mark.parametrize("name", NO_PRESETS)
def test_names_that_are_no_preset_are_refused_by_both(name):
    with pytest.raises(ValueError):
        reference.parse_scheme(reference.preset(name))
    with pytest.raises(SchemeError):
        Scheme.preset(name)


# -- shards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", vectors("shards.json", "orders"), ids=range(5))
def test_sample_order_matches(entry):
    subkey = SecretKey(bytes.fromhex(entry["secret"])).subkey("sample-order")
    purpose = (entry["context"].encode(), entry["split"].encode())
    assert derived_permutation(subkey, purpose, entry["n"]).tolist() == entry["p"]


@pytest.mark.parametrize("entry", vectors("shards.json", "divisions"), ids=range(6))
def test_shards_divide_the_positions_without_gap(entry):
    bounds = [0, *(end for _, end in entry["shards"])]
    assert [list(pair) for pair in itertools.pairwise(bounds)] == entry["shards"]
    assert bounds[-1] == entry["n"]
    sizes = {end - first for first, end in entry["shards"]}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("entry", vectors("shards.json", "nonces"), ids=range(5))
def test_nonce_of_a_sample_matches(entry):
    options = entry["options"]
    scheme = Scheme.from_description(options["scheme"])
    key = SecretKey(bytes.fromhex(entry["secret"]))
    encoder = SampleEncoder(
        Cipher(scheme, key, key_scope=options["key_scope"], context=options["context"]),
        codec_from_dict(options["codec"]),
        size=tuple(options["size"]),
        resize=options["resize"],
        fit=options["fit"],
    )
    assert encoder.options() == options
    source = bytes.fromhex(entry["source_sha256"])
    nonce = encoder.nonce(entry["split"], entry["position"], source, entry["copy"])
    assert nonce.hex() == entry["nonce"]


def test_seal_of_a_manifest_matches():
    (entry,) = vectors("shards.json", "manifests")
    manifest = Manifest.from_dict(entry["manifest"])
    manifest.check_seal(SecretKey(bytes.fromhex(entry["secret"])))
    with pytest.raises(ManifestError):
        altered = Manifest.from_dict(entry["manifest"] | {"context": "another"})
        altered.check_seal(SecretKey(bytes.fromhex(entry["secret"])))


def test_seal_of_a_manifest_tells_every_change():
    (entry,) = vectors("shards.json", "manifests")
    secret, manifest = bytes.fromhex(entry["secret"]), entry["manifest"]
    assert reference.manifest_is_as_written(secret, manifest)
    assert not reference.manifest_is_as_written(bytes(32), manifest)
    for field in manifest:
        assert not reference.manifest_is_as_written(secret, manifest | {field: "changed"})
        assert not reference.manifest_is_as_written(
            secret, {name: value for name, value in manifest.items() if name != field}
        )
