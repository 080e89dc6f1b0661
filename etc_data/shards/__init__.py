"""EtC shards: webdataset tars of encrypted images, written whole, sealed, and streamed back."""

from etc_data.shards.decrypt import decrypt_shards
from etc_data.shards.manifest import Manifest
from etc_data.shards.reader import EtcShards, open_shards
from etc_data.shards.samples import Sample
from etc_data.shards.shard_writer import ShardWriter
from etc_data.shards.single import decrypt_photo, encrypt_photo
from etc_data.shards.verify import verify_shards
from etc_data.shards.writer import SkippedItemsError, WriteSummary, write_shards

__all__ = [
    "EtcShards",
    "Manifest",
    "Sample",
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
