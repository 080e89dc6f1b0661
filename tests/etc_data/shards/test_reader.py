import gc
import pickle
import shutil
from collections import Counter
from operator import attrgetter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from etc_data.cipher import Cipher
from etc_data.codecs import PngCodec, decode
from etc_data.errors import DamagedShardError, ManifestError, WrongKeyError
from etc_data.keys import SecretKey
from etc_data.shards import EtcShards, Sample, open_shards, verify_shards, write_shards

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes")


def keys_of(samples) -> list[str]:
    return [sample.key for sample in samples]


@pytest.fixture(scope="module")
def single(tmp_path_factory, source, key):
    """`source` in one shard a split."""
    out = tmp_path_factory.mktemp("single") / "out"
    write_shards(source, out, Cipher("etc-16", key), size=48, codec=PngCodec())
    return out


ALL = [f"train-{i:09d}" for i in range(27)] + [f"val-{i:09d}" for i in range(6)]


# --- what comes out ---------------------------------------------------------------------------


def test_samples_come_in_the_order_of_the_files(written):
    assert keys_of(open_shards(written, form="sample")) == ALL
    assert keys_of(open_shards(str(written), split="val", form="sample")) == ALL[27:]


def test_forms_hold_the_same_pixels_and_labels(written):
    tensors, arrays, pictures, samples = (
        list(open_shards(written, form=form)) for form in ("tensor", "numpy", "pil", "sample")
    )
    assert len(tensors) == len(arrays) == len(pictures) == len(samples) == 33
    for i, sample in enumerate(samples):
        (tensor, *labels), (array, *more), (picture, *again) = tensors[i], arrays[i], pictures[i]
        assert labels == more == again == [sample.label]
        assert type(sample) is Sample and type(sample.label) is int
        assert type(tensor) is torch.Tensor and tensor.dtype == torch.uint8 and tensor.is_contiguous()
        assert tuple(tensor.shape) == (3, 48, 48)
        assert array.dtype == np.uint8 and array.shape == (48, 48, 3)
        assert isinstance(picture, Image.Image) and picture.mode == "RGB" and not picture.info
        assert np.array_equal(array, decode(sample.image))
        assert np.array_equal(array, tensor.permute(1, 2, 0).numpy())
        assert np.array_equal(array, np.asarray(picture))


def test_labels_are_minus_one_where_there_are_none(tmp_path, source, key):
    write_shards(source, tmp_path / "out", Cipher("etc-16", key), size=48, labels=False)
    assert {label for _, label in open_shards(tmp_path / "out")} == {-1}


def test_transform_is_applied_to_the_image_alone(written):
    data = open_shards(written, form="numpy", transform=lambda image: image[0, 0, 0] * 0 + 9)
    labels = [label for _, label in open_shards(written, form="numpy")]
    assert list(data) == [(9, label) for label in labels]
    assert list(open_shards(written, form="sample", transform=attrgetter("key"))) == ALL


def test_decrypt_transform_gives_the_plain_image_back(single, source, key):
    from etc_data.transforms import Decrypt

    cipher = verify_shards(single).cipher(key)
    decrypted = open_shards(single, transform=Decrypt(cipher))
    for (plain, label), sample in zip(decrypted, open_shards(single, form="sample"), strict=True):
        expected = cipher.decrypt(decode(sample.image))
        assert np.array_equal(plain.permute(1, 2, 0).numpy(), expected)
        assert label == sample.label
    images = {
        np.asarray(
            Image.open(path).resize((61, 48), Image.Resampling.BICUBIC).crop((6, 0, 54, 48))
        ).tobytes()
        for path in source.rglob("*.jpg")
    }
    assert {plain.permute(1, 2, 0).numpy().tobytes() for plain, _ in decrypted} == images


