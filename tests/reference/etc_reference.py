"""A slow, plain second implementation of docs/format.md, written from that page alone.

It reads in the order of the page and uses nothing but the standard library. An image is a list of
rows, a row a list of pixels, a pixel a list [R, G, B] of integers from 0 to 255. Nothing here is
fast and nothing here hides its timing: it exists to say what the bytes are.
"""

import base64
import hashlib
import hmac
import json
import math
import re
import unicodedata

VERSION = "etc-data/1"


def label(*fields):
    """Joins byte strings so that no two different lists of fields give the same bytes."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def compact_json(value):
    """Gives a value as JSON with sorted keys, no spaces and non-ASCII characters escaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


# 1. Keys


def hkdf(secret, info, length):
    """Derives `length` bytes with HKDF-SHA256 (RFC 5869) under the salt `etc-data/1`."""
    extracted = hmac.new(VERSION.encode(), secret, hashlib.sha256).digest()
    derived, block = b"", b""
    for counter in range(1, 1 + math.ceil(length / 32)):
        block = hmac.new(extracted, block + info + bytes([counter]), hashlib.sha256).digest()
        derived += block
    return derived[:length]


def key_id(secret):
    """Gives the public name of a secret: 16 lower-case hex digits."""
    return hkdf(secret, b"key-id", 8).hex()


def subkey(secret, purpose):
    """Gives the 32 bytes that serve one purpose only."""
    return hkdf(secret, b"sub-key:" + purpose.encode(), 32)


def checksum(secret):
    """Gives the 3 bytes by which a reader sees a mistyped key line."""
    return hashlib.sha256(b"etc-data/1 key checksum" + secret).digest()[:3]


def format_key_line(secret):
    """Writes a secret as a plain key line, without a line end."""
    return "ETC-SECRET-KEY-1-" + base64.b32encode(secret + checksum(secret)).decode()


def parse_key_line(line):
    """Reads a plain key line; raises ValueError where it is not one."""
    match = re.fullmatch("ETC-SECRET-KEY-1-([A-Z2-7]{56})", line)
    if not match:
        raise ValueError("not a plain key line of version 1")
    decoded = base64.b32decode(match[1])
    secret = decoded[:32]
    if decoded[32:] != checksum(secret):
        raise ValueError("the checksum of the key line is wrong")
    return secret


