"""Other programs read the same folder: webdataset, Hugging Face datasets, timm, wids."""

import io
import json
import os
import subprocess
import sys
from collections import Counter

import pytest
import webdataset
from PIL import Image
from torch.utils.data import DataLoader

from etc_data.cipher import Cipher
from etc_data.codecs import PngCodec
from etc_data.shards import open_shards, write_shards
from etc_data.shards.indexes import side_indexes
from etc_data.shards.manifest import Manifest


@pytest.fixture(scope="module")
def lossless(tmp_path_factory, source, key):
    out = tmp_path_factory.mktemp("lossless") / "out"
    cipher = Cipher("pe", key)
    write_shards(source, out, cipher, size=48, codec=PngCodec(), samples_per_shard=10)
    return out


@pytest.fixture(scope="module", params=["jpeg", "png"])
def folder(request, written, lossless):
    return written if request.param == "jpeg" else lossless


def expected(folder, split="train"):
    """(key, label, image bytes) of every sample, in order."""
    samples = open_shards(folder, split=split, form="sample")
    return [(sample.key, sample.label, sample.image) for sample in samples]


def urls(folder, split="train"):
    return [str(folder / shard.name) for shard in Manifest.read(folder).splits[split]]


# --- webdataset -------------------------------------------------------------------------------


def test_webdataset_reads_every_sample_in_order(folder):
    found = []
    for sample in webdataset.WebDataset(urls(folder), shardshuffle=False):
        image = sample.get("jpg", sample.get("png"))
        found.append((sample["__key__"], int(sample["cls"]), image))
        info = json.loads(sample["json"])
        assert (info["height"], info["width"], info["copy"]) == (48, 48, 0)
    assert found == expected(folder)


def test_webdataset_decodes_and_batches(folder):
    data = webdataset.WebDataset(urls(folder), shardshuffle=False).decode("torchrgb8")
    pairs = list(data.to_tuple("jpg;png", "cls"))
    ours = list(open_shards(folder, split="train"))
    assert [label for _, label in pairs] == [label for _, label in ours]
    assert all((one == other).all() for (one, _), (other, _) in zip(pairs, ours, strict=True))


def test_webdataset_splits_shards_over_workers(written):
    data = webdataset.WebDataset(
        urls(written), shardshuffle=False, workersplitter=webdataset.split_by_worker
    )
    data = data.to_tuple("__key__", "cls", "jpg")
    found = list(DataLoader(data, batch_size=None, num_workers=2))
    assert Counter((k, int(c), i) for k, c, i in found) == Counter(expected(written))


# --- Hugging Face datasets --------------------------------------------------------------------


@pytest.fixture(scope="module")
def load_dataset(tmp_path_factory):
    before = dict(os.environ)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    os.environ |= {
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    try:
        yield pytest.importorskip("datasets").load_dataset
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_reads_every_sample(folder, load_dataset, tmp_path, streaming):
    files = {split: urls(folder, split) for split in ("train", "val")}
    both = load_dataset(
        "webdataset", data_files=files, cache_dir=str(tmp_path / "cache"), streaming=streaming
    )
    assert set(both) == {"train", "val"}
    image = "jpg" if "jpg" in next(iter(both["val"])) else "png"
    for split in ("train", "val"):
        ours = list(open_shards(folder, split=split, form="numpy"))
        count = 0
        for row, (key, label, _), (pixels, _) in zip(
            both[split], expected(folder, split), ours, strict=True
        ):
            assert (row["__key__"], row["cls"]) == (key, label)
            assert row["json"]["key_id"] == Manifest.read(folder).key_id
            assert isinstance(row["json"]["nonce"], str)
            assert isinstance(row[image], Image.Image)
            assert row[image].tobytes() == pixels.tobytes()
            count += 1
        assert count == len(ours)


# --- timm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_timm_reads_every_sample(folder, split):
    import etc_data.torchvision_cpu  # noqa: F401

    # isort: split
    from timm.data import create_dataset

    data = create_dataset("wds/", root=str(folder), split=split, is_training=False)
    ours = list(open_shards(folder, split=split, form="pil"))
    assert len(data) == len(ours)
    found = list(data)
    assert [label for _, label in found] == [label for _, label in ours]
    assert all(
        one.tobytes() == other.tobytes() for (one, _), (other, _) in zip(found, ours, strict=True)
    )


def test_timm_reads_for_training_too(written):
    import etc_data.torchvision_cpu  # noqa: F401

    # isort: split
    from timm.data import create_dataset

    data = create_dataset("wds/", root=str(written), split="train", is_training=True, batch_size=9)
    assert len(data) == 27
    labels = Counter(label for _, label in data)
    assert labels == Counter(label for _, label in open_shards(written, split="train"))


# --- wids -------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_wids_reads_every_sample(folder, split, tmp_path):
    wids = pytest.importorskip("wids", reason="only older wheels of webdataset hold wids")
    data = wids.ShardListDataset(
        str(folder / f"{split}.wids"), cache_dir=str(tmp_path / "cache"), keep=True, transformations=[]
    )
    assert len(data) == len(expected(folder, split))
    for index, (key, label, image) in reversed(list(enumerate(expected(folder, split)))):
        sample = data[index]
        assert (sample["__key__"], int(sample[".cls"].read())) == (key, label)
        assert (sample.get(".jpg") or sample.get(".png")).read() == image


# --- the side indexes themselves --------------------------------------------------------------


def test_side_indexes_say_what_the_manifest_says(folder, contents):
    manifest = Manifest.read(folder)
    indexes = side_indexes(manifest)
    assert sorted(indexes) == ["_info.json", "train.wids", "val.wids"]
    for name, value in indexes.items():
        assert json.loads(contents(folder)[name]) == value
    info = indexes["_info.json"]["splits"]
    for split, shards in manifest.splits.items():
        assert info[split] == {
            "name": split,
            "num_samples": sum(shard.samples for shard in shards),
            "filenames": [shard.name for shard in shards],
            "shard_lengths": [shard.samples for shard in shards],
        }
        assert indexes[f"{split}.wids"]["wids_version"] == 1
        assert indexes[f"{split}.wids"]["shardlist"] == [
            {"url": shard.name, "nsamples": shard.samples} for shard in shards
        ]


@pytest.mark.skipif(not os.path.exists("/bin/tar"), reason="no tar command")
def test_tar_command_lists_the_members(written):
    listing = subprocess.run(
        ["/bin/tar", "tvf", written / "val-000000.tar"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(listing) == 18
    assert all(line.startswith("-rw-r--r-- 0/0 ") and "1970-01-01" in line for line in listing)


def test_importing_the_writer_does_not_bring_torch(environment):
    # torch costs every worker process a second and 180 MB.
    program = "import sys, etc_data.shards, etc_data.shards.writer; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def test_images_open_as_ordinary_files(folder):
    for _, _, data in expected(folder):
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert (image.format, image.mode, image.size) in (
                ("JPEG", "RGB", (48, 48)),
                ("PNG", "RGB", (48, 48)),
            )
