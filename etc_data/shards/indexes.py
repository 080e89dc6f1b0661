"""Side indexes, with which timm's ``wds/`` reader and wids read the same folder."""

from typing import Any

from etc_data.shards.manifest import Manifest

TIMM_INDEX_NAME = "_info.json"
WIDS_INDEX_SUFFIX = ".wids"


def side_indexes(manifest: Manifest) -> dict[str, Any]:
    """Returns the content of each index file; it says nothing that the manifest does not say."""
    indexes: dict[str, Any] = {}
    timm_splits = {}
    for split, shards in manifest.splits.items():
        timm_splits[split] = {
            "name": split,
            "num_samples": sum(shard.samples for shard in shards),
            "filenames": [shard.name for shard in shards],
            "shard_lengths": [shard.samples for shard in shards],
        }
        shard_list = [{"url": shard.name, "nsamples": shard.samples} for shard in shards]
        indexes[f"{split}{WIDS_INDEX_SUFFIX}"] = {
            "wids_version": 1,
            "name": split,
            "shardlist": shard_list,
        }
    indexes[TIMM_INDEX_NAME] = {"splits": timm_splits}
    return indexes
