"""Memory stays flat in the number of samples, writing and reading."""

import json
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

FEW, MANY = 200, 1000
WAYS = ["write", "write one shard", "ShardWriter", "open_shards", "verify_shards", "decrypt_shards"]
LARGEST_GROWTH_KB = 4_000  # 800 samples more are 120 MB of pixels and 20 MB of JPEG files

PROGRAM = """
import json, sys
from pathlib import Path
from etc_data import Cipher, SecretKey
from etc_data.shards import ShardWriter, decrypt_shards, verify_shards, write_shards
from etc_data.sources import Item

folder, way, few, many = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
photos = [path.read_bytes for path in sorted(folder.glob("*.jpg"))]
key = SecretKey(bytes(range(32)))
cipher = Cipher("etc-16", key, key_scope="image")

class Repeated:
    splits, class_names, strays = ("train",), ("a", "b"), ()

    def __init__(self, count):
        self.count = count

    def items(self, split):
        return [Item(f"{i:06d}", i % 2, photos[i % len(photos)]) for i in range(self.count)]

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def work(count):
    out = folder / f"{way}-{count}"
    if way.startswith("write"):
        per_shard = 10**6 if way == "write one shard" else 50
        write_shards(Repeated(count), out, cipher, size=224, samples_per_shard=per_shard)
    elif way == "ShardWriter":
        with ShardWriter(out, cipher, size=224, samples_per_shard=10**6) as writer:
            for i in range(count):
                writer.write(photos[i % len(photos)](), 0)
    elif way == "open_shards":
        from etc_data.shards import open_shards
        data = open_shards(folder / f"write-{count}", shuffle=True)
        assert sum(1 for _ in data) == count
    elif way == "verify_shards":
        verify_shards(folder / f"write one shard-{count}", key=key)
    else:
        decrypt_shards(folder / f"write-{count}", out, key)

peaks = []
for count in (few // 4, few, many):  # the first one warms up
    work(count)
    peaks.append(peak())
print(json.dumps(peaks))
"""


@pytest.fixture(scope="module")
def growth(tmp_path_factory, photo, environment):
    """By how many kB the peak grows from FEW to MANY samples, by way."""
    folder = tmp_path_factory.mktemp("memory")
    for seed in range(7):
        (folder / f"{seed}.jpg").write_bytes(photo(seed, 240, 260))

    def measure(way: str) -> int:
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, folder, way, str(FEW), str(MANY)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        _, few, many = json.loads(result.stdout)
        print(f"{way}: {few} kB with {FEW} samples, {many} kB with {MANY}")
        return many - few

    return {way: measure(way) for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_peak_does_not_grow_with_the_number_of_samples(growth, way):
    assert growth[way] < LARGEST_GROWTH_KB
