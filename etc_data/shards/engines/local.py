"""Runs shard jobs on this machine: in this process, or in spawned ones with bounded memory."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from etc_data.errors import EtcError
from etc_data.shards.destination import Destination
from etc_data.shards.job import ShardJob, ShardResult, write_shard

Tick = Callable[[int], None]
"""Called with the number of items done since the last call."""

_POLL_SECONDS = 0.2
_JOBS_AHEAD_PER_WORKER = 2


def run_jobs(
    jobs: Iterable[ShardJob], destination: Destination, workers: int, tick: Tick
) -> Iterator[ShardResult]:
    """Yields the results of all jobs, in the order in which they end.

    Whatever ends it early (an error, an interrupt, the caller) also ends the workers, after the item
    that each has in hand and without a trace of the shards they were at.

    Args:
        jobs: made as they are asked for, so that a long list takes no memory.
        destination: where the shards go.
        workers: number of processes; 1 works in this one.
        tick: for a progress bar.

    Raises:
        EtcError: a shard cannot be written, or a worker process was killed.
    """
    if workers == 1:
        for job in jobs:
            yield write_shard(job, destination, lambda: tick(1))
        return
    # Forking a process that has threads (torch, Pillow) can deadlock; spawning never does.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    try:
        with ProcessPoolExecutor(workers, context, _start_worker, (counter, stop)) as pool:
            try:
                yield from _collect(jobs, destination, pool, workers, _Progress(counter, tick))
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
    except BrokenProcessPool:
        raise EtcError(
            "a worker process was killed, perhaps because memory ran out",
            "use fewer --workers, and continue with --resume; a script of your own also needs: "
            'if __name__ == "__main__":',
        ) from None
    finally:
        # Processes that were killed could not remove what they had half written.
        destination.remove_leftovers()


def _collect(
    jobs: Iterable[ShardJob],
    destination: Destination,
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
            with _interrupts_held_back():
                running.add(pool.submit(_run_in_worker, job, destination))
        if not running:
            return
        done, running = wait(running, _POLL_SECONDS, FIRST_COMPLETED)
        progress.report()
        for future in done:
            yield future.result()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Keeps interrupts from the keyboard for later; processes that start meanwhile never see any.

    They go to all processes at once, and a worker that is only just starting would fill the screen
    with what it was doing.  The main process tells the workers when to stop.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The mask is for the new processes, which inherit it.  Python still acts on a signal that another
    # thread received, so that its handler must wait as well.
    held: list[tuple[int, Any]] = []
    handler = signal.getsignal(signal.SIGINT)
    waits = callable(handler) and threading.current_thread() is threading.main_thread()
    if waits:
        signal.signal(signal.SIGINT, lambda *arguments: held.append(arguments))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if waits:
            signal.signal(signal.SIGINT, handler)
        if held and callable(handler):
            handler(*held[0])


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
_worker_stop: Any = None


class _Stopped(BaseException):
    """Ends a job that nobody waits for any more."""


def _start_worker(counter: Any, stop: Any) -> None:
    global _worker_counter, _worker_stop
    _worker_counter, _worker_stop = counter, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Workers of a process that was killed would go on and publish shards into a folder that may
    # have been given to another run.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(job: ShardJob, destination: Destination) -> ShardResult:
    if _worker_stop.is_set():
        raise _Stopped
    return write_shard(job, destination, _count_one)


def _count_one() -> None:
    if _worker_stop.is_set():
        raise _Stopped
    with _worker_counter.get_lock():
        _worker_counter.value += 1
