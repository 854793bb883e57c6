"""Run jobs on all cores, or on a Dask cluster; results come as they are done, each with the number of its job."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from flashstill.errors import BadInput

J = TypeVar("J")
R = TypeVar("R")
WAIT_S = 30
"""for the scheduler of a cluster to answer"""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each_done(
    work: Callable[[J], R], jobs: Sequence[J], workers: int | None = None, dask: str | None = None
) -> Iterator[tuple[int, R]]:
    """Results in the order in which they are done. work: a function of a module; jobs and results can be pickled.

    workers: processes, all cores unless said; 1 stays in this process.  dask: the address of a scheduler.
    When the iteration is left early, what has not begun is cancelled.
    """
    if dask is not None:
        yield from _on_cluster(work, jobs, dask)
        return
    count = min(workers or cores(), len(jobs))
    if count <= 1:
        for number, job in enumerate(jobs):
            yield number, work(job)
        return
    # Fresh processes: a fork of a process with threads (NumPy's, Numba's) may hang
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    try:
        numbers: dict[Future[R], int] = {pool.submit(work, job): number for number, job in enumerate(jobs)}
        for done in as_completed(numbers):
            yield numbers[done], done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _on_cluster(work: Callable[[J], R], jobs: Sequence[J], address: str) -> Iterator[tuple[int, R]]:
    from distributed import Client

    try:
        client: Any = Client(address, timeout=WAIT_S)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise BadInput(f"no Dask scheduler answers at {address}: {error or type(error).__name__}") from error
    with client:
        futures = client.map(work, list(jobs), pure=False)
        done: SimpleQueue[int] = SimpleQueue()  # each future reports once: to wait for all of them is quadratic
        for number, future in enumerate(futures):
            future.add_done_callback(lambda _, number=number: done.put(number))
        came = 0
        try:
            while came < len(futures):
                try:
                    number = done.get(timeout=WAIT_S)
                except Empty:
                    if client.scheduler_info()["workers"]:  # a long job
                        continue
                    asked = f"{came} of {len(jobs)} answers came"
                    raise BadInput(f"the Dask cluster at {address} has no worker; {asked}") from None
                came += 1
                yield number, futures[number].result()
        finally:
            client.cancel(futures)
