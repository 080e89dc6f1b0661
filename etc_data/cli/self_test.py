"""A small real run of what etc-data does, in a process of its own, each step with its verdict."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from etc_data.cipher import Cipher
from etc_data.cli.children import ChildError, run_child
from etc_data.cli.findings import Finding
from etc_data.codecs import JpegCodec, PngCodec, available_engines, decode
from etc_data.errors import DamagedShardError
from etc_data.keys import SecretKey
from etc_data.shards.decrypt import decrypt_shards
from etc_data.shards.verify import verify_shards
from etc_data.shards.writer import write_shards

_SIZE = 64
_PROBE = """
from etc_data.cli.self_test import run_steps
run_steps(answer)
"""


class _StepError(Exception):
    """A step gave something else than it must."""


def run_self_test() -> list[Finding]:
    """Returns the verdict of each step."""
    try:
        answers, reason = run_child(_PROBE), "it was not reached"
    except ChildError as error:
        answers, reason = error.answers, str(error)
    findings = [Finding(**json.loads(answer)) for answer in answers]
    for name in list(_STEPS)[len(findings) :]:
        findings.append(Finding(name, "fail", reason))
        reason = "it was not reached"
    return findings


def run_steps(answer: Callable[[str], None]) -> None:
    """Takes all steps and answers the verdict of each as JSON, when it is known."""
    for name, step in _STEPS.items():
        try:
            finding = Finding(name, "pass", step())
        except Exception as error:  # a broken installation breaks in any way
            finding = Finding(name, "fail", f"{type(error).__name__}: {error}")
        answer(json.dumps(finding.to_dict()))


def _picture(seed: int = 0) -> npt.NDArray[np.uint8]:
    """Returns a picture with soft shapes and noise, uint8 [64, 64, 3]."""
    y, x = np.mgrid[:_SIZE, :_SIZE]
    waves = np.stack([x + y, 2 * x, 3 * y], axis=-1) % 200
    return (waves + np.random.default_rng(seed).integers(0, 56, waves.shape)).astype(np.uint8)


def _check(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _StepError(otherwise)


def _encrypt_and_decrypt() -> str:
    key, image = SecretKey.generate(), _picture()
    for cipher in (Cipher("etc-16", key), Cipher("pe", key)):
        nonce = cipher.new_nonce() if cipher.key_scope == "image" else None
        encrypted = cipher.encrypt(image, nonce=nonce)
        _check(not np.array_equal(encrypted, image), f"{cipher.scheme.name} left the image as it was")
        decrypted = cipher.decrypt(encrypted, nonce=nonce)
        _check(np.array_equal(decrypted, image), f"{cipher.scheme.name} did not give the image back")
    return "a fresh key, an image encrypted and decrypted exactly"


def _code_images() -> str:
    image = _picture()
    _check(np.array_equal(decode(PngCodec().encode(image)), image), "PNG did not keep the pixels")
    engines = list(available_engines())
    files = {JpegCodec(engine=engine).encode(image) for engine in engines}  # type: ignore[arg-type]
    _check(len(files) == 1, f"JPEG engines {', '.join(engines)} write different bytes")
    return f"PNG exact; JPEG by {' and '.join(engines)}" + (
        ", the same bytes" if len(engines) > 1 else ""
    )


def _encrypt_tensors() -> str:
    import torch

    cipher, image = Cipher("etc-16", SecretKey.generate()), _picture()
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = cipher.encrypt(image).transpose(2, 0, 1)
    devices = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    for device in devices:
        encrypted = cipher.encrypt(tensor.to(device)).cpu().numpy()
        _check(np.array_equal(encrypted, expected), f"{device} gives other pixels than NumPy")
    return f"torch on {', '.join(devices)}: the same pixels as NumPy"


def _write_shards() -> str:
    key = SecretKey.generate()
    plain = [_picture(seed) for seed in range(4)]
    with tempfile.TemporaryDirectory(prefix="etc-data-doctor-") as folder:
        photos, out, back = (Path(folder, name) for name in ("photos", "shards", "decrypted"))
        photos.mkdir()
        for number, image in enumerate(plain):
            (photos / f"{number}.png").write_bytes(PngCodec().encode(image))
        write_shards(photos, out, Cipher("etc-16", key), codec=PngCodec())
        manifest = verify_shards(out, key=key)
        decrypt_shards(out, back, key)
        found = {decode(path.read_bytes()).tobytes() for path in back.rglob("*.png")}
        _check(found == {image.tobytes() for image in plain}, "the shards did not give the images back")
        _check(_finds_damage(out / manifest.shards[0].name), "a flipped bit was not found")
    return f"{len(plain)} images written, verified and decrypted; a flipped bit was found"


def _finds_damage(shard: Path) -> bool:
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    try:
        verify_shards(shard.parent)
    except DamagedShardError:
        return True
    return False


_STEPS: dict[str, Callable[[], str]] = {
    "key and cipher": _encrypt_and_decrypt,
    "image files": _code_images,
    "tensors": _encrypt_tensors,
    "shards": _write_shards,
}
