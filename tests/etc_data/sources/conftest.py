"""Small pictures, and what every reader must do: read the same in this process and in others."""

import io
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from operator import methodcaller

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def picture():
    """picture(seed, "PNG", mode="L", size=(12, 16)) gives the bytes of a file."""

    def make(seed: int, form: str = "JPEG", *, mode: str = "RGB", size=(12, 16), **options) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, form, **options)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def other_process():
    """other_process(item) gives what a spawned process reads; it is one for all tests."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        yield lambda item: pool.submit(methodcaller("read"), item).result(timeout=60)


@pytest.fixture
def contents(other_process):
    """contents(source, split) gives (id, label, bytes) of all items, read in four ways alike."""

    def read(source, split: str = "train") -> list[tuple[str, int, bytes]]:
        items = source.items(split)
        found = [(item.id, item.label, item.read()) for item in items]
        copy = pickle.loads(pickle.dumps(source)).items(split)
        assert [(item.id, item.label, item.read()) for item in copy] == found
        for item in items:
            assert pickle.loads(pickle.dumps(item)) == item
            assert len(pickle.dumps(item)) < 1200
        for index in {0, len(items) - 1}:
            assert other_process(items[index]) == found[index][2]
        assert [item.id for item in items[1:]] == [name for name, _, _ in found[1:]]
        assert items[-1] == items[len(items) - 1]
        with pytest.raises(IndexError):
            items[len(items)]
        assert len({name for name, _, _ in found}) == len(found)
        return found

    return read
