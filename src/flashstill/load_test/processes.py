"""Clients in processes of their own, where one would be too slow: each sends its share of every run.

Process i of n takes the requests i, i + n, ... and, in a closed loop, its share of those in flight, so that a level has
exactly the load that was asked for.  All count from one moment of the machine's clock (time.perf_counter is the same in
all processes on Linux and macOS).  A process ends with its parent, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from flashstill.errors import FlashstillError
from flashstill.load_test.client import Client, Reply, connected
from flashstill.load_test.dialects import Dialect
from flashstill.load_test.drive import Ran, Run, Sink
from flashstill.load_test.prompts import Prompts
from flashstill.load_test.question import Level, LoadTest
from flashstill.load_test.traffic import Traffic

START_S, END_S, POLL_S = 0.2, 5.0, 0.005
"""seconds from the last process that is ready to the common start, that a process has to end, and between two looks"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one process does in a run. in_flight: of a closed loop, or the most of an open one."""

    traffic: Traffic
    is_closed: bool
    in_flight: int


def shares(traffic: Traffic, level: Level, most_in_flight: int, processes: int) -> list[Share]:
    """A run's requests dealt out in turn; no more processes than requests in flight."""
    in_flight = int(level.value) if level.is_closed else most_in_flight
    count = min(processes, in_flight)
    return [
        Share(
            traffic=traffic.every(first, count), is_closed=level.is_closed,
            in_flight=in_flight // count + (first < in_flight % count),
        )
        for first in range(count)
    ]  # fmt: skip


class Processes:
    """Client processes for all runs of a measurement, used with `with`."""

    def __init__(self, asked: LoadTest, dialect: Dialect, prompts: Prompts) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(asked.clients):
            here, there = spawn.Pipe()
            arguments = (there, asked.address, asked.time_limit_s, asked.stall_s, dialect, prompts.without_tokenizer())
            process = spawn.Process(target=_work, args=arguments, daemon=True)
            process.start()
            there.close()
            self._ends.append(here)
            self._processes.append(process)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(0.0 if error is not None else END_S)
            process.terminate()

    async def drive(self, work: list[Share], sink: Sink, stop: Callable[[Reply], bool]) -> Ran:
        """One run by all processes: replies go to `sink` as they come; after `stop`, no further request is sent.

        It never blocks, so that an interruption is heard: without a reply it sleeps for POLL_S. The times are of the
        processes.
        """
        used = self._ends[: len(work)]
        for end, share in zip(used, work, strict=True):
            end.send(share)
        for end in used:
            while not end.poll():
                await asyncio.sleep(POLL_S)
            _received(end)  # it is ready
        started = time.perf_counter() + START_S
        for end in used:
            end.send(started)
        processor, ran, left = time.process_time(), Ran(started=started), set(used)
        while left:
            waiting = wait(list(left), 0.0)
            await asyncio.sleep(0.0 if waiting else POLL_S)
            for ready in waiting:
                assert isinstance(ready, Connection)
                what = _received(ready)
                if isinstance(what, Ran):
                    left.discard(ready)
                    ran.processor_s += what.processor_s
                    ran.lag_s, ran.wall_s = max(ran.lag_s, what.lag_s), max(ran.wall_s, what.wall_s)
                    ran.not_sent += what.not_sent
                    continue
                sink(what)
                if stop(what):
                    for each in left:
                        with contextlib.suppress(OSError):
                            each.send(None)
                    stop = lambda _: False
        ran.processor_s += time.process_time() - processor
        return ran


def _received(end: Connection) -> Any:
    try:
        return end.recv()
    except (EOFError, OSError) as error:
        raise FlashstillError("a client process ended before its run; measure with fewer --clients") from error


def _work(
    end: Connection, address: str, time_limit_s: float, stall_s: float, dialect: Dialect, prompts: Prompts
) -> None:
    """A client process: one share after another, until the parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides

    async def all_runs() -> None:
        async with connected(address, time_limit_s, stall_s) as client:
            while True:
                while (share := await asyncio.to_thread(end.recv)) is None:
                    pass  # told to stop a run that had just ended
                end.send("ready")
                started = await asyncio.to_thread(end.recv)
                end.send(await _one_run(end, client, dialect, prompts, share, started))

    with contextlib.suppress(EOFError, OSError):
        asyncio.run(all_runs())


async def _one_run(
    end: Connection, client: Client, dialect: Dialect, prompts: Prompts, share: Share, started: float
) -> Ran:
    run = Run(client, dialect, prompts, share.traffic, end.send)
    loop = asyncio.get_running_loop()

    def told() -> None:
        loop.remove_reader(end.fileno())
        with contextlib.suppress(EOFError, OSError):
            end.recv()
        run.halt()

    loop.add_reader(end.fileno(), told)
    try:
        await asyncio.sleep(max(started - time.perf_counter(), 0.0))
        way = run.closed if share.is_closed else run.opened
        return await way(share.in_flight, started)
    finally:
        loop.remove_reader(end.fileno())
