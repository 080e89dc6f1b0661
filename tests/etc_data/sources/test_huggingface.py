import csv
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from etc_data.errors import SourceError, UnreadableImageError
from etc_data.sources import HuggingFaceDataset, ImageFolder, Source, huggingface, load_rgb

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    """The library, offline and with its cache in a folder of the tests."""
    datasets = pytest.importorskip("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield datasets


@pytest.fixture
def table(datasets, picture):
    """table(count, {column: type}, column=values) gives a data set with images in "image"."""

    def make(count: int, types: dict[str, object] | None = None, **columns):
        images = [{"bytes": picture(row), "path": f"{row}.jpg"} for row in range(count)]
        features = datasets.Features({"image": datasets.Image(), **(types or {})})
        return datasets.Dataset.from_dict({"image": images, **columns}, features)

    return make


def listed(source: HuggingFaceDataset, split: str = "train") -> list[tuple[str, int]]:
    return [(item.id, item.label) for item in source.items(split)]


def labels(source: HuggingFaceDataset, split: str = "train") -> list[int]:
    return [item.label for item in source.items(split)]


# --- local data sets --------------------------------------------------------------------------


def test_folder_of_images_is_read_as_stored(tmp_path, picture, contents):
    for number, name in enumerate(("train/dog/1.jpg", "train/cat/1.jpg", "train/cat/2.jpg")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (tmp_path / "test/cat").mkdir(parents=True)
    (tmp_path / "test/cat/3.jpg").write_bytes(picture(3))
    source: Source = HuggingFaceDataset(tmp_path)
    assert source.splits == ("train", "test")
    assert source.class_names == ("cat", "dog")
    assert source.strays == ()
    assert contents(source) == [
        ("train/000000000", 0, picture(1)),
        ("train/000000001", 0, picture(2)),
        ("train/000000002", 1, picture(0)),
    ]
    assert contents(source, "test") == [("test/000000000", 0, picture(3))]
    with pytest.raises(SourceError, match="'val' does not exist; there are train, test"):
        source.items("val")


def test_parquet_of_datasets_is_read(tmp_path, datasets, table, picture, contents):
    types = {"label": datasets.ClassLabel(names=["b", "a"])}
    table(30, types, label=[row % 2 for row in range(30)]).to_parquet(
        tmp_path / "train-00000-of-00001.parquet", batch_size=7
    )
    expected = [(f"train/{row:09d}", row % 2, picture(row)) for row in range(30)]
    for path in (tmp_path, tmp_path / "train-00000-of-00001.parquet"):
        source = HuggingFaceDataset(path)
        assert source.class_names == ("b", "a")
        assert contents(source) == expected


def test_parquet_of_others_is_read(tmp_path, picture, contents):
    rows = [{"bytes": picture(row), "path": None} for row in range(4)]
    pq.write_table(pa.table({"picture": rows, "label": [3, 0, 1, 1]}), tmp_path / "x.parquet")
    source = HuggingFaceDataset(tmp_path)
    assert source.class_names == ("0", "1", "2", "3")
    assert [label for _, label, _ in contents(source)] == [3, 0, 1, 1]


def test_column_of_bare_bytes_is_taken_when_it_is_named(tmp_path, picture):
    pq.write_table(pa.table({"data": [picture(1)], "x": [0]}), tmp_path / "x.parquet")
    with pytest.raises(SourceError, match="no column is known to hold images; there are data, x"):
        HuggingFaceDataset(tmp_path)
    source = HuggingFaceDataset(tmp_path, image_column="data")
    assert [item.read() for item in source.items("train")] == [picture(1)]


def test_saved_data_sets_are_read(tmp_path, datasets, table, picture, contents):
    whole = table(20, {"label": datasets.Value("int32")}, label=list(range(20)))
    parts = datasets.DatasetDict({"extra": whole.select([3]), "validation": whole, "train": whole})
    parts.save_to_disk(tmp_path / "dict", num_shards={"extra": 1, "validation": 3, "train": 1})
    source = HuggingFaceDataset(tmp_path / "dict")
    assert source.splits == ("train", "validation", "extra")
    expected = [(f"validation/{row:09d}", row, picture(row)) for row in range(20)]
    assert contents(source, "validation") == expected
    assert contents(source, "extra") == [("extra/000000000", 3, picture(3))]

    whole.shuffle(seed=1).select(range(5, 9)).save_to_disk(tmp_path / "one")
    rows = whole.shuffle(seed=1)["label"][5:9]
    assert [label for _, label, _ in contents(HuggingFaceDataset(tmp_path / "one"))] == rows


def test_arrow_files_are_read(tmp_path, table, picture, contents):
    table(3).save_to_disk(tmp_path / "saved")
    arrow = next((tmp_path / "saved").glob("*.arrow"))
    assert [data for _, _, data in contents(HuggingFaceDataset(arrow))] == [
        picture(i) for i in range(3)
    ]


def test_rows_are_those_of_datasets(tmp_path, datasets, table):
    table(50, {"label": datasets.Value("int64")}, label=list(range(50))).to_parquet(
        tmp_path / "x.parquet"
    )
    theirs = datasets.load_dataset(str(tmp_path), split="train")
    ours = HuggingFaceDataset(tmp_path).items("train")
    for row in (0, 17, 49):
        assert ours[row].label == theirs[row]["label"]
        assert np.array_equal(load_rgb(ours[row].read()), theirs[row]["image"].convert("RGB"))


def test_same_folder_gives_the_same_items_again_and_after_a_change(tmp_path, picture):
    for name in ("b/1.jpg", "a/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(picture(1))
    first = HuggingFaceDataset(tmp_path)
    assert list(HuggingFaceDataset(tmp_path).items("train")) == list(first.items("train"))
    (tmp_path / "a/2.jpg").write_bytes(picture(2))
    assert labels(HuggingFaceDataset(tmp_path)) == [0, 0, 1]


def test_saved_data_set_that_was_written_anew_is_read_anew(tmp_path, datasets, table, picture):
    for count in (3, 5):
        table(count).save_to_disk(tmp_path)
        items = HuggingFaceDataset(tmp_path).items("train")
        assert [item.read() for item in items] == [picture(row) for row in range(count)]


def test_orientation_is_left_to_load_rgb(tmp_path, table, datasets):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (16, 8)).save(file, "JPEG", exif=exif)
    features = datasets.Features({"image": datasets.Image()})
    rows = {"image": [{"bytes": file.getvalue(), "path": None}]}
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "x.parquet")
    data = HuggingFaceDataset(tmp_path).items("train")[0].read()
    assert data == file.getvalue()
    assert load_rgb(data).size == (8, 16)


def test_workers_do_not_import_datasets(tmp_path, table):
    table(2).to_parquet(tmp_path / "x.parquet")
    item = HuggingFaceDataset(tmp_path).items("train")[1]
    (tmp_path / "item").write_bytes(pickle.dumps(item))
    script = (
        "import pickle, sys; item = pickle.load(open(sys.argv[1], 'rb')); item.read();"
        "print({'datasets', 'torch', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "item")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"


def test_local_data_sets_show_no_progress_bar(tmp_path, datasets, table, capfd):
    table(2).to_parquet(tmp_path / "x.parquet")
    before = datasets.are_progress_bars_disabled()
    capfd.readouterr()
    HuggingFaceDataset(tmp_path)
    assert "%" not in "".join(capfd.readouterr())
    assert datasets.are_progress_bars_disabled() == before


# --- splits -----------------------------------------------------------------------------------


def test_one_split_can_be_asked_for(tmp_path, datasets, table):
    datasets.DatasetDict({"train": table(3), "test": table(2)}).save_to_disk(tmp_path)
    source = HuggingFaceDataset(tmp_path, "test")
    assert source.splits == ("test",)
    assert len(source.items("test")) == 2
    for split in ("val", "train[:2]"):
        with pytest.raises(SourceError, match="does not exist; there are train, test"):
            HuggingFaceDataset(tmp_path, split)


def test_empty_split_is_no_split_and_a_data_set_of_none_raises(tmp_path, datasets, table):
    datasets.DatasetDict({"train": table(3), "test": table(1)}).save_to_disk(tmp_path)
    arrow = next((tmp_path / "test").glob("*.arrow"))
    schema = pa.ipc.open_stream(arrow.read_bytes()).schema
    with pa.ipc.new_stream(arrow, schema):
        pass
    assert HuggingFaceDataset(tmp_path).splits == ("train",)
    with pytest.raises(SourceError, match="holds no row"):
        HuggingFaceDataset(tmp_path, "test")


def test_rows_that_are_not_those_of_the_files_are_never_taken_for_them(
    tmp_path, datasets, table, monkeypatch
):
    table(5).save_to_disk(tmp_path)
    selected = datasets.load_from_disk(tmp_path).select([4, 2])
    monkeypatch.setattr(datasets, "load_from_disk", lambda *_, **__: selected)
    with pytest.raises(SourceError, match="split 'train' is a selection of the rows"):
        HuggingFaceDataset(tmp_path)


# --- columns and labels -----------------------------------------------------------------------


def test_several_image_columns_raise_until_one_is_named(tmp_path, datasets, table, picture):
    rows = [{"bytes": picture(9), "path": None}] * 2
    table(2, {"mask": datasets.Image()}, mask=rows).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(SourceError, match="several columns hold images: image, mask") as caught:
        HuggingFaceDataset(tmp_path)
    assert "image_column" in caught.value.hint
    source = HuggingFaceDataset(tmp_path, image_column="mask")
    assert source.items("train")[0].read() == picture(9)


def test_several_class_columns_raise_until_one_is_named(tmp_path, datasets, table):
    fine, coarse = datasets.ClassLabel(names=["x", "y"]), datasets.ClassLabel(names=["z"])
    types = {"fine": fine, "coarse": coarse}
    table(2, types, fine=[1, 0], coarse=[0, 0]).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(SourceError, match="several columns hold classes: fine, coarse"):
        HuggingFaceDataset(tmp_path)
    source = HuggingFaceDataset(tmp_path, label_column="fine")
    assert (source.class_names, labels(source)) == (("x", "y"), [1, 0])


@pytest.mark.parametrize("option", ["image_column", "label_column"])
def test_column_that_does_not_exist_raises(tmp_path, table, option):
    table(2).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(SourceError, match="there is no column 'x'; there are image"):
        HuggingFaceDataset(tmp_path, **{option: "x"})


def test_no_label_column_means_no_labels(tmp_path, datasets, table):
    table(2, {"age": datasets.Value("int64")}, age=[1, 2]).to_parquet(tmp_path / "x.parquet")
    source = HuggingFaceDataset(tmp_path)
    assert (source.class_names, labels(source)) == ((), [-1, -1])


def test_labels_of_text_are_numbered_in_sorted_order_over_all_splits(tmp_path, datasets, table):
    types = {"label": datasets.Value("string")}
    parts = {
        "train": table(3, types, label=["dog", "cat", "dog"]),
        "test": table(1, types, label=["a"]),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path)
    source = HuggingFaceDataset(tmp_path)
    assert source.class_names == ("a", "cat", "dog")
    assert (labels(source), labels(source, "test")) == ([2, 1, 2], [0])


def test_labels_of_a_metadata_table_are_read(tmp_path, picture):
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "label"), ("1.jpg", "yes"), ("2.jpg", "no")])
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").write_bytes(picture(number))
    source = HuggingFaceDataset(tmp_path)
    assert (source.class_names, labels(source)) == (("no", "yes"), [1, 0])


