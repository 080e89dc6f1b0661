"""Makes the fixed vectors of docs/format.md with the reference implementation alone.

    python tests/vectors/make_vectors.py

The vectors never depend on the library, on chance or on the time: a second run writes the same
files.  They change with the version of the format and not otherwise.
"""

import hashlib
import importlib.util
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
PURPOSES = ["draws", "sample-order", "nonces", "manifest"]
LARGEST_HEX = 1200  # bytes of an image that are written out; larger ones are hashed


def load_reference():
    """Loads the reference from its file, whatever the import path is."""
    path = HERE.parent / "reference" / "etc_reference.py"
    spec = importlib.util.spec_from_file_location("etc_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_reference()


def secret_of(name):
    """Gives the 32 bytes of a public test secret."""
    return hashlib.sha256(f"etc-data vector: {name}".encode()).digest()


SECRETS = [bytes(32), b"\xff" * 32, bytes(range(32)), secret_of("one"), secret_of("two")]
SECRET = SECRETS[3]
KEY_LINE = reference.format_key_line(SECRET)

# Sealed once with AES-256-GCM from the package `cryptography`, at a cost that protects nothing.
SEALED_SECRET = secret_of("sealed")
SEALED_PASSPHRASE = "cafe\u0301 \u2603 na\u00efve"  # the e and its accent apart, so that NFC matters
SEALED_PREFIX = "ETC-SECRET-KEY-1-SCRYPT-"
SEALED_BODY = (
    "AAAQEAYEAUDAOCAJBIFQYDIOB5SGKZTHNBUWU23MNVXG7ZEFLMUQU6I33KBV2ZM236KHSYEILPDDQRU5TRSFQPRVFZWVQD"
    "JUJCTKNFDDENTP62MCFDZRWF63EI"
)
SEALED_LINE = SEALED_PREFIX + "4-" + SEALED_BODY


def change(line, place):
    """Puts another letter at one place of a key line."""
    return line[:place] + ("B" if line[place] == "A" else "A") + line[place + 1 :]


def make_keys():
    """Makes key ids, sub-keys, key lines and one key line with a passphrase."""
    keys = [
        {
            "secret": secret.hex(),
            "key_id": reference.key_id(secret),
            "key_line": reference.format_key_line(secret),
            "subkeys": {purpose: reference.subkey(secret, purpose).hex() for purpose in PURPOSES},
        }
        for secret in SECRETS
    ]
    files = [
        {"name": "bare", "text": KEY_LINE, "secret": SECRET.hex()},
        {"name": "line end", "text": KEY_LINE + "\n", "secret": SECRET.hex()},
        {
            "name": "comments, empty lines and spaces",
            "text": f"# a key\n\n#{KEY_LINE}\n  {KEY_LINE}  \n\n# the end\n",
            "secret": SECRET.hex(),
        },
    ]
    c, additional, salt, iv, sealed = reference.parse_sealed_line(SEALED_LINE)
    sealed_key = {
        "passphrase": SEALED_PASSPHRASE,
        "key_line": SEALED_LINE,
        "salt": salt.hex(),
        "iv": iv.hex(),
        "sealed": sealed.hex(),
        "stretched": reference.stretch(SEALED_PASSPHRASE, salt, c).hex(),
        "additional_data": additional.decode(),
        "secret": SEALED_SECRET.hex(),
    }
    return {"keys": keys, "files": files, "sealed": [sealed_key]}


def make_bad_keys():
    """Makes one content of a key file for each way to be wrong."""
    prefix, body = KEY_LINE[:17], KEY_LINE[17:]
    swapped = body[:30] + body[31] + body[30] + body[32:]
    assert swapped != body
    texts = {
        "empty": "",
        "comments only": "# nothing\n\n# here\n",
        "cut short by one character": KEY_LINE[:-1],
        "cut in the middle": KEY_LINE[:40],
        "prefix only": prefix,
        "one character too many": KEY_LINE + "A",
        "eight characters too many": KEY_LINE + "AAAAAAAA",
        "padding where there is none": KEY_LINE + "========",
        "one character changed": change(KEY_LINE, 37),
        "two characters swapped": prefix + swapped,
        "checksum changed": change(KEY_LINE, len(KEY_LINE) - 1),
        "digit outside of base32": prefix + "1" + body[1:],
        "lower case base32": prefix + body.lower(),
        "lower case": KEY_LINE.lower(),
        "space inside": prefix + body[:28] + " " + body[28:],
        "line broken in two": prefix + body[:28] + "\n" + body[28:],
        "wrong prefix": "AGE-SECRET-KEY-1-" + body,
        "no prefix": body,
        "newer version": "ETC-SECRET-KEY-2-" + body,
        "version of two digits": "ETC-SECRET-KEY-11-" + body,
        "newer version with a passphrase": "ETC-SECRET-KEY-2-SCRYPT-4-" + SEALED_BODY,
        "unknown form": "ETC-SECRET-KEY-1-ARGON-4-" + SEALED_BODY,
        "two key lines": f"{KEY_LINE}\n{reference.format_key_line(SECRETS[4])}\n",
        "the same key line twice": f"{KEY_LINE}\n{KEY_LINE}\n",
        "something after the key line": f"{KEY_LINE}\nthe end\n",
        "comment behind the key line": KEY_LINE + " # mine",
        "Cyrillic letter": prefix + body.replace("A", "\u0410"),
    }
    sealed = {
        "sealed, cut short by one character": SEALED_LINE[:-1],
        "sealed, cut in the middle": SEALED_LINE[:80],
        "sealed, one character too many": SEALED_LINE + "A",
        "sealed, salt changed": change(SEALED_LINE, 26),
        "sealed, iv changed": change(SEALED_LINE, 60),
        "sealed, secret changed": change(SEALED_LINE, 90),
        "sealed, lower case base32": SEALED_PREFIX + "4-" + SEALED_BODY.lower(),
        "sealed, other cost": f"{SEALED_PREFIX}5-{SEALED_BODY}",
        "sealed, cost 23": f"{SEALED_PREFIX}23-{SEALED_BODY}",
        "sealed, cost 0": f"{SEALED_PREFIX}0-{SEALED_BODY}",
        "sealed, absurd cost": f"{SEALED_PREFIX}4000000000-{SEALED_BODY}",
        "sealed, cost of 5000 digits": f"{SEALED_PREFIX}{'9' * 5000}-{SEALED_BODY}",
        "sealed, cost below 0": f"{SEALED_PREFIX}-4-{SEALED_BODY}",
        "sealed, cost with a sign": f"{SEALED_PREFIX}+4-{SEALED_BODY}",
        "sealed, cost in other digits": f"{SEALED_PREFIX}\uff14-{SEALED_BODY}",
        "sealed, cost no number": f"{SEALED_PREFIX}four-{SEALED_BODY}",
        "sealed, no cost": f"{SEALED_PREFIX}-{SEALED_BODY}",
    }
    entries = [{"name": name, "text": text} for name, text in texts.items()]
    octets = {
        "not text": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
        "zero bytes": bytes(80),
        "UTF-16": b"\xff\xfe" + KEY_LINE.encode("utf-16-le"),
    }
    entries += [{"name": name, "hex": content.hex()} for name, content in octets.items()]
    # Text of this many repetitions; the size itself is what a reader refuses.
    entries.append({"name": "oversized", "text": "# long\n", "times": 20000, "then": KEY_LINE})
    known = {"passphrase": SEALED_PASSPHRASE}
    entries += [{"name": name, "text": text} | known for name, text in sealed.items()]
    entries += [
        {"name": "passphrase missing", "text": SEALED_LINE},
        {"name": "passphrase wrong", "text": SEALED_LINE, "passphrase": "cafe \u2603 na\u00efve"},
        {"name": "passphrase empty", "text": SEALED_LINE, "passphrase": ""},
        {"name": "passphrase unwanted", "text": KEY_LINE, "passphrase": SEALED_PASSPHRASE},
    ]
    return {"bad_keys": entries}


def make_draws():
    """Makes streams, and each kind of draw from them."""
    streams = [
        ("one", [b"etc-data/1", b"scheme", b"0:step", b"", b"", b""]),
        ("one", [b"etc-data/1", b"scheme", b"1:step", b"14x14", "f\u00eate".encode(), b"n" * 16]),
        ("two", [b"", b"\x00", b"\xff" * 300]),
        ("two", []),
    ]
    entries = []
    for name, fields in streams:
        subkey, label = reference.subkey(secret_of(name), "draws"), reference.label(*fields)
        stream = reference.Stream(subkey, label)
        sizes = [(3, 1), (4, 2), (2, 3), (6, 4), (3, 48), (1, 300)]
        entries.append(
            {
                "subkey": subkey.hex(),
                "fields": [field.hex() for field in fields],
                "label": label.hex(),
                "stream": stream.slice(0, 64).hex(),
                "bits": reference.bits(stream, 83),
                "integers": [
                    {"b": b, "drawn": reference.integers(stream, 40, b)}
                    for b in (1, 2, 3, 6, 8, 100, 129, 200, 255, 256)
                ],
                "permutations": [
                    {"m": m, "drawn": reference.permutations(stream, n, m)} for n, m in sizes
                ],
            }
        )
    return {"draws": entries}


CUSTOM = [
    ("shuffle-values(4,independent,value)|rotate-flip(16,common,8)|scramble-blocks(8)", 32, 48),
    ("negate-values(2,independent,half,half)|scramble-sub-blocks(6,common,2)", 12, 18),
    ("scramble-blocks(4)|negative-positive(12,independent,3)|scramble-blocks(6)", 12, 24),
    ("shuffle-values(3,independent,pixel)|negate-values(2,independent,pixel,half)", 18, 12),
    ("rotate-flip(6,independent,2)|shuffle-values(6,common,half)|rotate-flip(6,common,3)", 18, 12),
    ("scramble-blocks(3)|scramble-blocks(3)|scramble-blocks(3)", 9, 12),
    ("negate-values(5,common,pixel,random)", 10, 15),
    ("shuffle-color-components(4,common,2)|scramble-sub-blocks(4,independent,1)", 8, 20),
]
PRESETS = [
    # name, rows and columns of the image in blocks of the first size in the name
    *[(name, 2, 3) for name in ("etc-16", "com-16", "ind-16", "com-16/8", "ind-16/8")],
    *[(name, 2, 3) for name in ("shuffle-com-16", "shuffle-ind-16", "adaptive-16")],
    *[(name, 2, 3) for name in ("adaptive-pixel-16", "vit-16/8", "le-16", "ele-16")],
    *[(name, 2, 3) for name in ("etc-8", "com-8", "ind-8", "com-8/4", "ind-8/4", "vit-8/4")],
    *[(name, 5, 4) for name in ("shuffle-com-4", "shuffle-ind-4", "adaptive-4")],
    *[(name, 5, 4) for name in ("adaptive-pixel-4", "flip-4", "le-4", "ele-4")],
    *[(name, 3, 7) for name in ("flip-2", "le-2", "ele-2", "etc-2", "com-6/3", "ind-6/3")],
    *[(name, 7, 3) for name in ("etc-1", "com-4/4", "ind-4/1", "shuffle-ind-1", "vit-3/1", "le-1")],
]


def plain_image(height, width):
    """Makes the plain pixels of a vector from a simple formula."""
    return [
        [[(31 * y + 17 * x + 85 * c + x * y) % 256 for c in range(3)] for x in range(width)]
        for y in range(height)
    ]


def make_presets():
    """Makes encrypted images of every preset and of schemes composed by hand."""
    cases = []
    for name, rows, columns in PRESETS:
        side = int(name.rsplit("-", 1)[1].split("/")[0])
        cases.append((name, reference.preset(name), rows * side, columns * side))
    cases.append(("pe", reference.preset("pe"), 9, 14))
    cases += [("custom", *case) for case in CUSTOM]
    entries = []
    for number, (name, scheme, height, width) in enumerate(cases):
        contexts = ("", "holiday \u2600") if number % 2 else ("holiday \u2600", "")
        nonces = (b"", hashlib.sha256(f"{number}".encode()).digest()[:16])
        for context, nonce in zip(contexts, nonces, strict=True):
            secret = SECRETS[number % len(SECRETS)]
            image = reference.encrypt(plain_image(height, width), scheme, secret, context, nonce)
            octets = bytes(value for row in image for pixel in row for value in pixel)
            entry = {
                "scheme": reference.describe(name, scheme),
                "canonical": scheme,
                "secret": secret.hex(),
                "context": context,
                "nonce": nonce.hex(),
                "height": height,
                "width": width,
            }
            if len(octets) <= LARGEST_HEX:
                entry["encrypted"] = octets.hex()
            else:
                entry["encrypted_begins"] = octets[:48].hex()
                entry["encrypted_sha256"] = hashlib.sha256(octets).hexdigest()
            entries.append(entry)
    formula = "value (y, x, c) of the plain image is (31*y + 17*x + 85*c + x*y) mod 256"
    return {"plain": formula, "images": entries}


def make_shards():
    """Makes orders, nonces, the division of shards and the seal of a manifest."""
    orders = [
        {"context": context, "split": split, "n": n}
        for context, split, n in [
            ("", "train", 1),
            ("", "train", 10),
            ("", "val", 10),
            ("holiday \u2600", "train", 10),
            ("holiday \u2600", "train", 257),
        ]
    ]
    for order in orders:
        order["secret"] = SECRET.hex()
        order["p"] = reference.sample_order(SECRET, order["context"], order["split"], order["n"])
    divisions = [
        {"n": n, "m": m, "shards": [reference.shard_positions(n, m, j) for j in range(m)]}
        for n, m in [(10, 1), (10, 3), (257, 8), (3, 3), (2, 5), (1281167, 7)]
    ]
    scheme = reference.describe("ind-16/8", "ind-16/8")
    codecs = [
        {"name": "jpeg", "quality": 95, "subsampling": "4:4:4"},
        {"name": "jpeg", "quality": 80, "subsampling": "4:4:4"},
    ]
    nonces = []
    for context, codec, split, position, copy in [
        ("", codecs[0], "train", 0, 0),
        ("", codecs[0], "train", 0, 1),
        ("", codecs[0], "train", 1281166, 0),
        ("", codecs[1], "val", 5, 0),
        ("holiday \u2600", codecs[0], "train", 2**40 + 1, 3),
    ]:
        options = {
            "codec": codec,
            "context": context,
            "fit": None,
            "key_scope": "image",
            "resize": "crop",
            "scheme": scheme,
            "size": [64, 96],
        }
        source = hashlib.sha256(b"the bytes of a source file").digest()
        nonce = reference.sample_nonce(SECRET, options, split, position, source, copy)
        nonces.append(
            {
                "secret": SECRET.hex(),
                "options": options,
                "options_hash": hashlib.sha256(reference.compact_json(options)).hexdigest(),
                "split": split,
                "position": position,
                "source_sha256": source.hex(),
                "copy": copy,
                "nonce": nonce.hex(),
            }
        )
    manifest = {
        "format": "etc-data-shards/1",
        "scheme": scheme["name"],
        "steps": scheme["steps"],
        "key_id": reference.key_id(SECRET),
        "key_scope": "dataset",
        "context": 'holiday \u2600 \U0001f3d6 "quoted" \x7f\n',  # escapes, and a surrogate pair
        "size": None,
        "resize": "crop",
        "fit": "pad",
        "codec": codecs[0],
        "labels": "keep",
        "classes": 2,
        "splits": {"train": {"samples": 3, "shards": 2}, "val": {"samples": 1, "shards": 1}},
        "shards": [
            {
                "name": f"{split}-{number:06}.tar",
                "split": split,
                "bytes": 10240,
                "samples": samples,
                "sha256": hashlib.sha256(f"{split}{number}".encode()).hexdigest(),
            }
            for split, number, samples in [("train", 0, 1), ("train", 1, 2), ("val", 0, 1)]
        ],
        "samples": 4,
    }
    manifest["hmac"] = reference.manifest_hmac(SECRET, manifest)
    return {
        "orders": orders,
        "divisions": divisions,
        "nonces": nonces,
        "manifests": [{"secret": SECRET.hex(), "manifest": manifest}],
    }


def make_augmentation():
    """Makes seeds, a nonce, the order of copies and a manifest of a data set that is augmented."""
    sources = [hashlib.sha256(text).digest() for text in (b"the bytes of a source file", b"")]
    seeds = [
        {
            "secret": secret.hex(),
            "source_sha256": source.hex(),
            "copy": copy,
            "seed": str(reference.augmentation_seed(secret, source, copy)),
        }
        for secret in (SECRET, SECRETS[4])
        for source in sources
        for copy in (0, 1, 9999)
    ]
    options = {
        "augmentation": "crop:0.08+flip",
        "codec": {"name": "jpeg", "quality": 95, "subsampling": "4:4:4"},
        "context": "",
        "fit": None,
        "key_scope": "image",
        "resize": "crop",
        "scheme": reference.describe("etc-16", "etc-16"),
        "size": [64, 96],
    }
    nonce = {
        "secret": SECRET.hex(),
        "options": options,
        "split": "train",
        "position": 7,
        "source_sha256": sources[0].hex(),
        "copy": 0,
        "nonce": reference.sample_nonce(SECRET, options, "train", 7, sources[0], 0).hex(),
    }
    order = reference.sample_order(SECRET, "", "train", 3 * 4)
    copies = {
        "secret": SECRET.hex(),
        "items": 3,
        "copies": 4,
        "order": [reference.item_and_copy(index, 4) for index in order],
    }
    shard = {
        "name": "train-000000.tar",
        "split": "train",
        "bytes": 10240,
        "samples": 12,
        "sha256": hashlib.sha256(b"shard").hexdigest(),
    }
    manifest = {
        "format": "etc-data-shards/1",
        "scheme": options["scheme"]["name"],
        "steps": options["scheme"]["steps"],
        "key_id": reference.key_id(SECRET),
        **{name: options[name] for name in ("key_scope", "context", "size", "resize", "fit", "codec")},
        "labels": "keep",
        "classes": 2,
        "class_names": ["cat", "Katze \u2600"],
        "augmentation": "flip",
        "copies": 4,
        "samples": 12,
        "splits": {"train": {"samples": 12, "shards": 1}},
        "shards": [shard],
    }
    manifest["hmac"] = reference.manifest_hmac(SECRET, manifest)
    return {
        "seeds": seeds,
        "nonces": [nonce],
        "orders": [copies],
        "manifests": [{"secret": SECRET.hex(), "manifest": manifest}],
    }


MAKERS = {
    "keys.json": make_keys,
    "bad_keys.json": make_bad_keys,
    "draws.json": make_draws,
    "presets.json": make_presets,
    "shards.json": make_shards,
    "augmentation.json": make_augmentation,
}


def format_vectors(vectors):
    """Writes vectors as JSON with one entry per line, so that a change shows where it is."""
    parts = []
    for name, value in vectors.items():
        lines = json.dumps(value)
        if isinstance(value, list):
            lines = "[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]"
        parts.append(f"{json.dumps(name)}: {lines}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main():
    """Writes all files of vectors beside this script."""
    for name, make in MAKERS.items():
        text = format_vectors(make())
        (HERE / name).write_text(text, encoding="ascii", newline="\n")
        print(f"{name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
