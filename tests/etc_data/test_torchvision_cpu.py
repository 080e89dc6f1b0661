"""`etc_data.torchvision_cpu` lets torchvision be imported beside any torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torchvision_works_after_the_transforms_which_import_it():
    told = run(
        "import sys, etc_data.transforms, torch, torchvision\n"
        "first = sys.modules['etc_data.torchvision_cpu']\n"
        "from torchvision.transforms import v2\n"
        "from torchvision import datasets, models, tv_tensors\n"
        "image = v2.Compose([v2.Resize(8), v2.CenterCrop(6)])(torch.zeros(3, 9, 12))\n"
        "assert image.shape == (3, 6, 6)\n"
        "assert models.resnet18().eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)\n"
        "print(first.LIBRARY is None or first.LIBRARY.ns == 'torchvision')\n"
    )
    assert told == "True\n"


def test_it_mends_a_failed_import_and_leaves_a_good_one_alone():
    told = run(
        "try:\n"
        "    import torchvision as before\n"
        "except RuntimeError as error:\n"
        "    assert 'torchvision::nms does not exist' in str(error)\n"
        "    before = None\n"
        "import etc_data.torchvision_cpu as first\n"
        "import torchvision\n"
        "assert (before is None) == (first.LIBRARY is not None)\n"
        "assert before is None or torchvision is before\n"
        "import etc_data.transforms\n"
        "print('fine')\n"
    )
    assert told == "fine\n"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("etc_data", "torch torchvision cryptography PIL"),
        ("etc_data.fitting", "torch torchvision PIL"),
        ("etc_data.keyfile", "torch torchvision PIL"),
        ("etc_data.schemes", "torch torchvision PIL cryptography"),
    ],
)
def test_keys_and_plans_come_without_what_they_do_not_need(module, absent):
    told = run(
        f"import sys, {module}\nprint([name for name in {absent.split()!r} if name in sys.modules])\n"
    )
    assert told == "[]\n"