def key_line_of(text):
    """Finds the one key line in the bytes of a key file; raises ValueError if there is not one."""
    lines = [line.strip() for line in text.decode("ascii").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise ValueError(f"a key file has one key line, not {len(lines)}")
    return lines[0]


def parse_sealed_line(line):
    """Splits a key line with a passphrase into (c, additional data, salt, iv, sealed)."""
    match = re.fullmatch("(ETC-SECRET-KEY-1-SCRYPT-([0-9]+)-)([A-Z2-7]{122})", line)
    if not match or int(match[2]) > 22:
        raise ValueError("not a sealed key line of version 1")
    decoded = base64.b32decode(match[3] + "=" * 6)
    return int(match[2]), match[1].encode(), decoded[:16], decoded[16:28], decoded[28:]


def stretch(passphrase, salt, c):
    """Gives the AES key under which a secret is sealed; the sealing itself is plain AES-256-GCM."""
    normal = unicodedata.normalize("NFC", passphrase).encode()
    return hashlib.scrypt(normal, salt=salt, n=2**c, r=8, p=1, maxmem=2**28, dklen=32)


# 2. Draws


class Stream:
    """The endless bytes SHAKE-256(subkey ‖ label), made as far as they are asked for."""

    def __init__(self, subkey, label):
        self.hash = hashlib.shake_256(subkey + label)
        self.known = b""

    def slice(self, start, stop):
        """Gives the bytes start … stop − 1 of the stream."""
        if stop > len(self.known):
            self.known = self.hash.digest(2 * stop + 64)
        return self.known[start:stop]


def bits(stream, n):
    """Draws n bits, the lowest bit of each byte first."""
    return [stream.slice(i // 8, i // 8 + 1)[0] >> (i % 8) & 1 for i in range(n)]


def integers(stream, n, b):
    """Draws n integers from 0 … b − 1; bytes that would favor the small ones are skipped."""
    drawn, position = [], 0
    while len(drawn) < n:
        value = stream.slice(position, position + 1)[0]
        position += 1
        if value < 256 - 256 % b:
            drawn.append(value % b)
    return drawn


def permutations(stream, n, m):
    """Draws n permutations of 0 … m − 1, each the order of m words of 64 bits."""
    drawn, position = [], 0
    while len(drawn) < n:
        row = stream.slice(position, position + 8 * m)
        position += 8 * m
        words = [int.from_bytes(row[8 * i : 8 * i + 8], "little") for i in range(m)]
        if len(set(words)) == m:
            drawn.append(sorted(range(m), key=lambda i, words=words: words[i]))
    return drawn


def step_stream(secret, scheme, number, step_text, geometry, context, nonce):
    """Gives the stream that one step of a scheme reads; scheme and step are canonical texts."""
    fields = (VERSION, scheme, f"{number}:{step_text}", geometry, context)
    fields = [field.encode() for field in fields]
    return Stream(subkey(secret, "draws"), label(*fields, nonce))


# 3. Steps and schemes

FIELDS = {
    "scramble-blocks": ["block_size"],
    "rotate-flip": ["block_size", "assignment", "sub_block_size"],
    "negative-positive": ["block_size", "assignment", "sub_block_size"],
    "shuffle-color-components": ["block_size", "assignment", "sub_block_size"],
    "scramble-sub-blocks": ["block_size", "assignment", "sub_block_size"],
    "shuffle-values": ["block_size", "assignment", "unit"],
    "negate-values": ["block_size", "assignment", "unit", "share"],
}
CHOICES = {
    "block_size": "[1-9][0-9]*",
    "assignment": "common|independent",
    "sub_block_size": "[1-9][0-9]*",
    "unit": "value|pixel|half",
    "share": "random|half",
}
COLOR_ORDERS = ["RGB", "RBG", "GRB", "GBR", "BRG", "BGR"]


PRESETS = {  # B and S stand for sizes; a for an assignment: com or ind in names
    "etc-B": "scramble-blocks(B)|rotate-flip(B,independent,B)|negative-positive(B,independent,B)"
    "|shuffle-color-components(B,independent,B)",
    "a-B": "rotate-flip(B,a,B)|negative-positive(B,a,B)|shuffle-color-components(B,a,B)",
    "a-B/S": "rotate-flip(B,a,S)|negative-positive(B,a,S)|shuffle-color-components(B,a,S)"
    "|scramble-sub-blocks(B,a,S)",
    "shuffle-a-B": "shuffle-values(B,a,value)",
    "flip-B": "shuffle-values(B,common,value)|negate-values(B,common,value,half)",
    "adaptive-B": "scramble-blocks(B)|shuffle-values(B,common,value)"
    "|negate-values(B,common,value,random)",
    "adaptive-pixel-B": "scramble-blocks(B)|shuffle-values(B,common,pixel)"
    "|negate-values(B,common,pixel,random)",
    "vit-B/S": "scramble-blocks(B)|shuffle-values(S,common,pixel)",
    "le-B": "shuffle-values(B,common,half)|negate-values(B,common,half,random)",
    "ele-B": "scramble-blocks(B)|shuffle-values(B,independent,half)"
    "|negate-values(B,independent,half,random)",
    "pe": "negate-values(1,independent,value,random)|shuffle-color-components(1,independent,1)",
}


def fill(form, values):
    """Replaces the letters B, S and a that stand alone in a form by their values."""
    return re.sub(r"\b[BSa]\b", lambda letter: values[letter[0]], form)


def preset(name):
    """Gives the canonical scheme of a preset's name, or raises ValueError."""
    size = "[1-9][0-9]*"
    for form, steps in PRESETS.items():
        pattern = fill(form, {"B": f"(?P<B>{size})", "S": f"(?P<S>{size})", "a": "(?P<a>com|ind)"})
        match = re.fullmatch(pattern, name)
        if match:
            assignment = {"com": "common", "ind": "independent"}
            values = match.groupdict()
            return fill(steps, values | {"a": assignment.get(values.get("a"))})
    raise ValueError(f"{name} is not a preset")


def canonical_scheme(scheme):
    """Gives the canonical text of a preset's name, of a canonical text, or of a list of steps."""
    if not isinstance(scheme, str):
        return "|".join(scheme)
    return scheme if "(" in scheme else preset(scheme)


def parse_scheme(text):
    """Reads a canonical scheme into a list of dictionaries, one for each step."""
    steps = []
    for step_text in text.split("|"):
        match = re.fullmatch(r"([a-z-]+)\(([^()]*)\)", step_text)
        if not match or match[1] not in FIELDS:
            raise ValueError(f"{step_text} is not a step")
        fields, values = FIELDS[match[1]], match[2].split(",")
        if len(fields) != len(values):
            raise ValueError(f"{step_text} does not have the fields {fields}")
        step = {"step": match[1]}
        for field, value in zip(fields, values, strict=True):
            if not re.fullmatch(CHOICES[field], value):
                raise ValueError(f"{step_text}: {value} is no {field}")
            step[field] = int(value) if field.endswith("size") else value
        if step["block_size"] % step.get("sub_block_size", 1):
            raise ValueError(f"{step_text}: sub-blocks do not divide the block")
        if step.get("share") == "half" and unit_count(step) % 2:
            raise ValueError(f"{step_text}: an odd number of units has no half")
        steps.append(step)
    return steps


def describe(name, scheme):
    """Gives the JSON description of a scheme as a dictionary."""
    return {"name": name, "steps": parse_scheme(canonical_scheme(scheme))}


def cut(image, size):
    """Cuts an image, or a block, into squares in raster order."""
    height, width = len(image), len(image[0])
    if height % size or width % size:
        raise ValueError(f"{height}x{width} pixels are not a multiple of {size}")
    return [
        [row[left : left + size] for row in image[top : top + size]]
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]


def join(blocks, columns):
    """Lays squares in raster order, `columns` in a row: the inverse of cut."""
    image = []
    for first in range(0, len(blocks), columns):
        for rows in zip(*blocks[first : first + columns], strict=True):
            image.append([pixel for row in rows for pixel in row])
    return image


def reorder(things, p):
    """Puts thing p[i] at place i."""
    return [things[p[i]] for i in range(len(p))]


def order_back(things, p):
    """Puts thing i at place p[i]: the inverse of reorder."""
    result = [None] * len(p)
    for i in range(len(p)):
        result[p[i]] = things[i]
    return result


def transpose(block):
    """Gives the block with result[y][x] = input[x][y]."""
    return [[block[x][y] for x in range(len(block))] for y in range(len(block))]


def orient(block, code, undo):
    """Puts a block into one of 8 orientations, or back out of it."""
    changes = [
        (code // 4, transpose),
        (code // 2 % 2, lambda rows: rows[::-1]),
        (code % 2, lambda rows: [row[::-1] for row in rows]),
    ]
    for wanted, change in reversed(changes) if undo else changes:
        block = change(block) if wanted else block
    return block


def negate_block(block, bit, undo):
    """Negates all values of a block if the bit is 1; the same again undoes it."""
    return [[[255 - v if bit else v for v in pixel] for pixel in row] for row in block]


def shuffle_color(block, number, undo):
    """Makes R, G, B of the result from the components that the order names, or back."""
    p = ["RGB".index(letter) for letter in COLOR_ORDERS[number]]
    change = order_back if undo else reorder
    return [[change(pixel, p) for pixel in row] for row in block]


def unit_count(step):
    """Gives m, the number of units in one block of a step."""
    return {"value": 3, "pixel": 1, "half": 6}[step["unit"]] * step["block_size"] ** 2


def to_units(block, unit):
    """Lists the units of a block in the order of their numbers."""
    pixels = [pixel for row in block for pixel in row]
    values = [value for pixel in pixels for value in pixel]
    halves = [value % 16 for value in values] + [value // 16 for value in values]
    return {"pixel": pixels, "value": values, "half": halves}[unit]


def from_units(units, unit, size):
    """Makes the block of size × size pixels that has these units: the inverse of to_units."""
    if unit == "half":
        values = len(units) // 2
        units = [units[i] + 16 * units[values + i] for i in range(values)]
    if unit != "pixel":
        units = [units[i : i + 3] for i in range(0, len(units), 3)]
    return [units[i : i + size] for i in range(0, len(units), size)]


def negate_unit(thing, unit):
    """Negates one unit: 255 − v for values and pixels, 15 − h for halves."""
    if unit == "pixel":
        return [255 - v for v in thing]
    return (15 if unit == "half" else 255) - thing


def draw_for_blocks(step, stream, N):
    """Draws for each of N blocks what its step needs; a list with one entry per block."""
    if step["step"] in ("shuffle-values", "negate-values"):
        m = unit_count(step)
        if step["step"] == "shuffle-values":
            return permutations(stream, N, m)
        if step["share"] == "half":
            chosen = [set(p[: m // 2]) for p in permutations(stream, N, m)]
            return [[int(j in some) for j in range(m)] for some in chosen]
        flat = bits(stream, N * m)
        return [flat[i * m : i * m + m] for i in range(N)]
    n_s = (step["block_size"] // step["sub_block_size"]) ** 2
    if step["step"] == "scramble-sub-blocks":
        return permutations(stream, N, n_s)
    if step["step"] == "negative-positive":
        flat = bits(stream, N * n_s)
    else:
        flat = integers(stream, N * n_s, 8 if step["step"] == "rotate-flip" else 6)
    return [flat[i * n_s : i * n_s + n_s] for i in range(N)]


def change_block(block, step, draw, undo):
    """Does one step to one block, or undoes it."""
    B, change = step["block_size"], order_back if undo else reorder
    if "unit" in step:
        units = to_units(block, step["unit"])
        if step["step"] == "shuffle-values":
            units = change(units, draw)
        else:
            pairs = zip(units, draw, strict=True)
            units = [negate_unit(one, step["unit"]) if bit else one for one, bit in pairs]
        return from_units(units, step["unit"], B)
    S = step["sub_block_size"]
    parts = cut(block, S)
    if step["step"] == "scramble-sub-blocks":
        return join(change(parts, draw), B // S)
    effects = {
        "rotate-flip": orient,
        "negative-positive": negate_block,
        "shuffle-color-components": shuffle_color,
    }
    effect = effects[step["step"]]
    return join([effect(part, d, undo) for part, d in zip(parts, draw, strict=True)], B // S)


def do_step(image, step, number, secret, scheme, context, nonce, undo):
    """Does one step of a scheme to an image, or undoes it."""
    B = step["block_size"]
    blocks = cut(image, B)
    columns = len(image[0]) // B
    common = step.get("assignment") == "common"
    geometry = "" if common else f"{len(image) // B}x{columns}"
    step_text = scheme.split("|")[number]
    stream = step_stream(secret, scheme, number, step_text, geometry, context, nonce)
    if step["step"] == "scramble-blocks":
        p = permutations(stream, 1, len(blocks))[0]
        return join(order_back(blocks, p) if undo else reorder(blocks, p), columns)
    draws = draw_for_blocks(step, stream, 1 if common else len(blocks))
    changed = [
        change_block(block, step, draws[0 if common else i], undo) for i, block in enumerate(blocks)
    ]
    return join(changed, columns)


def encrypt(pixels, scheme, secret, context="", nonce=b""):
    """Encrypts an image, a list of rows of [R, G, B]; an empty nonce means key scope `dataset`."""
    text = canonical_scheme(scheme)
    for number, step in enumerate(parse_scheme(text)):
        pixels = do_step(pixels, step, number, secret, text, context, nonce, undo=False)
    return pixels


def decrypt(pixels, scheme, secret, context="", nonce=b""):
    """Undoes encrypt: the inverse of each step, the last step first."""
    text = canonical_scheme(scheme)
    for number, step in reversed(list(enumerate(parse_scheme(text)))):
        pixels = do_step(pixels, step, number, secret, text, context, nonce, undo=True)
    return pixels


# 5. Shards


def sample_order(secret, context, split, n):
    """Gives p: position k of a split holds item p[k] of the n items sorted by id."""
    fields = label(VERSION.encode(), context.encode(), split.encode())
    return permutations(Stream(subkey(secret, "sample-order"), fields), 1, n)[0]


def item_and_copy(index, copies):
    """Gives the item and the copy that one entry of the order over all copies stands for."""
    return index // copies, index % copies


def augmentation_seed(secret, source_sha256, copy):
    """Gives the integer that seeds the augmentation of one copy of an item."""
    fields = label(VERSION.encode(), source_sha256, copy.to_bytes(4, "big"))
    digest = hmac.new(subkey(secret, "augmentation"), fields, hashlib.sha256).digest()
    return int.from_bytes(digest[:16], "big")


def shard_positions(n, m, j):
    """Gives the positions that shard j of m holds, as (first, one past the last)."""
    return j * n // m, (j + 1) * n // m


def sample_nonce(secret, options, split, position, source_sha256, copy):
    """Gives the 16 bytes of nonce of one sample; source_sha256 is the raw hash of its file."""
    options_hash = hashlib.sha256(compact_json(options)).digest()
    numbers = position.to_bytes(8, "big"), copy.to_bytes(4, "big")
    fields = (VERSION.encode(), options_hash, split.encode(), numbers[0], source_sha256, numbers[1])
    return hmac.new(subkey(secret, "nonces"), label(*fields), hashlib.sha256).digest()[:16]


def manifest_hmac(secret, manifest):
    """Gives the hex digits that seal a manifest, whether or not it has an `hmac` already."""
    sealed = {name: value for name, value in manifest.items() if name != "hmac"}
    return hmac.new(subkey(secret, "manifest"), compact_json(sealed), hashlib.sha256).hexdigest()


def manifest_is_as_written(secret, manifest):
    """Tells whether a manifest carries the seal that its key gives."""
    return hmac.compare_digest(manifest_hmac(secret, manifest), str(manifest.get("hmac")))
