"""Where a data set lies: a local folder, or any fsspec URL such as ``s3://`` or ``https://``.

Names below are names of files in the data set's folder.  Credentials come from the usual places of
each service (environment, configuration files) and are never kept, shown or written here.
"""

import errno
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from etc_data.errors import StorageError
from etc_data.shards.urls import HTTP, S3, URL_LIKE, parse_url, without_secrets
from etc_data.sources.regular_files import open_regular

Result = TypeVar("Result")

_EXTRAS = dict.fromkeys(S3, "s3") | dict.fromkeys(HTTP, "http")
# Written for a moment to see whether that is allowed; one that a killed process left is not shown.
_PROBE_PREFIX = ".etc-data-probe-"
_PROBE = b"written by etc-data to see whether it may; it can be deleted\n"

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 20.0
_CONNECT_SECONDS = 10
_SILENCE_SECONDS = 60  # how long a server may send nothing

# Statuses below 500 blame the request, and asking again changes nothing; but for "time-out", "too
# early" and "too many requests", and for what S3 calls by these names.
_PASSING_STATUSES = (408, 425, 429)
_PASSING_CODES = (
    "BadDigest",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "XAmzContentSHA256Mismatch",
)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")
_LOCAL_ERRORS = (errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)
_CREDENTIALS_HINT = "check the credentials in your environment"

# A forked child's copies of its parent's connections: to close one would take a second each.
_INHERITED: list[Any] = []


def is_url(place: str | os.PathLike[str]) -> bool:
    """Returns whether a place is written like a URL; anything else is a local path."""
    return isinstance(place, str) and URL_LIKE.match(place) is not None


def check_local(place: str | os.PathLike[str], what: str) -> None:
    """Checks that a place is no URL, not even one whose slashes a path has swallowed (``s3:/bucket``).

    Raises:
        StorageError: it is one, and plain images or secrets would go to a folder of that odd name.
    """
    if is_url(os.fspath(place)):
        raise StorageError(
            f"{what} must be a folder of this machine, not {without_secrets(os.fspath(place))}"
        )


def open_storage(place: str | os.PathLike[str], *, tries: int = 6) -> "LocalStorage | RemoteStorage":
    """Returns the storage of a local folder or a URL.

    Args:
        place: a path; or a URL that fsspec knows, whose scheme may be in any case.  ``file:///folder``
            is the path behind it, percent-decoded.
        tries: how often a request to a remote place is made before its error counts.

    Raises:
        StorageError: the place is empty, or a URL that names no folder or holds what does not belong
            there.
    """
    text = os.fspath(place)
    if not text:
        raise StorageError("the name of a data set's folder is empty", "the current folder is .")
    if not is_url(text):
        return LocalStorage(Path(text))
    scheme, rest = parse_url(text)
    if scheme == "file":
        return LocalStorage(Path(rest))
    return RemoteStorage(f"{scheme}://{rest}", tries)


@dataclass(frozen=True)
class Stored:
    """What a place tells of a file.

    Attributes:
        size: in bytes; −1 where a server does not tell it.
        mark: another one after each upload (S3's ETag, else a time); empty where there is none, as in
            a local folder.
    """

    size: int
    mark: str = ""


@dataclass(frozen=True)
class LocalStorage:
    """A folder of this machine."""

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def read(self, name: str) -> bytes:
        """Returns the content of a small file.

        Raises:
            FileNotFoundError: there is none of this name.
            StorageError: it cannot be read.
        """
        try:
            with open_regular(self.folder / name) as file:
                return file.read()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"{self.folder / name} cannot be read: {error.strerror}") from None

    def starts(self, name: str, count: int) -> bytes:
        """Returns the first bytes of a file.

        Raises:
            FileNotFoundError: there is none of this name.
            StorageError: it cannot be read.
        """
        try:
            with open_regular(self.folder / name) as file:
                return file.read(count)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"{self.folder / name} cannot be read: {error.strerror}") from None

    def files(self) -> dict[str, Stored]:
        """Returns every file in the folder by its name; empty where it does not exist.

        Raises:
            StorageError: the folder cannot be listed.
        """
        try:
            paths = [path for path in self.folder.iterdir() if path.is_file()]
            return {path.name: Stored(path.stat().st_size) for path in paths}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StorageError(f"{self.folder} cannot be listed: {error.strerror}") from None

    def sizes(self) -> dict[str, int]:
        """Returns the size in bytes of every file in the folder, as `files` does."""
        return {name: file.size for name, file in self.files().items()}


