"""Send the requests of one run: a closed loop of so many in flight, or arrivals at their own times.

A run ends early where the server fails many times in a row; what was not sent is counted as that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np

from flashstill.errors import BadInput
from flashstill.load_test.client import Client, Reply
from flashstill.load_test.dialects import Dialect
from flashstill.load_test.failures import OK
from flashstill.load_test.prompts import Prompts
from flashstill.simulate.loop import Arrivals

Sink = Callable[[Reply], None]
FEWEST_FAILURES, LAG_EVERY_S = 8, 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """The requests of a run: seconds from its start (infinite in a closed loop), and tokens.

    numbers: of the requests, which with the seed make their prompts; no two runs should have the same seed.
    """

    arrival_s: np.ndarray
    prompt: np.ndarray
    output: np.ndarray
    cached: np.ndarray
    numbers: np.ndarray
    seed: int

    @staticmethod
    def of(pieces: Iterable[Arrivals], most: int | None, seed: int) -> Traffic:
        """Pieces of arrivals as one, at most `most` requests."""
        kept: list[Arrivals] = []
        for piece in pieces:
            kept.append(piece)
            if most is not None and sum(len(each.prompt) for each in kept) >= most:
                break
        if not kept:
            raise BadInput("the trace holds no requests")
        columns = [np.concatenate(column)[:most] for column in zip(*kept, strict=True)]
        numbers = np.arange(len(columns[0]))
        return Traffic(
            arrival_s=columns[0], prompt=columns[1], output=columns[2], cached=columns[3], numbers=numbers, seed=seed
        )

    def every(self, first: int, step: int) -> Traffic:
        """The requests first, first + step, ..."""
        names = ("arrival_s", "prompt", "output", "cached", "numbers")
        return Traffic(**{name: getattr(self, name)[first::step] for name in names}, seed=self.seed)

    def __len__(self) -> int:
        return len(self.prompt)


@dataclass(kw_only=True, slots=True)
class Ran:
    """What a run took of this machine: wall and processor seconds, the latest that its event loop woke up, and the
    requests that were not sent."""

    wall_s: float = 0.0
    processor_s: float = 0.0
    lag_s: float = 0.0
    started: float = 0.0
    not_sent: int = 0


class Run:
    """One run in progress. stop: asked after every reply; no further request is sent once it returns True."""

    def __init__(
        self, client: Client, dialect: Dialect, prompts: Prompts, traffic: Traffic, sink: Sink,
        stop: Callable[[Reply], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        self._client, self._dialect, self._prompts, self._traffic = client, dialect, prompts, traffic
        self._sink, self._stop, self._stopped, self._in_a_row = sink, stop, False, 0
        self._most_in_a_row = FEWEST_FAILURES
        self._given_up, self._ran = False, Ran()

    def halt(self) -> None:
        """Send no further request."""
        self._stopped = True

    async def closed(self, concurrency: int, started: float | None = None) -> Ran:
        """All requests, `concurrency` in flight: so many at once at first, then one whenever another is done.

        started: the moment that times are counted from, if it is not now.
        """
        self._most_in_a_row = max(FEWEST_FAILURES, 2 * concurrency)
        numbers = iter(range(len(self._traffic)))

        async def slot() -> None:
            for number in numbers:
                await self._one(number, time.perf_counter())
                if self._stopped:
                    return

        async with _timed(self._ran, started) as ran, asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(self._traffic))):
                group.create_task(slot())
        return self._left_over(ran, numbers)

    async def opened(self, most_in_flight: int, started: float | None = None) -> Ran:
        """All requests at their times; beyond `most_in_flight`, they wait here, which counts as the client's queue."""
        self._most_in_a_row = 4 * FEWEST_FAILURES
        room = asyncio.Semaphore(most_in_flight)
        numbers: Iterator[int] = iter(range(len(self._traffic)))

        async def one(number: int, due: float) -> None:
            try:
                await self._one(number, due)
            finally:
                room.release()

        async with _timed(self._ran, started) as ran, asyncio.TaskGroup() as group:
            for number in numbers:
                due = ran.started + float(self._traffic.arrival_s[number])
                await asyncio.sleep(max(due - time.perf_counter(), 0.0))
                await room.acquire()
                if self._stopped:
                    numbers = chain((number,), numbers)
                    break
                group.create_task(one(number, due))
        return self._left_over(ran, numbers)

    async def _one(self, number: int, due: float) -> None:
        traffic = self._traffic
        columns = (traffic.prompt, traffic.output, traffic.cached, traffic.numbers)
        prompt, output, cached, number = (int(column[number]) for column in columns)
        text = self._prompts.make(prompt, cached, np.random.default_rng((traffic.seed, number)))
        reply = Reply(number=number, due=due, wanted_prompt=prompt, wanted_output=output)
        try:
            await self._client.ask(self._dialect.path, self._dialect.body(text, output), reply)
        finally:
            reply.since(self._ran.started)
            self._sink(reply)
        self._in_a_row = 0 if reply.outcome == OK else self._in_a_row + 1
        self._given_up = self._given_up or self._in_a_row >= self._most_in_a_row
        self._stopped = self._given_up or self._stop(reply) or self._stopped

    def _left_over(self, ran: Ran, numbers: Iterator[int]) -> Ran:
        """Count what was not sent, if the server was given up (and not if the run was told to stop)."""
        if self._given_up:
            ran.not_sent = sum(1 for _ in numbers)
        return ran


@asynccontextmanager
async def _timed(ran: Ran, started: float | None) -> AsyncIterator[Ran]:
    """Times a run, and watches how late this process's event loop wakes up."""
    ran.started = time.perf_counter() if started is None else started
    processor = time.process_time()

    async def watch() -> None:
        while True:
            slept = time.perf_counter()
            await asyncio.sleep(LAG_EVERY_S)
            ran.lag_s = max(ran.lag_s, time.perf_counter() - slept - LAG_EVERY_S)

    watching = asyncio.get_running_loop().create_task(watch())
    try:
        yield ran
    finally:
        watching.cancel()
        ran.wall_s = time.perf_counter() - ran.started
        ran.processor_s = time.process_time() - processor