def test_truth_values_are_two_classes(tmp_path, datasets, table):
    types = {"label": datasets.Value("bool")}
    table(3, types, label=[True, False, True]).to_parquet(tmp_path / "x.parquet")
    source = HuggingFaceDataset(tmp_path)
    assert (source.class_names, labels(source)) == (("0", "1"), [1, 0, 1])


def test_split_without_labels_is_taken_and_a_gap_raises(tmp_path, datasets, table):
    types = {"label": datasets.ClassLabel(names=["a", "b"])}
    train, test = table(2, types, label=[0, 1]), table(2, types, label=[-1, -1])
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "good")
    source = HuggingFaceDataset(tmp_path / "good")
    assert (labels(source), labels(source, "test")) == ([0, 1], [-1, -1])
    assert source.class_names == ("a", "b")
    assert HuggingFaceDataset(tmp_path / "good", "test").class_names == ()
    table(3, types, label=[0, None, 1]).save_to_disk(tmp_path / "gap")
    with pytest.raises(SourceError, match=r"1 of 3 images of split 'train'.*: train/000000001$"):
        HuggingFaceDataset(tmp_path / "gap")


def test_splits_with_different_classes_raise(tmp_path, datasets, table):
    parts = {
        split: table(2, {"label": datasets.ClassLabel(names=names)}, label=[0, 1])
        for split, names in {"train": ["a", "b"], "test": ["b", "a"]}.items()
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path)
    with pytest.raises(SourceError, match="do not agree on the classes of column 'label'"):
        HuggingFaceDataset(tmp_path)


