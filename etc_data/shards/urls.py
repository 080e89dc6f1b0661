"""The URL of a data set: brought to one form, and refused where it names no place for a data set."""

import re
from urllib.parse import unquote

from etc_data.errors import StorageError

S3 = ("s3", "s3a")
HTTP = ("http", "https")

# Also what is nearly one: a path has swallowed a slash (s3:/bucket), or fsspec would chain file
# systems (zip::s3://…). A single letter before :/ is a drive.
URL_LIKE = re.compile(r"[A-Za-z](://|[A-Za-z0-9+._-]+:[/:])")
# What may be a secret in a URL: user:password@ (of which the password may hold slashes; a number is a
# port), or a token alone before the @, and a query, which can hold a signature.
_SECRETS = re.compile(
    r"(\b[a-z0-9+.-]*)(:/{1,2})([^\s/@]*:(?![0-9]+(?:/|$))\S*|[^\s/@:]*)@|\?\S+", re.IGNORECASE
)
_CONTAINERS = ("abfs", "abfss", "adl", "az", "wasb", "wasbs")  # Azure's, which stand before an @
# fsspec's ways to files, repositories and memory of this machine: nothing would keep plain images
# and shards apart there, and what lies in memory ends with its process.
_OF_THIS_MACHINE = ("asynclocal", "dvc", "generic", "git", "local", "memory")


def without_secrets(text: str) -> str:
    """Returns a URL, or a text with URLs in it, without passwords and queries."""
    return _SECRETS.sub(_kept, text)


def _kept(match: re.Match[str]) -> str:
    scheme, slashes, user = (part or "" for part in match.groups())
    if scheme.lower() in _CONTAINERS and ":" not in user:
        return match[0]
    return f"{scheme}{slashes}"


def parse_url(text: str) -> tuple[str, str]:
    """Returns the scheme of a URL in lower case, and what stands behind ``://``, or the path of a file.

    Raises:
        StorageError: it is no URL of a folder, or holds what does not belong there.

    Examples:
        >>> parse_url("S3://Bucket/Set/"), parse_url("file:///my%20shards")
        (('s3', 'Bucket/Set'), ('file', '/my shards'))
    """
    scheme, slashes, rest = text.partition("://")
    if slashes:
        scheme = scheme.lower()
    shown = without_secrets(f"{scheme}{slashes}{rest}")
    rest = rest.removesuffix("/")
    if "::" in scheme or "://" in rest:
        raise StorageError(f"{shown} chains several file systems", "give the URL of the folder itself")
    if not slashes:
        raise StorageError(
            f"{shown} is neither a path nor a URL",
            f"a URL has two slashes and is a text, never a path object; a folder is ./{shown}",
        )
    if scheme in _OF_THIS_MACHINE:
        raise StorageError(f"{scheme}:// leads to this machine", "give the path of a folder")
    # s3fs would take them for a bucket's name, and show them in its errors.
    if scheme in S3 and re.match(r"(?!arn:)[^/]*:.*@|[^/]*@", rest):
        raise StorageError(
            f"{scheme}:// takes no credentials in its URL",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws/credentials",
        )
    if scheme in HTTP and re.search("[?#]", rest):
        raise StorageError(f"{shown} names one file, not a folder: it has a query or fragment (?… #…)")
    if scheme in (*HTTP, "file"):
        _check_folders(unquote(rest, errors="surrogateescape"), shown)
    else:
        _check_folders(rest, shown)
    host = rest.partition("/")[0]
    if scheme == "file":
        if host or not rest:
            raise StorageError(
                f"{shown} does not tell the whole path of a folder", "as in file:///home/me/set"
            )
        return scheme, unquote(rest, errors="surrogateescape")
    if scheme in (*S3, *HTTP) and not host:
        raise StorageError(f"{shown} names no {'bucket' if scheme in S3 else 'host'}")
    return scheme, rest


def _check_folders(rest: str, shown: str) -> None:
    for folder in rest.split("/")[1:]:
        if folder in ("", ".", "..") or "\0" in folder:
            raise StorageError(f"{shown} has {folder!r} in its path, where a folder's name should be")
