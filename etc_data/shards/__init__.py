"""EtC shards: webdataset tars of encrypted images, written whole, sealed, and streamed back.

The reader alone needs torch; it is imported when it is first asked for, so that the command line
and the workers that write shards start without it.
"""

from typing import TYPE_CHECKING, Any

from etc_data.shards.cache import ShardCache
from etc_data.shards.decrypt import decrypt_shards
from etc_data.shards.manifest import Manifest
from etc_data.shards.samples import Sample
from etc_data.shards.shard_writer import ShardWriter
from etc_data.shards.single import decrypt_photo, encrypt_photo
from etc_data.shards.verify import verify_shards
from etc_data.shards.writer import SkippedItemsError, WriteSummary, write_shards

if TYPE_CHECKING:
    from etc_data.shards.reader import EtcShards, open_shards

__all__ = [
    "EtcShards",
    "Manifest",
    "Sample",
    "ShardCache",
    "ShardWriter",
    "SkippedItemsError",
    "WriteSummary",
    "decrypt_photo",
    "decrypt_shards",
    "encrypt_photo",
    "open_shards",
    "verify_shards",
    "write_shards",
]


def __getattr__(name: str) -> Any:
    if name in ("EtcShards", "open_shards"):
        from etc_data.shards import reader

        return getattr(reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