def test_label_without_a_name_raises(tmp_path, datasets, table):
    types = {"label": datasets.ClassLabel(names=["a", "b"])}
    table(3, types, label=[0, 1, 1]).save_to_disk(tmp_path)
    info = tmp_path / "dataset_info.json"
    info.write_text(info.read_text().replace('"b"', "").replace('"a",', '"a"'))
    with pytest.raises(SourceError, match="label 1 has no name; column 'label' names 1 classes"):
        HuggingFaceDataset(tmp_path)


@pytest.mark.parametrize("values", [[0.5, 1.0], [[0], [1]], [{"x": 1}, {"x": 2}]])
def test_labels_of_another_type_raise(tmp_path, picture, values):
    rows = [{"bytes": picture(row), "path": None} for row in range(2)]
    pq.write_table(pa.table({"image": rows, "label": values}), tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=r"column 'label' holds .*, not classes"):
        HuggingFaceDataset(tmp_path)


# --- errors -----------------------------------------------------------------------------------


def test_missing_package_raises_and_tells_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SourceError, match="datasets is missing") as caught:
        HuggingFaceDataset(tmp_path)
    assert caught.value.hint == "pip install 'etc-data[hf]'"


def test_data_set_that_is_nowhere_raises_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("nobody/nothing", "nothing", str(tmp_path / "missing"), tmp_path / "empty"):
        with pytest.raises(SourceError, match="cannot be loaded: ") as caught:
            HuggingFaceDataset(name)
        assert "\n" not in str(caught.value)


