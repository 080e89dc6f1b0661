"""Files of this machine, opened so that nothing in their place can block for ever."""

import errno
import os
import stat
from typing import BinaryIO


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file for reading; a pipe or device in its place, which could block for ever, is refused.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    file = open(path, "rb", opener=_open_at_once)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
    return file


def _open_at_once(path: str, flags: int) -> int:
    # Opening a pipe would wait for its other end; Windows has neither the pipe nor the flag.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
