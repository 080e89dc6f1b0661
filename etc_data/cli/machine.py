"""What the machine offers: processors, memory for workers, and room on its disks."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from etc_data.cli.findings import Finding
from etc_data.cli.options import human_bytes
from etc_data.shards.cache import CACHE_VARIABLE, ShardCache

_LEAST_SHARED = 512 * 2**20  # two workers' batches of 64 images as float32 take about 150 MiB
_LEAST_FILES = 1024  # torch opens a file for every tensor that a worker hands over
_LEAST_FREE = 2**30


def examine_machine() -> list[Finding]:
    """Returns all findings; one that cannot be had is a warning with the reason."""
    findings = []
    for name, find in _FINDERS.items():
        try:
            finding = find(name)
        except Exception as error:  # systems differ in what they tell, and how they refuse
            finding = Finding(name, "warning", f"{type(error).__name__}: {error}")
        if finding is not None:
            findings.append(finding)
    return findings


def _find_processors(name: str) -> Finding:
    count = os.cpu_count() or 1
    allowed = [count]
    if hasattr(os, "sched_getaffinity"):
        allowed.append(len(os.sched_getaffinity(0)))
    quota = Path("/sys/fs/cgroup/cpu.max")  # of a container
    if quota.exists():
        most, period = quota.read_text().split()
        if most != "max":
            allowed.append(max(1, round(int(most) / int(period))))
    usable = min(allowed)
    detail = str(count) if usable == count else f"{count}, of which {usable} may be used"
    return Finding(name, "ok", f"{detail}; encrypt takes --workers {usable}")


def _find_shared_memory(name: str) -> Finding | None:
    place = Path("/dev/shm")  # noqa: S108 - looked at, not written to
    if not place.is_dir():
        return None
    disk = shutil.disk_usage(place)
    detail = f"{human_bytes(disk.total)}, {human_bytes(disk.free)} free"
    if disk.free >= _LEAST_SHARED:
        return Finding(name, "ok", detail)
    hint = "docker run --shm-size=2g; or use fewer workers of the DataLoader"
    return Finding(name, "warning", f"{detail}; workers of a DataLoader may die for lack of it", hint)


def _find_open_files(name: str) -> Finding | None:
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _LEAST_FILES:
        return Finding(name, "ok", "unlimited" if soft == resource.RLIM_INFINITY else f"up to {soft}")
    return Finding(
        name, "warning", f"only {soft}; workers of a DataLoader may need more", "ulimit -n 4096"
    )


def _find_cache(name: str) -> Finding:
    cache = ShardCache()
    used = sum(path.stat().st_size for path in cache.folder.glob("*.tar"))
    held = f"{human_bytes(used)} of at most {human_bytes(cache.max_bytes)} used"
    return _room(name, cache.folder, f"name another folder with {CACHE_VARIABLE}", held)


def _find_temporary(name: str) -> Finding:
    return _room(name, Path(tempfile.gettempdir()), "name another folder with TMPDIR")


def _find_here(name: str) -> Finding:
    return _room(name, Path.cwd(), "make room, or write elsewhere")


def _room(name: str, folder: Path, hint: str, *held: str) -> Finding:
    """Returns whether a folder, or the first above it that exists, can be written and has room."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    details = [str(folder), *held, f"{human_bytes(free)} free"]
    problems = []
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        problems.append("cannot be written")
    if free < _LEAST_FREE:
        problems.append("little room")
    if problems:
        return Finding(name, "warning", ", ".join(details + problems), hint)
    return Finding(name, "ok", ", ".join(details))


def _find_credentials(name: str) -> Finding:
    home = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    needed = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    given = [variable for variable in needed if os.environ.get(variable)]
    if len(given) == 1:
        return Finding(name, "warning", f"{given[0]} is set without its other half", "set both or none")
    if given or any(os.environ.get(variable) for variable in _ROLE_VARIABLES):
        return Finding(name, "ok", "found in environment")
    if Path(home).expanduser().is_file():
        return Finding(name, "ok", "found in file")
    return Finding(name, "missing", "none; only s3:// needs them, unless the machine has a role")


_ROLE_VARIABLES = (
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_FINDERS: dict[str, Callable[[str], Finding | None]] = {
    "processors": _find_processors,
    "/dev/shm": _find_shared_memory,  # noqa: S108
    "open files": _find_open_files,
    "cache of shards": _find_cache,
    "temporary files": _find_temporary,
    "this folder": _find_here,
    "S3 credentials": _find_credentials,
}
