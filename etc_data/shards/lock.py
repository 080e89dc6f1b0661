"""A lock on a folder: one run at a time, and nothing left behind by a run that was killed."""

import contextlib
import fcntl
import os
import weakref
from pathlib import Path

from etc_data.errors import OutputExistsError
from etc_data.shards.files import writing

_TRIES = 1000


class FolderLock:
    """Keeps other runs of this machine away from a folder until `release`, or this process ends.

    The folder itself is locked (``flock``), not a file in it.  Runs on two machines that share a
    folder do not see each other's.
    """

    def __init__(self, folder: Path, mode: int = 0o777) -> None:
        """Makes the folder, if need be, and locks it.

        Args:
            folder: to be locked.
            mode: of the folder if it is made.

        Raises:
            OutputExistsError: another run holds it.
            EtcError: the folder cannot be made.
        """
        self._folder = folder
        with writing(folder):
            for _ in range(_TRIES):
                if self._acquired(mode):
                    return
            self._folder.mkdir(mode=mode, parents=True, exist_ok=True)  # tells what is wrong
            raise OutputExistsError(f"{folder} is made and removed again and again by another program")

    def _acquired(self, mode: int) -> bool:
        try:
            self._folder.mkdir(mode=mode, parents=True, exist_ok=True)
            descriptor = os.open(self._folder, os.O_RDONLY)
        except (FileExistsError, FileNotFoundError):
            if os.path.lexists(self._folder) and not self._folder.is_dir():
                raise
            return False  # the holder before has just removed it
        self._close = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            raise OutputExistsError(
                f"another run is writing this data set: it holds {self._folder}",
                "wait for it, or stop it first",
            ) from None
        # Or it did so after we had opened it, and there may be another of the same name by now.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), self._folder.stat()):
                self._descriptor = descriptor
                return True
        self._close()
        return False

    def release(self) -> None:
        """Lets other runs in."""
        # Closing is not enough where a forked child still has it open.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._close()
