import sys
from pathlib import Path

import pytest
import torch

from etc_data.recipes.device import describe_device


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell of their processor elsewhere")
def test_a_processor_is_named_as_the_system_names_it():
    text = describe_device(torch.device("cpu"))
    assert text.startswith("cpu (")
    assert text.endswith(")")
    facts = Path("/proc/cpuinfo").read_text()
    if "model name" in facts:
        assert text[5:-1] in facts