@pytest.mark.parametrize("error", [ValueError("mine"), DamagedShardError("mine"), KeyError("mine")])
@pytest.mark.parametrize("form", ["tensor", "sample"])
def test_error_of_a_transform_passes_as_it_is(written, form, error):
    def fail(_):
        raise error

    with pytest.raises(type(error)) as caught:
        next(iter(open_shards(written, form=form, transform=fail)))
    assert caught.value is error


def test_batches_are_collated(written):
    images, labels = next(iter(DataLoader(open_shards(written), batch_size=8)))
    assert images.shape == (8, 3, 48, 48) and images.dtype == torch.uint8
    assert labels.shape == (8,) and labels.dtype == torch.int64


def test_repr_tells_what_is_read(written, key):
    text = repr(open_shards(written, shuffle=True, seed=3))
    assert "33 samples in 4 shards" in text and "'etc-16'" in text and key.id in text
    assert "shuffled by seed 3" in text
    assert "in file order" in repr(open_shards(written))


# --- every sample once ------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("folder", "shuffle"),
    [
        ("written", True),
        ("single", False),
        pytest.param("written", False, marks=pytest.mark.slow),
        pytest.param("single", True, marks=pytest.mark.slow),
    ],
)
def test_every_sample_comes_once_over_ranks_and_workers(request, folder, world_size, shuffle):
    folder = request.getfixturevalue(folder)
    for workers in (0, 1, 2, 4):
        counts, lengths = Counter(), []
        for rank in range(world_size):
            data = open_shards(
                folder,
                shuffle=shuffle,
                form="sample",
                transform=attrgetter("key"),
                ranks="exact",
                rank=rank,
                world_size=world_size,
            )
            mine = [
                key for batch in DataLoader(data, batch_size=4, num_workers=workers) for key in batch
            ]
            assert len(mine) == len(data)
            counts.update(mine)
            lengths.append(len(mine))
        assert counts == Counter(ALL)
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("world_size", [40, 100])
def test_more_ranks_than_samples_leave_some_without(written, world_size):
    shares = [
        keys_of(open_shards(written, form="sample", rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert [key for share in shares for key in share] == ALL
    assert {len(share) for share in shares} == {0, 1}


def test_more_workers_than_samples_are_no_error(written):
    data = open_shards(written, split="val", form="sample", transform=attrgetter("key"))
    assert sorted(DataLoader(data, batch_size=None, num_workers=8)) == ALL[27:]


def test_length_is_that_of_the_rank(written):
    data = open_shards(written)
    assert (len(data), data.samples) == (33, 33)
    assert len(open_shards(written, split="val")) == 6
    ranks = [open_shards(written, rank=rank, world_size=5) for rank in range(5)]
    assert [len(data) for data in ranks] == [6, 7, 6, 7, 7]
    assert {data.samples for data in ranks} == {33}


# --- equal ranks and whole batches --------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("ranks", ["pad", "drop"])
def test_ranks_give_equal_shares_of_one_order(written, ranks, shuffle):
    whole = keys_of(open_shards(written, shuffle=shuffle, seed=6, form="sample"))
    shares = []
    for rank in range(4):
        data = open_shards(
            written, shuffle=shuffle, seed=6, form="sample", ranks=ranks, rank=rank, world_size=4
        )
        shares.append(keys_of(data))
        assert len(data) == len(shares[-1]) == (9 if ranks == "pad" else 8)
        assert data.samples == 33
    given = [key for share in shares for key in share]
    assert given == (whole + whole[:3] if ranks == "pad" else whole[:32])


def test_shares_are_padded_where_the_order_is_new_every_epoch(written):
    lengths = {
        shuffle: [
            len(open_shards(written, shuffle=shuffle, rank=rank, world_size=2)) for rank in (0, 1)
        ]
        for shuffle in (False, True)
    }
    assert lengths == {False: [16, 17], True: [17, 17]}


def test_who_is_dropped_differs_by_epoch(written):
    data = [
        open_shards(written, shuffle=True, form="sample", ranks="drop", rank=rank, world_size=4)
        for rank in range(4)
    ]
    dropped = set()
    for epoch in range(10):
        for share in data:
            share.set_epoch(epoch)
        dropped |= set(ALL) - {key for share in data for key in keys_of(share)}
    assert len(dropped) > 4


@pytest.mark.parametrize("batch_size", [4, 5, 11, 40])
def test_loader_has_as_many_batches_as_it_says(written, batch_size):
    """33 samples in batches of 4, 5, 11 and 40: a short last batch, short, none, the only one."""
    for rank, workers in ((0, 0), (0, 2), (1, 3), (0, 9)):
        data = open_shards(
            written,
            shuffle=True,
            form="sample",
            transform=attrgetter("key"),
            rank=rank,
            world_size=2,
            batch_size=batch_size,
        )
        loader = DataLoader(data, batch_size=batch_size, num_workers=workers, collate_fn=list)
        batches = list(loader)
        assert len(batches) == len(loader) == -(-17 // batch_size)
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert sorted(key for batch in batches for key in batch) == sorted(data)
        loader = DataLoader(
            data, batch_size=batch_size, num_workers=workers, collate_fn=list, drop_last=True
        )
        full = list(loader)
        assert full == batches[: 17 // batch_size]
        assert len(full) == len(loader)


# --- shuffling --------------------------------------------------------------------------------


def order(folder, seed=0, epoch=0, **options) -> list[str]:
    data = open_shards(folder, shuffle=True, seed=seed, form="sample", **options)
    data.set_epoch(epoch)
    return keys_of(data)


def test_order_follows_from_seed_and_epoch_alone(written, tmp_path):
    orders = {(seed, epoch): order(written, seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len({tuple(keys) for keys in orders.values()}) == 9
    for (seed, epoch), keys in orders.items():
        assert sorted(keys) == ALL != keys
        assert order(written, seed, epoch) == keys
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 (the order must not depend on it)
    copy = shutil.copytree(written, tmp_path / "elsewhere")
    assert order(copy, 2, 2) == orders[2, 2]


def test_ranks_and_workers_share_one_order(written):
    whole = order(written, seed=4, epoch=7)
    for world_size in (2, 3):
        shares = [
            order(written, 4, 7, ranks="exact", rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        assert [key for share in shares for key in share] == whole


def test_shards_and_their_samples_are_both_shuffled(written):
    keys = order(written, split="train")
    shards = [int(key[-9:]) // 9 for key in keys]
    assert [shards[i] for i in (0, 9, 18)] != [0, 1, 2]
    assert all(len(set(shards[i : i + 9])) == 1 for i in (0, 9, 18))
    assert keys[:9] != sorted(keys[:9])


def test_order_without_shuffle_stays(written):
    data = open_shards(written, form="sample")
    data.set_epoch(3)
    assert keys_of(data) == keys_of(data) == ALL


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_epoch_reaches_workers_that_live_on(written, context, workers):
    data = open_shards(written, shuffle=True, seed=1, form="sample", transform=attrgetter("key"))
    loader = DataLoader(
        data,
        batch_size=None,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    seen = []
    for epoch in (0, 1, 5, 1):
        data.set_epoch(epoch)
        seen.append(list(loader))
        assert sorted(seen[-1]) == ALL
        fresh = open_shards(written, shuffle=True, seed=1, form="sample", transform=attrgetter("key"))
        fresh.set_epoch(epoch)
        assert seen[-1] == list(DataLoader(fresh, batch_size=None, num_workers=workers))
    assert seen[0] != seen[1] != seen[2]
    assert seen[1] == seen[3]


@pytest.mark.slow
def test_decrypting_works_in_spawned_workers(written, key):
    from etc_data.transforms import Decrypt

    cipher = verify_shards(written).cipher(key)
    data = open_shards(written, split="val", transform=Decrypt(cipher))
    loader = DataLoader(data, batch_size=3, num_workers=1, multiprocessing_context="spawn")
    for (images, labels), start in zip(loader, (0, 3), strict=True):
        for i in range(3):
            image, label = list(data)[start + i]
            assert torch.equal(images[i], image)
            assert labels[i] == label


def test_pickled_dataset_reads_the_same(written):
    data = open_shards(written, shuffle=True, form="sample")
    data.set_epoch(3)
    assert keys_of(pickle.loads(pickle.dumps(data))) == keys_of(data)


# --- damage -----------------------------------------------------------------------------------


def harm(folder, name="train-000001.tar", place=-1):
    data = bytearray((folder / name).read_bytes())
    data[place] ^= 1
    (folder / name).write_bytes(data)


# After an error, torch waits five seconds for each worker to end.
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_damaged_shard_is_named_before_any_of_its_samples_comes(data_set, workers):
    harm(data_set)
    data = open_shards(data_set, split="train", form="sample", transform=attrgetter("key"))
    seen = []
    with pytest.raises(DamagedShardError, match=r"shard train-000001\.tar was altered"):
        for key in DataLoader(data, batch_size=None, num_workers=workers):
            seen.append(key)
    gc.collect()  # else torch would wait for its workers in some other test
    assert not set(seen) & set(ALL[9:18])
    if workers == 0:
        assert seen == ALL[:9]


@pytest.mark.parametrize("verify", [False, True])
def test_missing_and_cut_shards_are_named_even_unverified(data_set, verify):
    path = data_set / "train-000000.tar"
    data = path.read_bytes()
    path.write_bytes(data[:-10_240])
    with pytest.raises(DamagedShardError, match=r"train-000000\.tar is cut short"):
        next(iter(open_shards(data_set, verify=verify)))
    path.write_bytes(data[:512] + bytes(len(data) - 512))
    with pytest.raises(DamagedShardError, match=r"train-000000\.tar"):
        next(iter(open_shards(data_set, verify=verify)))
    path.unlink()
    with pytest.raises(DamagedShardError, match=r"train-000000\.tar is missing"):
        next(iter(open_shards(data_set, verify=verify)))


def test_verification_can_be_left_out(data_set, written):
    harm(data_set)  # the padding behind the last member
    assert keys_of(open_shards(data_set, form="sample", verify=False)) == ALL
    for (one, label), (other, same) in zip(
        open_shards(data_set, verify=False), open_shards(written), strict=True
    ):
        assert torch.equal(one, other) and label == same


def test_sample_that_cannot_be_decoded_is_named(data_set):
    path = data_set / "val-000000.tar"
    data = path.read_bytes()
    start = data.index(b"\xff\xd8\xff")
    path.write_bytes(data[:start] + b"garbage" + data[start + 7 :])
    for form in ("tensor", "numpy", "pil"):
        with pytest.raises(
            DamagedShardError,
            match=r"shard val-000000.tar: sample val-000000000 cannot be read: .*JPEG",
        ):
            next(iter(open_shards(data_set, split="val", verify=False, form=form)))


# --- what is refused --------------------------------------------------------------------------


def test_wrong_key_and_altered_manifest_are_refused(data_set, key):
    open_shards(data_set, key=key)
    with pytest.raises(WrongKeyError):
        open_shards(data_set, key=SecretKey(bytes(32)))
    text = (data_set / "manifest.json").read_text()
    (data_set / "manifest.json").write_text(text.replace('"context": ""', '"context": "x"'))
    assert isinstance(open_shards(data_set), EtcShards)
    with pytest.raises(ManifestError, match="altered"):
        open_shards(data_set, key=key)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": "test"}, ManifestError, r"there is no split 'test' in .*out; there are train, val"),
        ({"split": ""}, ManifestError, "there is no split ''"),
        ({"form": "jax"}, ValueError, "form is 'jax'"),
        ({"rank": 0}, ValueError, "give both rank and world_size"),
        ({"world_size": 2}, ValueError, "give both rank and world_size"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank 2 is not in 0 … 1"),
        ({"rank": -1, "world_size": 2}, ValueError, "rank -1 is not in"),
        ({"ranks": "half"}, ValueError, "ranks is 'half'; it must be one of exact, pad, drop"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; it must be at least 1"),
        (
            {"ranks": "drop", "rank": 0, "world_size": 40},
            ValueError,
            "33 samples for 40 ranks; choose",
        ),
        ({"seed": -1}, ValueError, "seed is -1; it must be at least 0"),
        ({"seed": "a"}, TypeError, "seed is 'a'; it must be an integer"),
        ({"seed": 1.5}, TypeError, r"seed is 1\.5; it must be an integer"),
        ({"seed": None}, TypeError, "seed is None; it must be an integer"),
        ({"batch_size": "8"}, TypeError, "batch_size is '8'; it must be an integer"),
        ({"batch_size": 8.0}, TypeError, r"batch_size is 8\.0; it must be an integer"),
        ({"batch_size": True}, TypeError, "batch_size is True; it must be an integer"),
        ({"rank": "0", "world_size": 1}, TypeError, "rank is '0'; it must be an integer"),
        ({"rank": 0, "world_size": 1.0}, TypeError, r"world_size is 1\.0; it must be an integer"),
        ({"rank": 0, "world_size": 0}, ValueError, "world_size is 0; it must be at least 1"),
        ({"ranks": ""}, ValueError, "ranks is ''; it must be one of exact, pad, drop"),
        ({"split": ["train"]}, TypeError, r"split is \['train'\]; it must be a name"),
        ({"split": b"train"}, TypeError, "split is b'train'; it must be a name"),
        ({"transform": 3}, TypeError, "transform is a int; it must be a function"),
        ({"cache": "/tmp"}, TypeError, r"cache is a str; it must be a ShardCache\(FOLDER\)"),
        ({"key": b"secret"}, TypeError, r"^a key is a SecretKey, .* not a bytes$"),
    ],
)
def test_unusable_arguments_are_refused_at_once(written, options, error, message):
    with pytest.raises(error, match=message):
        open_shards(written, **options)


def test_integers_of_numpy_and_torch_are_taken(written):
    options = {"seed": 3, "batch_size": 4, "rank": 1, "world_size": 2}
    for kind in (np.int32, torch.tensor):
        data = open_shards(written, shuffle=True, **{name: kind(n) for name, n in options.items()})
        assert data.state_dict() == open_shards(written, shuffle=True, **options).state_dict()
        data.set_epoch(kind(2))
        assert data.state_dict()["epoch"] == 2


@pytest.mark.parametrize("folder", [5, None, b"out", [b"out"], [["out"]]])
def test_what_names_no_folder_is_refused_at_once(folder):
    with pytest.raises(TypeError, match=r"^a data set is named by a path or a URL, not by a "):
        open_shards(folder)


def test_negative_epoch_is_refused_at_once(written):
    with pytest.raises(ValueError, match="epoch is -1"):
        open_shards(written).set_epoch(-1)


@pytest.mark.parametrize(
    ("epoch", "error"),
    [(2**63, ValueError), (2**70, ValueError), (1.5, TypeError), ("1", TypeError), (None, TypeError)],
)
def test_epoch_out_of_range_or_of_another_type_is_refused_and_changes_nothing(written, epoch, error):
    data = open_shards(written)
    data.set_epoch(2**63 - 1)
    with pytest.raises(error, match=r"^epoch is .*; it must be "):
        data.set_epoch(epoch)
    assert data.state_dict()["epoch"] == 2**63 - 1


def test_folder_without_manifest_is_no_data_set(tmp_path):
    with pytest.raises(ManifestError, match="no finished data set"):
        open_shards(tmp_path)
