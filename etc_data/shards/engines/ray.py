"""Runs shard jobs as tasks of a Ray cluster; a task that is run again writes the same bytes.

The cluster must belong to the owner of the images: its workers see the key and the plain images.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from etc_data.errors import EtcError
from etc_data.shards.destination import Destination
from etc_data.shards.job import ShardJob, ShardResult, write_shard

_JOBS_AHEAD_PER_WORKER = 2
_MOST_RETRIES = 5
_CANCEL_SECONDS = 5


def run_jobs_on_ray(
    jobs: Iterable[ShardJob], destination: Destination, workers: int, tick: Callable[[int], None]
) -> Iterator[ShardResult]:
    """Yields the results of all jobs, in the order in which they end.

    A cluster that this process is connected to, or that ``RAY_ADDRESS`` names, is used; else one is
    started on this machine for the time of the run.  Its machines must reach the source and the
    destination under the same names.

    Args:
        jobs: made as they are asked for, so that a long list takes no memory.
        destination: where the shards go.
        workers: how many tasks run at the same time.
        tick: for a progress bar.

    Raises:
        EtcError: Ray is missing or broken, a shard cannot be written, or a worker was killed time
            and again.
    """
    ray = import_ray()
    try:
        with _connected(ray, workers) as is_own:
            if not is_own:
                # It is of this machine; a worker elsewhere has its own for temporary files.
                destination = replace(destination, staging=None)
            yield from _collect(ray, jobs, destination, workers, tick, is_own=is_own)
    finally:
        # Tasks that were killed could not remove what they had half written.
        destination.remove_leftovers()


def _collect(
    ray: Any,
    jobs: Iterable[ShardJob],
    destination: Destination,
    workers: int,
    tick: Callable[[int], None],
    *,
    is_own: bool,
) -> Iterator[ShardResult]:
    # On the cluster of others nothing but their number limits the tasks that run.
    most = workers * _JOBS_AHEAD_PER_WORKER if is_own else workers
    task = ray.remote(max_retries=_MOST_RETRIES)(_run_task)
    running: list[Any] = []
    waiting = iter(jobs)
    try:
        while True:
            while len(running) < most:
                job = next(waiting, None)
                if job is None:
                    break
                # Ray writes large arguments to its disk when memory runs short.  So the items go by
                # themselves, and the key with what is left, which is small enough to go in the call.
                running.append(task.remote(replace(job, items=()), job.items, destination))
            if not running:
                return
            done, running = ray.wait(running, num_returns=1)
            result = _result(ray, done[0])
            tick(len(result.samples) + len(result.failures))
            yield result
    finally:
        # A cluster of our own ends with the run, and its tasks with it.
        if running and not is_own:
            for reference in running:
                ray.cancel(reference)  # raises in the task, which then cleans up
            ray.wait(running, num_returns=len(running), timeout=_CANCEL_SECONDS)


def _run_task(job: ShardJob, items: Any, destination: Destination) -> ShardResult | EtcError:
    try:
        return write_shard(replace(job, items=items), destination, lambda: None)
    except EtcError as error:
        return error  # as it is; raised, Ray would wrap it


def _result(ray: Any, reference: Any) -> ShardResult:
    try:
        result = ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise EtcError(
            f"a worker of Ray was killed {_MOST_RETRIES + 1} times ({type(error).__name__}), perhaps "
            "because memory ran out",
            "use fewer --workers, and continue with --resume",
        ) from None
    if isinstance(result, EtcError):
        raise result
    assert isinstance(result, ShardResult)
    return result


def import_ray() -> Any:
    """Returns the package ray.

    Raises:
        EtcError: it is not installed, or broken.
    """
    # It would tell its makers of every use.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise EtcError(f"the engine ray needs Ray: {error}", "pip install 'etc-data[ray]'") from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, workers: int) -> Iterator[bool]:
    """Yields whether a cluster was started for this run alone."""
    if ray.is_initialized():
        yield False
        return
    is_own = not os.environ.get("RAY_ADDRESS")
    # Without an address Ray would join any cluster that it finds on this machine.
    own = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    at_termination = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **(own if is_own else {}))
        if callable(at_termination):
            signal.signal(signal.SIGTERM, at_termination)  # Ray has put its own in the place
    except Exception as error:  # Ray raises many kinds
        raise EtcError(f"Ray cannot be started: {error}", "check RAY_ADDRESS, or ray status") from None
    try:
        yield is_own
    finally:
        ray.shutdown()
