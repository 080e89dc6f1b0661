"""Encrypted models compile, export, train in parallel and run in half precision like plain ones."""

import copy
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import etc_data
from etc_data import Cipher
from etc_data.models import decrypt_model, encrypt_model, save_encrypted_model

HOME = Path(etc_data.__file__).parents[1]
CASES = [
    ("vit", "ind-16/8", "compact"),
    ("vit", "ind-16", "dense"),
    ("vit", "etc-16", "compact"),
    ("deit", "adaptive-16", "compact"),
    ("convmixer", "shuffle-ind-16", "compact"),
    ("convmixer", "com-16", "compact"),
    ("unfolded", "ind-8", "dense"),
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def case(request, key, make, imagenet):
    """A plain model, its encrypted form and the cipher."""
    kind, scheme, form = request.param
    model, cipher = make(kind), Cipher(scheme, key)
    return model, encrypt_model(model, cipher, image_size=64, form=form, **imagenet), cipher


@pytest.fixture
def images(photos, imagenet):
    """images(cipher) gives normalized encrypted photos, float32 [4, 3, 64, 64]."""

    def prepare(cipher=None, count=4):
        mean, std = (torch.tensor(imagenet[name])[:, None, None] for name in ("mean", "std"))
        chosen = photos[:count] if cipher is None else cipher.encrypt(photos[:count])
        return (chosen / 255 - mean) / std

    return prepare


def test_compiled_without_a_break(case, images):
    model, encrypted, cipher = case
    compiled = torch.compile(encrypted, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.allclose(compiled(images(cipher)), model(images()), atol=2e-5)


@pytest.mark.slow
def test_compiled_to_machine_code(case, images):
    model, encrypted, cipher = case
    compiled = torch.compile(encrypted, fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(images(cipher)), model(images()), atol=2e-5)


def exported(encrypted, example):
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        return torch.export.export(encrypted, (example,), dynamic_shapes=({0: batch},))


def test_exported_for_any_batch(case, images, tmp_path):
    model, encrypted, cipher = case
    program = exported(encrypted, images(cipher, 3))
    torch.export.save(program, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        assert torch.allclose(loaded(images(cipher, 8)), model(images(None, 8)), atol=2e-5)


def check_onnx(case, images, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, encrypted, cipher = case
    program = exported(encrypted, images(cipher, 3))
    torch.onnx.export(program, (), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    (name,) = (entry.name for entry in session.get_inputs())
    (logits,) = session.run(None, {name: images(cipher, 8).numpy()})
    with torch.no_grad():
        assert np.allclose(logits, model(images(None, 8)).numpy(), atol=5e-5)


@pytest.mark.parametrize("case", [("convmixer", "shuffle-ind-16", "compact")], indirect=True)
def test_onnx_gives_the_plain_logits(case, images, tmp_path):
    check_onnx(case, images, tmp_path)


@pytest.mark.slow
def test_onnx_gives_the_plain_logits_of_every_network(case, images, tmp_path):
    check_onnx(case, images, tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("when", ["before", "after"])
def test_half_precision_is_as_exact_as_the_plain_model_in_it(dtype, when, case, images, key, imagenet):
    model, encrypted, cipher = case
    plain = copy.deepcopy(model).to(dtype)
    if when == "before":
        form = "dense" if "Dense" in repr(encrypted) else "compact"
        encrypted = encrypt_model(plain, cipher, image_size=64, form=form, **imagenet)
    else:
        encrypted = encrypted.to(dtype)
    with torch.no_grad():
        exact = model(images())
        plain_error = (plain(images().to(dtype)).float() - exact).abs().max()
        error = (encrypted(images(cipher).to(dtype)).float() - exact).abs().max()
    assert encrypted(images(cipher).to(dtype)).dtype == dtype
    assert error < 4 * plain_error + 4 * torch.finfo(dtype).eps * exact.abs().max()


def test_dense_and_compact_are_the_same_function(key, make, images, imagenet):
    cipher = Cipher("ind-16/8", key)
    forms = [
        encrypt_model(make("deit"), cipher, image_size=64, form=form, **imagenet)
        for form in ("compact", "dense")
    ]
    with torch.no_grad():
        first, second = (model(images(cipher)) for model in forms)
    assert torch.allclose(first, second, atol=1e-5)


def test_gradients_reach_the_shared_matrix(key, make, images, imagenet):
    """One step on encrypted images changes the encrypted model as one on plain images the plain."""
    model, cipher = make("vit").double(), Cipher("ind-16/8", key)
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    encrypted = encrypt_model(model, cipher, image_size=64, **half)
    step(model, images().double())
    mean, std = (torch.tensor(imagenet[name]).double()[:, None, None] for name in ("mean", "std"))
    shown = (images().double() * std + mean) * 2 - 1
    model = make("vit").double()
    step(model, shown)
    step(encrypted, cipher.encrypt((shown + 1).clamp(0, 2) / 2) * 2 - 1)
    trained = decrypt_model(encrypted, cipher)
    for (name, found), wanted in zip(trained.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(found, wanted, atol=1e-9), name


def step(model, batch):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(model(batch), torch.arange(len(batch))).backward()
    optimizer.step()


@pytest.mark.gpu
def test_a_model_on_the_gpu_is_encrypted_and_decrypted_there(case, images, key, imagenet):
    model, _, cipher = case
    model = copy.deepcopy(model).double().cuda()
    for form in ("compact", "dense"):
        encrypted = encrypt_model(model, cipher, image_size=64, form=form, **imagenet)
        assert all(tensor.is_cuda for tensor in (*encrypted.parameters(), *encrypted.buffers()))
        with torch.no_grad():
            plain, logits = (
                m(x.double().cuda()) for m, x in ((model, images()), (encrypted, images(cipher)))
            )
        assert torch.allclose(logits, plain, atol=1e-5)
        decrypted = decrypt_model(encrypted, cipher)
        for found, wanted in zip(decrypted.parameters(), model.parameters(), strict=True):
            assert found.is_cuda and torch.allclose(found, wanted, atol=1e-12)


PARALLEL = textwrap.dedent("""
    import os
    import sys
    import torch
    import torch.distributed as distributed
    from torch.nn.parallel import DistributedDataParallel
    from etc_data.models import load_encrypted_model

    torch.set_num_threads(1)
    rank, folder = int(sys.argv[1]), sys.argv[2]
    store = distributed.FileStore(folder + "/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.manual_seed(rank)
    model = DistributedDataParallel(load_encrypted_model(folder + "/m.safetensors").eval())
    images = torch.load(folder + "/images.pt")[rank::2]
    logits = model(images)
    logits.square().mean().backward()
    gradients = [parameter.grad for parameter in model.module.parameters()]
    torch.save((logits.detach(), gradients), f"{folder}/{rank}.pt")
    distributed.barrier()
    os._exit(0)  # as it is taken down, torch's gloo sometimes hangs or aborts
""")


@pytest.mark.parametrize("form", ["compact", pytest.param("dense", marks=pytest.mark.slow)])
def test_two_processes_train_together(form, key, images, imagenet, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=1, num_classes=10).eval()
    cipher = Cipher("ind-16", key)
    encrypted = encrypt_model(model, cipher, image_size=64, form=form, **imagenet)
    save_encrypted_model(encrypted, tmp_path / "m.safetensors")
    torch.save(images(cipher), tmp_path / "images.pt")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PARALLEL, str(rank), str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(HOME)},
        )
        for rank in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    logits = encrypted(images(cipher))
    logits.square().mean().backward()
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for rank, (found, gradients) in enumerate(results):
        assert torch.allclose(found, logits[rank::2], atol=1e-5)
        for gradient, parameter in zip(gradients, encrypted.parameters(), strict=True):
            assert torch.allclose(gradient, parameter.grad, atol=1e-6)
