import os
from functools import partial
from pathlib import Path

import pytest

from etc_data.errors import EtcError
from etc_data.shards.destination import Destination
from etc_data.shards.engines.local import run_jobs
from etc_data.shards.storage import LocalStorage

both = pytest.mark.parametrize("workers", [1, 2])


def to(folder):
    return Destination(LocalStorage(folder))


def names(folder):
    return sorted(os.listdir(folder))


@both
def test_every_job_has_its_result(out, job, workers):
    ticks = []
    results = list(run_jobs(map(job, range(7)), to(out), workers, ticks.append))
    assert (
        sorted(r.entry.name for r in results) == names(out) == [f"train-{i:06d}.tar" for i in range(7)]
    )
    for result in results:
        number = int(result.entry.name[6:12])
        assert result.entry.bytes == (out / result.entry.name).stat().st_size
        assert result.samples == tuple(
            (f"train-{10 * number + i:09d}", f"{number}/{i}", 0) for i in range(3)
        )
    assert sum(ticks) == 21
    assert min(ticks) > 0


@both
def test_no_jobs_give_no_results(out, workers):
    assert list(run_jobs([], to(out), workers, lambda _: None)) == []


@both
def test_jobs_are_made_as_they_are_needed(out, job, workers):
    made = []

    def jobs():
        for number in range(1000):
            made.append(number)
            yield job(number)

    results = run_jobs(jobs(), to(out), workers, lambda _: None)
    for _ in range(3):
        next(results)
    assert len(made) <= 3 + 4 * workers
    results.close()
    assert not [name for name in names(out) if name.endswith(".partial")]


@both
def test_error_of_one_job_ends_all(out, job, workers):
    (out / "train-000002.tar").mkdir()
    results = run_jobs((job(number) for number in range(1000)), to(out), workers, lambda _: None)
    with pytest.raises(EtcError, match=r"shard train-000002\.tar cannot be written: Is a directory"):
        list(results)
    assert not [name for name in names(out) if name.endswith(".partial")]
    assert len(names(out)) < 20


@both
def test_error_that_nobody_foresaw_passes_and_cleans_up(out, job, workers):
    results = run_jobs([job(0), job(1, partial(int, "x"))], to(out), workers, lambda _: None)
    with pytest.raises(ValueError, match="invalid literal"):
        list(results)
    assert set(names(out)) <= {"train-000000.tar"}


def test_killed_worker_is_one_clear_error(out, job, tmp_path):
    read = (tmp_path / "photo.jpg").read_bytes
    jobs = [job(0), job(1, read, read, partial(os._exit, 9)), *(job(i) for i in range(2, 40))]
    with pytest.raises(EtcError, match="a worker process was killed") as caught:
        list(run_jobs(jobs, to(out), 2, lambda _: None))
    assert caught.value.hint.startswith("use fewer --workers")
    assert not [name for name in names(out) if name.endswith(".partial")]
    assert "train-000001.tar" not in names(out)


def test_caller_who_loses_interest_stops_the_workers(out, job):
    results = run_jobs((job(number) for number in range(1000)), to(out), 2, lambda _: None)
    next(results)
    results.close()
    after = names(out)
    assert len(after) < 30
    assert all(Path(out / name).stat().st_size % 10_240 == 0 for name in after)