class RemoteStorage:
    """A folder behind a URL, reached through fsspec; errors that may pass are tried again.

    It may be used by threads, pickled, and used on both sides of a fork.
    """

    def __init__(self, url: str, tries: int = 6) -> None:
        """Names the place; nothing is connected yet.

        Args:
            url: as `open_storage` takes it, without a slash at its end.
            tries: how often a request is made before its error counts, with growing pauses between:
                six tries bridge 15 seconds.
        """
        self.url = url
        self._protocol = url.partition("://")[0]
        self._tries = tries
        self._connection: tuple[int, Any] | None = None

    def __str__(self) -> str:
        return without_secrets(self.url)

    def __repr__(self) -> str:
        return f"RemoteStorage({str(self)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None}

    @property
    def _files(self) -> Any:
        """The connection of this process: fsspec's event loop does not survive a fork."""
        if self._connection is None or self._connection[0] != os.getpid():
            if self._connection is not None:
                _INHERITED.append(self._connection)
            self._connection = os.getpid(), _connect(self._protocol)
        return self._connection[1]

    def read(self, name: str) -> bytes:
        """Returns the content of a small file.

        Raises:
            FileNotFoundError: there is none of this name.
            StorageError: it cannot be read.
        """
        return bytes(self._ask(name, self._files.cat_file))

    def download(self, name: str, target: Path) -> None:
        """Copies a file to this machine; if that fails, there is no `target`.

        Raises:
            FileNotFoundError: there is none of this name.
            StorageError: it cannot be read, or `target` cannot be written.
        """
        try:
            # Otherwise an error of this machine would look like one of the server.
            target.open("wb").close()
        except OSError as error:
            raise StorageError(f"{target} cannot be written: {error.strerror}") from None
        try:
            self._ask(name, lambda path: self._files.get_file(path, str(target)))
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def starts(self, name: str, count: int) -> bytes:
        """Returns the first bytes of a file.

        Raises:
            FileNotFoundError: there is none of this name.
            StorageError: it cannot be read.
        """
        return bytes(self._ask(name, lambda path: self._files.cat_file(path, end=count)))

    def upload(self, source: Path, name: str) -> str:
        """Copies a file there, checks that it arrived with all its bytes and returns its mark.

        Object stores show an object when it is whole, never before.

        Raises:
            StorageError: it cannot be read or written, or did not arrive whole.
        """
        self._check_kind()
        try:
            size = source.stat().st_size
        except OSError as error:
            raise StorageError(f"{source} cannot be read: {error.strerror}") from None
        self._write(name, lambda path: self._files.put_file(str(source), path))
        arrived = self._stored(name)
        if arrived is None or arrived.size != size:
            met = 0 if arrived is None else arrived.size
            raise StorageError(f"{self}/{name} did not arrive whole: {met} bytes of {size}")
        return arrived.mark

    def size(self, name: str) -> int | None:
        """Returns a file's size in bytes, or None where there is none of this name.

        Raises:
            StorageError: the place cannot be reached, or does not tell the size.
        """
        stored = self._stored(name)
        return None if stored is None else stored.size

    def _stored(self, name: str) -> Stored | None:
        try:
            info = self._ask(name, self._info)
        except FileNotFoundError:
            return None
        if info["type"] == "directory":
            return None
        if info["size"] is None:
            raise StorageError(f"{self}/{name}: the server does not tell its size")
        return Stored(int(info["size"]), _mark(info))

    def files(self) -> dict[str, Stored]:
        """Returns every file in the folder by its name; empty where it does not exist.

        A size that the server does not tell, such as in the page of an HTTP server, is −1.

        Raises:
            StorageError: the place cannot be reached or listed.
        """
        try:
            found = self._ask("", lambda path: self._files.ls(path, detail=True))
        except FileNotFoundError:
            return {}
        folder = str(self._files._strip_protocol(self.url)) + "/"
        files = {
            info["name"].removeprefix(folder): Stored(
                -1 if info["size"] is None else int(info["size"]), _mark(info)
            )
            for info in found
            if info["type"] != "directory"
        }
        # What remains with a slash lies elsewhere; an HTTP server's page has links such as ?sort=size.
        return {
            name: file
            for name, file in files.items()
            if name and not re.search("/|^[?]", name) and not name.startswith(_PROBE_PREFIX)
        }

    def sizes(self) -> dict[str, int]:
        """Returns the size in bytes of every file in the folder, as `files` does."""
        return {name: file.size for name, file in self.files().items()}

    def delete(self, name: str) -> None:
        """Deletes a file; it need not exist.

        Raises:
            StorageError: it cannot be deleted.
        """
        self._check_kind()
        try:
            self._ask(name, self._files.rm_file)
        except FileNotFoundError:
            return

    def check_writable(self) -> None:
        """Checks before any work that files can be written here and deleted, with a small one.

        Raises:
            StorageError: the place does not exist, can only be read, or cannot be reached.
        """
        self._check_kind()
        name = f"{_PROBE_PREFIX}{secrets.token_hex(8)}"
        try:
            self._write(name, lambda path: self._files.pipe_file(path, _PROBE), str(self))
            try:
                arrived = self._ask(name, self._info, str(self))["size"]
            finally:
                self._ask(name, self._files.rm_file, str(self))
        except StorageError as error:
            raise StorageError(f"{self} cannot be written to: {error}", error.hint) from None
        except FileNotFoundError:
            arrived = None
        if arrived != len(_PROBE):
            raise StorageError(f"{self} does not keep what is written there")

    def _check_kind(self) -> None:
        if self._protocol in HTTP:
            raise StorageError(
                f"{self} can only be read", "write to a local folder or an s3:// URL instead"
            )

    def _write(self, name: str, request: Callable[[str], object], what: str | None = None) -> None:
        try:
            self._ask(name, request, what)
        except FileNotFoundError:
            raise StorageError(f"{self} does not exist", "make the bucket first") from None

    def _info(self, path: str) -> Any:
        try:
            return self._files.info(path)
        except FileNotFoundError as error:
            # fsspec says so of an HTTP file whatever the server answered, or if it is down.
            cause = error.__cause__
            if self._protocol in HTTP and cause is not None and _answer(cause)[0] != 404:
                raise cause from None
            raise

    def _ask(self, name: str, request: Callable[[str], Result], what: str | None = None) -> Result:
        path = f"{self.url}/{name}" if name else self.url
        return with_retries(partial(request, path), what or f"{self}/{name}".rstrip("/"), self._tries)


