"""`ShardWriter`: encrypted shards from a loop of one's own, image by image."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from PIL import Image

from etc_data.cipher import Cipher, check_image
from etc_data.codecs import Codec, JpegCodec
from etc_data.errors import ImageError, SourceError
from etc_data.fitting import Fit, Resize
from etc_data.shards.destination import Destination
from etc_data.shards.files import HashingFile, writing
from etc_data.shards.job import ShardResult
from etc_data.shards.layout import shard_name
from etc_data.shards.manifest import SPLIT_PATTERN, Manifest, ShardEntry
from etc_data.shards.output import prepare_output
from etc_data.shards.samples import SampleEncoder
from etc_data.shards.tar import SampleTar
from etc_data.shards.writer import check_counts, make_manifest, publish_manifest


class ShardWriter:
    """Writes encrypted samples one by one; the manifest comes when the ``with`` block ends well.

    The samples lie in the order of the calls, which whoever holds the shards can see: shuffle them
    first if their order tells something.  If the block ends by an error, no manifest is written.

        with ShardWriter("out", Cipher("etc-16", key), size=224) as writer:
            for image, label in scans:
                writer.write(image, label)
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        cipher: Cipher,
        *,
        size: int | tuple[int, int] | None = None,
        resize: Resize = "crop",
        fit: Fit | None = None,
        codec: Codec | None = None,
        allow_noise: bool = False,
        samples_per_shard: int = 1024,
        force: bool = False,
        ledger: str | os.PathLike[str] | None = None,
    ) -> None:
        """Checks the options and makes the folder ready.

        Args:
            out: a folder that does not exist or is empty, or a URL to upload to; the other arguments
                as in `write_shards`.
            cipher: scheme, key and key scope.
            size: see `write_shards`.
            resize: see `write_shards`.
            fit: see `write_shards`.
            codec: see `write_shards`.
            allow_noise: see `write_shards`.
            samples_per_shard: a new shard begins after so many.
            force: replace the data set that stands in `out`.
            ledger: see `write_shards`.

        Raises:
            CodecError: the scheme is noise to JPEG and `allow_noise` is not set.
            GeometryError: `size` does not fit the grid.
            OutputExistsError: `out` holds something.
        """
        check_counts(workers=1, samples_per_shard=samples_per_shard)
        self._encoder = SampleEncoder(
            cipher=cipher,
            codec=codec or JpegCodec(),
            size=(size, size) if isinstance(size, int) else size,
            resize=resize,
            fit=fit,
            allow_noise=allow_noise,
        )
        self._encoder.check()
        self._samples_per_shard = samples_per_shard
        self._destination, self._ledger = prepare_output(out, force=force, ledger=ledger)
        self._open: dict[str, _OpenShard] = {}
        self._written: dict[str, list[ShardEntry]] = {}
        self._marks: dict[str, str] = {}
        self._positions: dict[str, int] = {}
        self._classes = 0
        self._closed = False
        self.manifest: Manifest | None = None

    def write(
        self,
        image: Image.Image | npt.NDArray[np.uint8] | bytes,
        label: int = -1,
        *,
        split: str = "train",
        item: str = "",
    ) -> str:
        """Encrypts one image into the split's open shard and returns the sample's key.

        Args:
            image: PIL image of mode RGB, uint8 [H, W, 3], or the bytes of an image file.
            label: the class, or −1 for none; either all samples have one or none has.
            split: letters, digits and ``_``.
            item: what the owner's ledger calls the source, such as a path.

        Raises:
            ImageError: the image is of another type or mode, or cannot be read.
            GeometryError: it does not fit the grid.
            SourceError: the split's name is unusable, or the label is no class number.
            EtcError: the sample cannot be written; what was half written is removed.
            ValueError: the writer is closed, or a write has failed.
        """
        if self._closed:
            raise ValueError("this ShardWriter takes no more images: it is closed, or a write failed")
        split_is_good = len(split) <= 64 and split.replace("_", "a").isalnum() and split.isascii()
        if not split_is_good:
            raise SourceError(f"split {split!r} does not match {SPLIT_PATTERN}")
        if not isinstance(label, int | np.integer) or label < -1:
            raise SourceError(f"label {label!r} is no class number, nor −1 for none")
        has_labels = label >= 0
        if self._positions and has_labels != (self._classes > 0):
            raise SourceError("some samples have a label and some have none; give all or no labels")
        position = self._positions.get(split, 0)
        members = self._encode(image, int(label), split, position)
        key = members[0][0].partition(".")[0]
        with self._whole_or_not():
            shard = self._open.get(split)
            if shard is None:
                name = shard_name(split, len(self._written.get(split, ())))
                shard = self._open[split] = _OpenShard(self._destination, name, split)
            shard.add(members, (key, item, int(label)))
            self._positions[split] = position + 1
            self._classes = max(self._classes, int(label) + 1)
            if len(shard.samples) == self._samples_per_shard:
                self._finish(split)
        return key

    def _encode(self, image: object, label: int, split: str, position: int) -> list[tuple[str, bytes]]:
        if isinstance(image, bytes):
            return self._encoder.encode_file(image, label, split, position)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ImageError(f"array {image.dtype} {image.shape} is not uint8 [H, W, 3]")
            image = Image.fromarray(np.ascontiguousarray(image))
        if not isinstance(image, Image.Image):
            raise ImageError(
                f"an image is a PIL image, an array or a file's bytes, not {type(image).__name__}"
            )
        check_image(image)
        source_hash = hashlib.sha256(image.tobytes()).digest()
        return self._encoder.encode_image(image, label, split, position, source_hash)

    def _finish(self, split: str) -> None:
        shard = self._open[split]
        entry, mark = shard.close()
        self._written.setdefault(split, []).append(entry)
        self._marks[entry.name] = mark
        self._ledger.write_result(ShardResult(entry, tuple(shard.samples), (), 0, mark))
        del self._open[split]

    def close(self) -> Manifest:
        """Finishes the last shards and publishes the manifest, which it returns.

        Raises:
            SourceError: nothing was written.
            EtcError: a shard or the manifest cannot be written.
            ValueError: a write has failed before.
        """
        if self.manifest is not None:
            return self.manifest
        if self._closed:
            raise ValueError("this ShardWriter has no data set to finish: a write failed")
        with self._whole_or_not():
            for split in list(self._open):
                self._finish(split)
            shards = tuple(entry for entries in self._written.values() for entry in entries)
            if not shards:
                raise SourceError("no sample was written, so there is no data set to finish")
            manifest = make_manifest(self._encoder, shards, self._classes)
            publish_manifest(self._destination, manifest, self._marks)
            self.manifest = manifest
        self._closed = True
        self._ledger.unlock()
        return self.manifest

    @contextmanager
    def _whole_or_not(self) -> Iterator[None]:
        """Ends the writer without a data set if the block fails: a shard may be torn by then."""
        try:
            with writing(Path(str(self._destination))):
                yield
        except BaseException as error:
            self._abandon(error)
            raise

    def _abandon(self, error: BaseException) -> None:
        self._closed = True
        for shard in self._open.values():
            shard.discard(error)
        self._open.clear()
        self._ledger.unlock()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        self._abandon(error)


class _OpenShard:
    """A shard that is being written under a temporary name."""

    def __init__(self, destination: Destination, name: str, split: str) -> None:
        self.samples: list[tuple[str, str, int]] = []
        self._name, self._split = name, split
        self._stack = ExitStack()
        self._publication = self._stack.enter_context(destination.publishing(name))
        self._file = HashingFile(self._publication)
        self._tar = SampleTar(self._file)

    def add(self, members: list[tuple[str, bytes]], row: tuple[str, str, int]) -> None:
        self._tar.add(members)
        self.samples.append(row)

    def close(self) -> tuple[ShardEntry, str]:
        """Returns the shard's entry, and its mark where it was uploaded."""
        with self._stack:
            self._tar.close()
        file = self._file
        entry = ShardEntry(
            self._name, self._split, file.bytes_written, len(self.samples), file.sha256()
        )
        return entry, self._publication.mark

    def discard(self, error: BaseException) -> None:
        # published() removes the temporary file when its block ends by an error, and raises it
        # again; the caller's own error is on its way already.  A shard that is closed stays.
        try:
            self._stack.__exit__(type(error), error, error.__traceback__)
        except BaseException as again:
            if again is not error:
                raise
