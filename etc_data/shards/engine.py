"""Runs shard jobs on this machine: in this process, or in spawned ones with bounded memory."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from etc_data.errors import EtcError
from etc_data.shards.job import ShardJob, ShardResult, write_shard

Tick = Callable[[int], None]
"""Called with the number of items done since the last call."""

_POLL_SECONDS = 0.2
_JOBS_AHEAD_PER_WORKER = 2


def run_jobs(jobs: Iterable[ShardJob], folder: Path, workers: int, tick: Tick) -> Iterator[ShardResult]:
    """Yields the results of all jobs, in the order in which they end.

    Args:
        jobs: made as they are asked for, so that a long list takes no memory.
        folder: where the shards go.
        workers: number of processes; 1 works in this one.
        tick: for a progress bar.

    Raises:
        EtcError: a shard cannot be written, or a worker process was killed.
    """
    if workers == 1:
        for job in jobs:
            yield write_shard(job, folder, lambda: tick(1))
        return
    # Forking a process that has threads (torch, Pillow) can deadlock; spawning never does.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(workers, context, _start_worker, (counter,)) as pool:
        try:
            yield from _collect(jobs, folder, pool, workers, _Progress(counter, tick))
        except BrokenProcessPool:
            raise EtcError(
                "a worker process was killed, perhaps because memory ran out",
                "use fewer --workers",
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _collect(
    jobs: Iterable[ShardJob],
    folder: Path,
    pool: ProcessPoolExecutor,
    workers: int,
    progress: "_Progress",
) -> Iterator[ShardResult]:
    waiting = iter(jobs)
    running: set[Future[ShardResult]] = set()
    while True:
        while len(running) < workers * _JOBS_AHEAD_PER_WORKER:
            job = next(waiting, None)
            if job is None:
                break
            running.add(pool.submit(_run_in_worker, job, folder))
        if not running:
            return
        done, running = wait(running, _POLL_SECONDS, FIRST_COMPLETED)
        progress.report()
        for future in done:
            yield future.result()


class _Progress:
    """Passes on what the workers' shared counter gained since the last report."""

    def __init__(self, counter: Any, tick: Tick) -> None:
        self._counter, self._tick, self._reported = counter, tick, 0

    def report(self) -> None:
        gained = self._counter.value - self._reported
        self._reported += gained
        if gained:
            self._tick(gained)


_worker_counter: Any = None


def _start_worker(counter: Any) -> None:
    global _worker_counter  # noqa: PLW0603 (a shared counter reaches a worker only at its start)
    _worker_counter = counter


def _run_in_worker(job: ShardJob, folder: Path) -> ShardResult:
    return write_shard(job, folder, _count_one)


def _count_one() -> None:
    with _worker_counter.get_lock():
        _worker_counter.value += 1