def _mark(info: dict[str, Any]) -> str:
    """Returns what a service tells a file's versions apart by, as far as fsspec passes it on."""
    for name in ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime"):
        if info.get(name):
            return str(info[name]).strip('"')
    return ""


def _connect(protocol: str) -> Any:
    options = {"get_client": _http_session} if protocol in HTTP else {}
    try:
        import fsspec

        files = fsspec.filesystem(
            protocol, skip_instance_cache=True, use_listings_cache=False, **options
        )
    except Exception as error:  # every file system raises its own kinds
        extra = _EXTRAS.get(protocol)
        hint = None if extra is None else f"pip install 'etc-data[{extra}]'"
        reason = " ".join(str(error).split())[:200]
        raise StorageError(f"{protocol}:// cannot be reached: {reason}", hint) from None
    if protocol in S3:
        # Its own tries, and below them botocore's, would multiply ours to minutes.
        files.retries = 1
        # It holds so many parts of 50 MiB in memory at once.
        files.max_concurrency = 2
        files.config_kwargs = {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _SILENCE_SECONDS,
            "retries": {"total_max_attempts": 1},
            "connector_args": {"force_close": True, "keepalive_timeout": None},  # see _http_session
            **files.config_kwargs,
        }
    return files


async def _http_session(**options: Any) -> Any:
    import aiohttp

    # An idle connection is not kept: a forked child that drops its copy of it would take it out of
    # the event queue that the parent shares with it, and the parent would wait for ever.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        **{
            # Proxies and ~/.netrc count; a large shard may take its time, as long as bytes come.
            "trust_env": True,
            "timeout": aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS
            ),
            **options,
        },
    )


def with_retries(request: Callable[[], Result], what: str, tries: int) -> Result:
    """Returns a request's result, trying again with growing pauses while its error may pass.

    Args:
        request: the request.
        what: what the error message calls it; without credentials.
        tries: how often, at most.

    Raises:
        FileNotFoundError: the server says that there is no such thing.
        StorageError: access is denied, or the last try failed too.
    """
    wait = _FIRST_WAIT_SECONDS
    for attempt in range(1, tries + 1):
        try:
            return request()
        except FileNotFoundError:
            raise FileNotFoundError(f"{what} does not exist") from None
        except StorageError:
            raise
        except Exception as error:  # every service raises its own kinds
            if isinstance(error, PermissionError) or _answer(error)[0] in (401, 403):
                raise StorageError(f"access to {what} is denied", _CREDENTIALS_HINT) from None
            if any(kind.__name__ in _NO_CREDENTIALS for kind in type(error).__mro__):
                raise StorageError(
                    f"{what} cannot be reached: {_reason(error)}", _CREDENTIALS_HINT
                ) from None
            if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
                raise StorageError(
                    f"{what} cannot be kept here: {error.strerror}", "make room, or name another folder"
                ) from None
            if _is_final(error):
                raise StorageError(f"{what} cannot be reached: {_reason(error)}") from None
            if attempt == tries:
                raise StorageError(
                    f"{what} cannot be reached after {tries} tries: {_reason(error)}"
                ) from None
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
    raise AssertionError("unreachable: tries is at least 1")


def _answer(error: BaseException) -> tuple[int | None, str | None]:
    """Returns the HTTP status, and S3's name of the error, as far as there are any."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status, response.get("Error", {}).get("Code")
    return getattr(error, "status", None), None


def _is_final(error: BaseException) -> bool:
    status, code = _answer(error)
    if isinstance(status, int):
        passing = status >= 500 or status in _PASSING_STATUSES or code in _PASSING_CODES
        return status >= 400 and not passing
    return isinstance(error, (ValueError, TypeError, NotImplementedError)) or (
        type(error).__name__ == "ParamValidationError"
    )


def _reason(error: BaseException) -> str:
    text = without_secrets(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
