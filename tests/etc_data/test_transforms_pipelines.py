"""`Encrypt` at work: DataLoader workers, timm, Hugging Face datasets and torch.compile."""

import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
import torchvision
from torchvision import tv_tensors
from torchvision.transforms import v2

from etc_data import Cipher, SecretKey
from etc_data.errors import NonceError, PlainLeakError
from etc_data.transforms import Decrypt, Encrypt

KEY = SecretKey(bytes(range(32)))
FIXED = Cipher("etc-8", KEY)
PER_IMAGE = Cipher("etc-8", KEY, key_scope="image")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Writes 12 pictures of three classes and returns their folder."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(12):
        path = root / "abc"[number % 3] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        array = generator.integers(0, 256, (40, 30 + number, 3), np.uint8)
        PIL.Image.fromarray(array).save(path)
    return root


def chain(encrypt):
    return v2.Compose([v2.CenterCrop(24), encrypt, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def plain_batch(folder):
    dataset = torchvision.datasets.ImageFolder(folder, chain(v2.Identity()))
    return torch.stack([image for image, _ in dataset]), [label for _, label in dataset]


def loaded(dataset, **options):
    batches = iter(torch.utils.data.DataLoader(dataset, batch_size=4, **options))
    try:
        return list(batches)
    finally:
        if options["num_workers"]:
            # Left to the garbage collector, a loader that failed waits 5 s for its workers.
            batches._shutdown_workers()


# -- DataLoader ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_forked_workers_encrypt_alike(folder, workers):
    dataset = torchvision.datasets.ImageFolder(folder, chain(Encrypt(FIXED)))
    plain, labels = plain_batch(folder)
    context = {"multiprocessing_context": "fork"} if workers else {}
    batches = loaded(dataset, num_workers=workers, **context)
    images = torch.cat([images for images, _ in batches])
    assert torch.cat([labels for _, labels in batches]).tolist() == labels
    torch.testing.assert_close(images, FIXED.encrypt(plain), atol=1e-6, rtol=0)
    torch.testing.assert_close(Decrypt(FIXED)(images), plain, atol=1e-6, rtol=0)


def test_forked_workers_never_share_a_nonce(folder):
    encrypt = v2.Compose([v2.CenterCrop(24), Encrypt(PER_IMAGE, return_nonce=True), v2.ToImage()])
    dataset = torchvision.datasets.ImageFolder(folder, encrypt)
    nonces = []
    for _ in range(2):
        torch.manual_seed(0)
        for (_, batch_nonces), _ in loaded(dataset, num_workers=2, multiprocessing_context="fork"):
            nonces += batch_nonces
    assert len(nonces) == 24
    assert len(set(nonces)) == 24


# A program as a user would write it. Spawned workers import it anew.
PROGRAM = """
import json
import sys

import torch

from etc_data import Cipher, SecretKey
from etc_data.transforms import Decrypt, Encrypt
import torchvision
from torchvision.transforms import v2

if __name__ == "__main__":
    cipher = Cipher("etc-8", SecretKey(bytes(range(32))), key_scope="image")
    encrypt = v2.Compose([v2.CenterCrop(24), Encrypt(cipher, return_nonce=True), v2.ToImage()])
    dataset = torchvision.datasets.ImageFolder(sys.argv[1], encrypt)
    plain = torchvision.datasets.ImageFolder(sys.argv[1], v2.Compose([v2.CenterCrop(24), v2.ToImage()]))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=3, num_workers=2, multiprocessing_context="spawn"
    )
    equal, nonces = [], []
    for (images, batch_nonces), labels in loader:
        decrypted, _ = Decrypt(cipher)(images, batch_nonces)
        for image, label in zip(decrypted, labels.tolist()):
            expected, expected_label = plain[len(equal)]
            equal.append(bool((image == expected).all()) and label == expected_label)
        nonces += [nonce.hex() for nonce in batch_nonces]
    print(json.dumps({"equal": equal, "nonces": nonces}))
"""


def test_spawned_workers_encrypt_with_nonces_of_their_own(folder, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, "utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, program, folder],
        env=environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["equal"] == [True] * 12
    assert len(set(told["nonces"])) == 12
    assert "etc_data" not in done.stderr


def test_error_of_a_worker_arrives_as_it_is(folder):
    dataset = torchvision.datasets.ImageFolder(
        folder, v2.Compose([v2.ToImage(), TwoViews(), Encrypt(FIXED)])
    )
    with pytest.raises(PlainLeakError, match="found 2 images"):
        loaded(dataset, num_workers=1, multiprocessing_context="fork")


class TwoViews:
    def __call__(self, image):
        return image, image


def test_generator_is_refused_in_workers(folder):
    encrypt = Encrypt(PER_IMAGE, generator=np.random.default_rng(0))
    dataset = torchvision.datasets.ImageFolder(folder, chain(encrypt))
    assert len(loaded(dataset, num_workers=0)) == 3
    with pytest.raises(NonceError, match="would draw the same nonces in every DataLoader worker"):
        loaded(dataset, num_workers=1, multiprocessing_context="fork")


def test_dataset_of_tv_tensors_with_boxes_is_refused():
    boxes = tv_tensors.BoundingBoxes([[0, 0, 4, 4]], format="XYXY", canvas_size=(16, 16))
    sample = (tv_tensors.Image(torch.zeros(3, 16, 16)), {"boxes": boxes, "labels": torch.tensor([1])})
    with pytest.raises(PlainLeakError, match="BoundingBoxes"):
        v2.Compose([v2.RandomHorizontalFlip(), Encrypt(FIXED)])(sample)


# -- other libraries ----------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_encrypt_stands_in_a_chain_of_timm(training):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own
        from timm.data import create_transform
    made = create_transform(
        input_size=(3, 32, 32), is_training=training, auto_augment=None, re_prob=0.0
    )
    names = [type(step).__name__ for step in made.transforms]
    at = next(number for number, name in enumerate(names) if name in ("MaybeToTensor", "ToTensor"))
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8))
    random.seed(3)
    torch.manual_seed(3)
    plain = made(picture)
    made.transforms.insert(at, Encrypt(FIXED))
    random.seed(3)
    torch.manual_seed(3)
    encrypted = made(picture)
    normalize = made.transforms[-1]
    mean, std = (torch.as_tensor(part)[:, None, None] for part in (normalize.mean, normalize.std))
    expected = (FIXED.encrypt((plain * std + mean).clamp(0, 1)) - mean) / std
    torch.testing.assert_close(encrypted, expected, atol=1e-5, rtol=0)


def test_encrypt_works_in_a_hugging_face_dataset(tmp_path):
    datasets = pytest.importorskip("datasets")
    arrays = [
        np.random.default_rng(number).integers(0, 256, (16, 24, 3), np.uint8) for number in range(4)
    ]
    paths = []
    for number, array in enumerate(arrays):
        paths.append(str(tmp_path / f"{number}.png"))
        PIL.Image.fromarray(array).save(paths[-1])
    dataset = datasets.Dataset.from_dict({"image": paths, "label": [0, 1, 0, 1]})
    dataset = dataset.cast_column("image", datasets.Image())
    encrypt = Encrypt(FIXED)

    def encrypted(rows):
        rows["image"] = [encrypt(image) for image in rows["image"]]
        return rows

    dataset = dataset.with_transform(encrypted)
    for number, array in enumerate(arrays):
        row = dataset[number]
        assert (np.asarray(row["image"]) == FIXED.encrypt(array)).all()
        assert getattr(row["image"], "filename", "") == ""
        assert row["label"] == number % 2


# -- torch.compile ------------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", [FIXED, PER_IMAGE], ids=["dataset", "image"])
@pytest.mark.parametrize("container", [lambda image: image, lambda image: (image, 3)])
def test_compiled_function_around_it_equals_eager(cipher, container):
    encrypt = Encrypt(cipher, return_nonce=cipher is PER_IMAGE)

    def step(sample):
        return encrypt(sample)

    torch.compiler.reset()
    compiled = torch.compile(step, backend="eager")
    image = torch.rand(2, 3, 16, 24)
    for _ in range(2):
        output = compiled(container(image))
        if cipher is PER_IMAGE:
            output, nonces = output
            assert len(set(nonces)) == 2
        else:
            nonces = None
        encrypted = output[0] if isinstance(output, tuple) else output
        assert torch.equal(encrypted, cipher.encrypt(image, nonce=nonces))


def test_compiled_arithmetic_around_it_equals_eager():
    encrypt, decrypt = Encrypt(FIXED), Decrypt(FIXED)

    def step(image):
        return decrypt(encrypt(image * 0.5)) + 1

    image = torch.rand(3, 16, 24)
    torch.compiler.reset()
    assert torch.equal(torch.compile(step, backend="eager")(image), step(image))


def test_compiled_function_still_refuses_leaks():
    encrypt = Encrypt(FIXED)
    image = torch.rand(3, 16, 24)
    torch.compiler.reset()
    with pytest.raises(PlainLeakError, match="a second tensor"):
        torch.compile(lambda a, b: encrypt(a, b), backend="eager")(image, image)