def test_file_of_another_kind_raises(tmp_path, picture):
    (tmp_path / "x.jpg").write_bytes(picture(1))
    with pytest.raises(SourceError, match="neither Parquet nor Arrow"):
        HuggingFaceDataset(tmp_path / "x.jpg")


def test_encrypted_folder_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": "etc-data-shards/1"}')
    with pytest.raises(SourceError, match="already encrypted"):
        HuggingFaceDataset(tmp_path)


def test_row_without_an_image_fails_on_reading_without_a_path(tmp_path, picture):
    rows = [None, {"bytes": None, "path": "/patient/17.jpg"}, {"bytes": picture(1), "path": None}]
    pq.write_table(pa.table({"image": rows}), tmp_path / "x.parquet")
    items = HuggingFaceDataset(tmp_path).items("train")
    for row, reason in ((0, "holds no image"), (1, "cannot be read")):
        with pytest.raises(UnreadableImageError, match=reason) as caught:
            items[row].read()
        assert "patient" not in str(caught.value)
    assert items[2].read() == picture(1)


def test_arrow_file_that_has_gone_fails_on_reading(tmp_path, table):
    table(2).save_to_disk(tmp_path / "patient")
    items = HuggingFaceDataset(tmp_path / "patient").items("train")
    huggingface._column.cache_clear()
    next((tmp_path / "patient").glob("*.arrow")).unlink()
    with pytest.raises(UnreadableImageError, match="cannot be read any more") as caught:
        items[0].read()
    assert "patient" not in str(caught.value)


# --- real images ------------------------------------------------------------------------------


def test_real_folder_gives_the_images_and_classes_of_image_folder(pictures):
    ours = ImageFolder(pictures / "imagenette224")
    theirs = HuggingFaceDataset(pictures / "imagenette224")
    assert theirs.class_names == ours.class_names
    assert theirs.splits == ("train", "validation")
    expected = [(item.label, item.read()) for item in ours.items("val")]
    assert [(item.label, item.read()) for item in theirs.items("validation")] == expected
