"""What a summary says of the device that a run was made on."""

import platform
from pathlib import Path

import torch


def describe_device(device: torch.device) -> str:
    """Returns kind and name of a device, as ``cpu (AMD EPYC 7B13)``."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = _processor() or platform.machine()
    return f"{device.type} ({name})"


def _processor() -> str:
    facts = Path("/proc/cpuinfo")  # of Linux, where platform.processor() tells nothing
    if not facts.exists():
        return platform.processor()
    lines = facts.read_text(errors="replace").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")
