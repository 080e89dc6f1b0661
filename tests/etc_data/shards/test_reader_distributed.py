"""Ranks as torch.distributed knows them, in real processes."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from torch import distributed

from etc_data.shards import open_shards

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="torch without gloo"
)

RANK_PROGRAM = """
import json, pickle, sys
from operator import attrgetter
from torch import distributed
from torch.utils.data import DataLoader
from etc_data.shards import open_shards

folder, meeting, rank, world_size, workers = sys.argv[1:]
keys = {"form": "sample", "transform": attrgetter("key")}
data = open_shards(folder, shuffle=True, seed=2, ranks="exact", **keys)
before = len(data)
distributed.init_process_group(
    "gloo", init_method=f"file://{meeting}", rank=int(rank), world_size=int(world_size)
)
explicit = open_shards(folder, rank=0, world_size=1, **keys)
result = {"before": before, "length": len(data), "explicit": len(list(explicit)), "keys": []}
for epoch in (0, 1):
    data.set_epoch(epoch)
    result["keys"].append(list(DataLoader(data, batch_size=None, num_workers=int(workers))))
data.set_epoch(0)
pickled = pickle.dumps(data)
distributed.barrier()
distributed.destroy_process_group()
result["elsewhere"] = list(pickle.loads(pickled))
print(json.dumps(result))
"""


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_two_processes_share_the_samples(tmp_path, written, environment, workers):
    ranks = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", RANK_PROGRAM, written),
                *(tmp_path / "meeting", str(rank), "2", str(workers)),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    results = [json.loads(rank.communicate(timeout=120)[0].splitlines()[-1]) for rank in ranks]
    assert [result["before"] for result in results] == [33, 33]
    assert [result["length"] for result in results] == [16, 17]
    assert [result["explicit"] for result in results] == [33, 33]
    if workers == 0:
        # What a spawned DataLoader worker gets: it belongs to the rank, but has no process group.
        assert [result["elsewhere"] for result in results] == [result["keys"][0] for result in results]
    for epoch in (0, 1):
        data = open_shards(written, shuffle=True, seed=2, form="sample")
        data.set_epoch(epoch)
        whole = [sample.key for sample in data]
        shares = [result["keys"][epoch] for result in results]
        assert Counter(shares[0] + shares[1]) == Counter(whole)
        if workers == 0:
            assert shares[0] + shares[1] == whole
