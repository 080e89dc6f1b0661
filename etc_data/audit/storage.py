"""What storage tells whoever reads the bucket: no attack, just a look."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from etc_data.shards.data_set import Place


@dataclass(frozen=True)
class StorageSummary:
    """What files, manifest and side indexes say without any key.

    Attributes:
        scheme: its name; the steps stand in the manifest too.
        key_id: which data sets share a key.
        key_scope: ``"dataset"`` or ``"image"``.
        context: the public text that sets draws apart.
        samples: how many per split.
        labels: how many samples per label, over all splits; empty where labels were left out.
        class_names: where the owner chose to publish them.
        copies: encrypted copies of each training image.
        image_bytes: least, median and greatest size of an encoded image: how busy the pictures are.
        bytes_by_label: median size of an encoded image per label.
        nonces: how many samples carry one.
    """

    scheme: str
    key_id: str
    key_scope: str
    context: str
    samples: dict[str, int]
    labels: dict[int, int]
    class_names: tuple[str, ...]
    copies: int
    image_bytes: tuple[int, int, int]
    bytes_by_label: dict[int, int]
    nonces: int

    def to_dict(self) -> dict[str, Any]:
        """Returns it as what JSON can hold."""
        return asdict(self)


def look_at_storage(folder: Place) -> StorageSummary:
    """Returns what a data set of shards tells without its key; every shard is read once.

    Raises:
        ManifestError: there is no such data set.
        DamagedShardError: a shard is missing, cut short or altered.
    """
    from etc_data.shards import open_shards

    shards = open_shards(folder, form="sample", rank=0, world_size=1)
    manifest = shards.manifest
    sizes, sizes_of, nonces = [], dict[int, list[int]](), 0
    for sample in shards:
        sizes.append(len(sample.image))
        nonces += sample.nonce() is not None
        if sample.label >= 0:
            sizes_of.setdefault(sample.label, []).append(len(sample.image))
    least, median, most = np.percentile(sizes or [0], [0, 50, 100]).astype(int).tolist()
    labels = Counter({label: len(of_label) for label, of_label in sorted(sizes_of.items())})
    return StorageSummary(
        scheme=manifest.scheme.name,
        key_id=manifest.key_id,
        key_scope=manifest.key_scope,
        context=manifest.context,
        samples={name: sum(s.samples for s in parts) for name, parts in manifest.splits.items()},
        labels=dict(labels),
        class_names=manifest.class_names,
        copies=manifest.copies,
        image_bytes=(least, median, most),
        bytes_by_label={label: int(np.median(sizes_of[label])) for label in labels},
        nonces=nonces,
    )
