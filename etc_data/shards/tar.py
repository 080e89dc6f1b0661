"""Tar archives that are the same bytes for the same members, and reading them back strictly."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from etc_data.errors import DamagedShardError
from etc_data.shards.samples import Sample

_IMAGE_EXTENSIONS = ("jpg", "png")


class SampleTar:
    """Writes samples into a POSIX ustar archive without times, owners or anything of the host."""

    def __init__(self, file: Any) -> None:
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)
        self.samples = 0

    def add(self, members: list[tuple[str, bytes]]) -> None:
        """Appends one sample's members, (name, content)."""
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            header.mode = 0o644
            self._tar.addfile(header, io.BytesIO(content))
        self.samples += 1

    def close(self) -> None:
        """Writes the end of the archive."""
        self._tar.close()


@dataclass(frozen=True)
class SamplePlace:
    """Where one sample's members lie in an archive: extension → (offset, bytes)."""

    key: str
    members: dict[str, tuple[int, int]]

    def read(self, file: IO[bytes]) -> Sample:
        """Returns the sample."""
        content = {name: _read_at(file, *place) for name, place in self.members.items()}
        image = next(content[name] for name in _IMAGE_EXTENSIONS if name in content)
        label = int(content["cls"]) if "cls" in content else -1
        return Sample(self.key, image, label, content["json"])

    def read_image_and_label(self, file: IO[bytes]) -> tuple[bytes, int]:
        """Returns what training needs of the sample, without the rest."""
        image = next(name for name in _IMAGE_EXTENSIONS if name in self.members)
        label = int(_read_at(file, *self.members["cls"])) if "cls" in self.members else -1
        return _read_at(file, *self.members[image]), label


def list_samples(file: IO[bytes], name: str) -> list[SamplePlace]:
    """Returns the samples of an archive, in order.

    Args:
        file: seekable, at its beginning.
        name: what errors call it.

    Raises:
        DamagedShardError: it is no archive, is cut short, or its members are not samples.
    """
    places: list[SamplePlace] = []
    try:
        for header in _headers(file):
            key, _, extension = header.name.partition(".")
            if not header.isreg() or not extension:
                raise DamagedShardError(f"shard {name}: member {header.name!r} belongs to no sample")
            if not places or places[-1].key != key:
                places.append(SamplePlace(key, {}))
            if extension in places[-1].members:
                raise DamagedShardError(f"shard {name}: member {header.name!r} occurs twice")
            places[-1].members[extension] = (header.offset_data, header.size)
    except tarfile.TarError as error:
        raise DamagedShardError(f"shard {name} is no whole tar archive: {error}") from None
    for place in places:
        images = [extension for extension in _IMAGE_EXTENSIONS if extension in place.members]
        if len(images) != 1 or "json" not in place.members:
            found = ", ".join(place.members)
            raise DamagedShardError(f"shard {name}: sample {place.key} has the members {found}")
    if len({place.key for place in places}) != len(places):
        raise DamagedShardError(f"shard {name}: the members of a sample are not adjacent")
    return places


def _headers(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    with tarfile.TarFile(fileobj=file, mode="r") as tar:
        yield from tar


def _read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    file.seek(offset)
    content = file.read(size)
    if len(content) != size:
        raise DamagedShardError("a shard was cut short while it was read")
    return content
