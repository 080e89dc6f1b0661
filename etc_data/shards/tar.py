"""Tar archives that are the same bytes for the same members, and reading them back strictly.

Reading takes only what `SampleTar` writes.  Python's `tarfile` reads far more, extensions of every
age included, and takes three times as long to list a shard.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from etc_data.errors import DamagedShardError
from etc_data.shards.files import HashingFile
from etc_data.shards.samples import Sample

_BLOCK = 512
_RECORD = 20 * _BLOCK  # the archive's length is a multiple of it
_END = bytes(_BLOCK)
_IMAGE_EXTENSIONS = ("jpg", "png")
_MEMBER = re.compile(r"(?P<key>[A-Za-z0-9_]{1,64}-[0-9]{9})\.(?P<extension>cls|jpg|png|json)", re.ASCII)


class SampleTar:
    """Writes samples into a POSIX ustar archive without times, owners or anything of the host."""

    def __init__(self, file: HashingFile) -> None:
        self._file = file

    def add(self, members: list[tuple[str, bytes]]) -> None:
        """Appends one sample's members, (name, content)."""
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            header.mode = 0o644
            self._file.write(header.tobuf(tarfile.USTAR_FORMAT))
            self._file.write(content + bytes(-len(content) % _BLOCK))

    def close(self) -> None:
        """Writes the end of the archive."""
        self._file.write(2 * _END)
        self._file.write(bytes(-self._file.bytes_written % _RECORD))


@dataclass(frozen=True)
class SamplePlace:
    """Where one sample's members lie in an archive: extension → (offset, bytes)."""

    key: str
    members: dict[str, tuple[int, int]]

    def read(self, file: IO[bytes]) -> Sample:
        """Returns the sample.

        Raises:
            DamagedShardError: the archive was cut short meanwhile, or the label is no number.
        """
        image, label = self.read_image_and_label(file)
        return Sample(self.key, image, label, _read_at(file, *self.members["json"]))

    def read_image_and_label(self, file: IO[bytes]) -> tuple[bytes, int]:
        """Returns what training needs of the sample, without the rest.

        Raises:
            DamagedShardError: the archive was cut short meanwhile, or the label is no number.
        """
        image = next(name for name in _IMAGE_EXTENSIONS if name in self.members)
        label = -1
        if "cls" in self.members:
            text = _read_at(file, *self.members["cls"])
            if not re.fullmatch(rb"[0-9]{1,18}", text):
                raise DamagedShardError("the label is no number")
            label = int(text)
        return _read_at(file, *self.members[image]), label


def list_samples(file: IO[bytes], name: str) -> list[SamplePlace]:
    """Returns the samples of an archive, in order.

    Args:
        file: seekable.
        name: what errors call it.

    Raises:
        DamagedShardError: it is no archive, is cut short, or its members are not samples.
    """
    places: list[SamplePlace] = []
    for member, offset, size in _headers(file, name):
        match = _MEMBER.fullmatch(member)
        if match is None:
            raise DamagedShardError(f"shard {name}: member {member!r} belongs to no sample")
        key, extension = match["key"], match["extension"]
        if not places or places[-1].key != key:
            places.append(SamplePlace(key, {}))
        if extension in places[-1].members:
            raise DamagedShardError(f"shard {name}: member {member!r} occurs twice")
        places[-1].members[extension] = (offset, size)
    for place in places:
        images = [extension for extension in _IMAGE_EXTENSIONS if extension in place.members]
        if len(images) != 1 or "json" not in place.members:
            found = ", ".join(place.members)
            raise DamagedShardError(f"shard {name}: sample {place.key} has the members {found}")
    if len({place.key for place in places}) != len(places):
        raise DamagedShardError(f"shard {name}: the members of a sample are not adjacent")
    return places


def _headers(file: IO[bytes], name: str) -> Iterator[tuple[str, int, int]]:
    """Yields (name, offset of the content, its size) of all members, up to the archive's end."""
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(_BLOCK)
        if len(header) < _BLOCK:
            raise DamagedShardError(f"shard {name} is no whole tar archive: it ends at byte {offset}")
        if header == _END:
            return
        size = header[124:136]
        if not (
            header[257:265] == b"ustar\x0000"
            and header[156:157] == tarfile.REGTYPE
            and re.fullmatch(rb"[0-7]{11}\0", size)
            and header[148:156] == b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * ord(" "))
        ):
            raise DamagedShardError(
                f"shard {name} is no whole tar archive: no member begins at byte {offset}"
            )
        offset += _BLOCK
        length = int(size[:-1], 8)
        yield header[:100].rstrip(b"\0").decode("ascii", "replace"), offset, length
        offset += -(-length // _BLOCK) * _BLOCK


def _read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        raise DamagedShardError("the shard was cut short while it was read")
    return content
