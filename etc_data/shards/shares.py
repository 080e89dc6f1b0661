"""Who gives out which part of an epoch's order: ranges for ranks, and in them for DataLoader workers.

Ranges rather than every n-th sample, so that a process opens only the shards that it reads: with n
processes, strides would have each of them fetch and verify everything.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch.utils.data import get_worker_info

from etc_data.shards.integers import to_integer

RankPolicy = Literal["exact", "pad", "drop"]


def rank_share(samples: int, rank: int, world_size: int, policy: RankPolicy) -> range:
    """Returns the positions of an epoch's order that a rank gives out.

    Args:
        samples: in the epoch.
        rank: 0 … `world_size` − 1.
        world_size: number of ranks.
        policy: ``"exact"``: every sample once, shares are equal within one; ``"pad"``: shares are
            equal, and positions from `samples` on stand for the order's beginning again;
            ``"drop"``: shares are equal, and the order's last few samples are left out.

    Raises:
        ValueError: nothing would be left after dropping.
    """
    if policy == "exact":
        return range(samples * rank // world_size, samples * (rank + 1) // world_size)
    count = samples // world_size
    if policy == "pad":
        count = -(-samples // world_size)
    elif count == 0:
        raise ValueError(
            f'ranks="drop" would drop everything: {samples} samples for {world_size} ranks; '
            'choose "pad" or "exact"'
        )
    return range(count * rank, count * (rank + 1))


def worker_share(share: range, worker: int, workers: int, batch_size: int) -> range:
    """Returns the part of a rank's share that one of its DataLoader workers gives out.

    Parts are whole batches; only the last batch of the share may be short.  A DataLoader takes a
    batch from each worker in turn, so the part with that batch goes to whoever's turn is the last.

    Args:
        share: of the rank.
        worker: 0 … `workers` − 1.
        workers: their number.
        batch_size: samples per batch.
    """
    batches = -(-len(share) // batch_size)
    each, more = divmod(batches, workers)
    # Workers 0 … more − 1 give one batch more than the others, and their parts come last.
    part = (worker - more) % workers
    first = part * each + max(0, part - (workers - more))
    end = first + each + (worker < more)
    return share[first * batch_size : end * batch_size]


@dataclass(frozen=True)
class Shares:
    """Divides an epoch's order among ranks and DataLoader workers.

    Attributes:
        ranks: the policy, see `rank_share`.
        batch_size: of the DataLoader; None for single samples.
        rank: of this process; None asks torch.distributed when it matters.
        world_size: likewise.
    """

    ranks: RankPolicy
    batch_size: int | None
    rank: int | None
    world_size: int | None

    def __post_init__(self) -> None:
        for name in ("batch_size", "rank", "world_size"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, to_integer(name, getattr(self, name)))
        rank, world_size = self.rank, self.world_size
        if self.ranks not in get_args(RankPolicy):
            known = ", ".join(get_args(RankPolicy))
            raise ValueError(f"ranks is {self.ranks!r}; it must be one of {known}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1")
        if (rank is None) != (world_size is None):
            raise ValueError("give both rank and world_size, or none of them")
        if world_size is not None and world_size < 1:
            raise ValueError(f"world_size is {world_size}; it must be at least 1")
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not in 0 … {world_size - 1}")

    def of_rank(self, samples: int) -> range:
        """Returns the share of this process's rank.

        Raises:
            ValueError: nothing would be left after dropping.
        """
        rank, world_size = self._rank_and_world_size()
        return rank_share(samples, rank, world_size, self.ranks)

    def of_process(self, samples: int) -> range:
        """Returns the share of this process: of its rank, or in a DataLoader worker of that worker.

        Raises:
            ValueError: nothing would be left after dropping.
        """
        share = self.of_rank(samples)
        worker = get_worker_info()
        if worker is None:
            return share
        return worker_share(share, worker.id, worker.num_workers, self.batch_size or 1)

    def describe(self) -> dict[str, int | str]:
        """Returns what decides about `of_process`, as a checkpoint can hold it."""
        rank, world_size = self._rank_and_world_size()
        worker = get_worker_info()
        return {
            "ranks": self.ranks,
            "rank": rank,
            "world_size": world_size,
            "worker": 0 if worker is None else worker.id,
            "num_workers": 0 if worker is None else worker.num_workers,
            "batch_size": self.batch_size or 1,
        }

    def _rank_and_world_size(self) -> tuple[int, int]:
        if self.rank is not None and self.world_size is not None:
            return self.rank, self.world_size
        if _distributed():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def __getstate__(self) -> dict[str, Any]:
        # A spawned DataLoader worker belongs to this rank, but there torch.distributed knows nothing.
        if not _distributed():
            return self.__dict__
        rank, world_size = self._rank_and_world_size()
        return {**self.__dict__, "rank": rank, "world_size": world_size}


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
