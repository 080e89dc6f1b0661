"""The folder of a run: whether it may be written, and whether what it holds may be gone on with."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from etc_data.errors import OutputExistsError, SettingsError
from etc_data.recipes.checkpoints import STATE_NAME, load_state
from etc_data.recipes.settings import Settings
from etc_data.shards.files import published, writing

_RESULTS = ("history.csv", STATE_NAME, "best.safetensors", "last.safetensors", "summary.json")
_OF_NO_MATTER = ("out", "note", "checkpoint_steps")  # to what comes out


def state_to_resume(
    settings: Settings, *, resume: bool, force: bool, processes: int
) -> dict[str, Any] | None:
    """Returns the state that a run goes on from, or None if it starts.

    Args:
        settings: of the run; its folder is looked at.
        resume: go on with what the folder holds, if it holds a run.
        force: start anew, whatever the folder holds.
        processes: that the run is made in.

    Raises:
        SettingsError: both are asked for, or the run that is there had other settings.
        OutputExistsError: the folder holds something, and neither is asked for.
    """
    out = Path(settings.out)
    if force and resume:
        raise SettingsError("force starts anew and resume continues; give one of them")
    state = load_state(out) if resume else None
    if state is not None:
        check_same(out, json.loads(state["settings"]), settings.to_dict())
        if state["processes"] != processes:
            raise SettingsError(
                f"{out} cannot be resumed: it ran in {state['processes']} processes, and this are "
                f"{processes}"
            )
        return state
    if out.exists() and any(out.iterdir()) and not (force or resume):
        raise OutputExistsError(
            f"folder {out} is not empty",
            "choose another out=…, continue it with --resume, or replace it with --force",
        )
    return None


def check_same(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Checks that a run to go on with was as this one is.

    Args:
        out: its folder, for the message.
        before: nested facts of the run that was begun.
        now: the same of this run.

    Raises:
        SettingsError: some differ; it tells which.
    """
    different = sorted(_different(before, now))
    if different:
        raise SettingsError(
            f"{out} cannot be resumed: {'; '.join(different)}",
            "start anew with --force, or in another folder",
        )


def start_folder(settings: Settings) -> None:
    """Makes the folder of a run, forgets what an earlier run left there, and writes the settings.

    Raises:
        EtcError: it cannot be written.
    """
    out = Path(settings.out)
    text = yaml.safe_dump(settings.to_dict(), sort_keys=False, allow_unicode=True)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in _RESULTS:
            (out / name).unlink(missing_ok=True)
        with published(out / "settings.yaml") as file:
            file.write(text.encode())


def _different(before: Any, now: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys((*before, *now)):
            if f"{prefix}{name}" not in _OF_NO_MATTER:
                yield from _different(before.get(name), now.get(name), f"{prefix}{name}.")
    elif before != now:
        yield f"{prefix[:-1]} was {before} and is {now}"
