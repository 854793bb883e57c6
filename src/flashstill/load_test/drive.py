"""Send the requests of one run: a closed loop of so many in flight, or arrivals at their own times.

A run ends early where the server fails many times in a row; what was not sent is counted as that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from flashstill.load_test.client import Client, Reply
from flashstill.load_test.dialects import Dialect
from flashstill.load_test.failures import OK
from flashstill.load_test.prompts import Prompts
from flashstill.load_test.talk import Said
from flashstill.load_test.traffic import Traffic

Sink = Callable[[Reply], None]
FEWEST_FAILURES, LAG_EVERY_S = 8, 0.05


@dataclass(kw_only=True, slots=True)
class Ran:
    """What a run took of this machine: wall and processor seconds, the latest that its event loop woke up, and the
    requests that were not sent. turns: of conversations, sent after the one before them; late: those of them that were
    due later than in the trace, by late_s in all."""

    wall_s: float = 0.0
    processor_s: float = 0.0
    lag_s: float = 0.0
    started: float = 0.0
    not_sent: int = 0
    turns: int = 0
    late: int = 0
    late_s: float = 0.0


class Run:
    """One run in progress. stop: asked after every reply; no further request is sent once it returns True."""

    def __init__(
        self, client: Client, dialect: Dialect, prompts: Prompts, traffic: Traffic, sink: Sink,
        stop: Callable[[Reply], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        self._client, self._dialect, self._prompts, self._traffic = client, dialect, prompts, traffic
        self._sink, self._stop, self._stopped, self._in_a_row = sink, stop, False, 0
        self._most_in_a_row = FEWEST_FAILURES
        self._given_up, self._ran, self._sent = False, Ran(), 0
        after = traffic.followers
        self._talk = None if after is None else after.talk(prompts, traffic.arrival_s, traffic.seed)

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
        return self._left_over(ran)

    async def opened(self, most_in_flight: int, started: float | None = None) -> Ran:
        """All requests at their times, or after the turn before them; beyond `most_in_flight`, they wait here, which
        counts as the client's queue."""
        self._most_in_a_row = 4 * FEWEST_FAILURES
        room = asyncio.Semaphore(most_in_flight)
        firsts = range(len(self._traffic)) if self._talk is None else self._talk.firsts

        async def one(number: int, due: float) -> None:
            try:
                await self._one(number, due)
            finally:
                room.release()
            for each, later in self._turns_after(number):
                group.create_task(turn(each, later))

        async def turn(number: int, due: float) -> None:
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            await room.acquire()
            if self._stopped:
                room.release()
                return
            await one(number, due)

        async with _timed(self._ran, started) as ran, asyncio.TaskGroup() as group:
            for number in firsts:
                due = ran.started + float(self._traffic.arrival_s[number])
                await asyncio.sleep(max(due - time.perf_counter(), 0.0))
                await room.acquire()
                if self._stopped:
                    break
                group.create_task(one(number, due))
        return self._left_over(ran)

    def _turns_after(self, number: int) -> Iterator[tuple[int, float]]:
        """The turns that follow a request which has just ended, and when they are due."""
        if self._talk is None or self._stopped:
            return
        ran = self._ran
        for each, due_s, late_s in self._talk.after(number, time.perf_counter() - ran.started):
            ran.turns += 1
            ran.late += late_s > 0.0
            ran.late_s += late_s
            yield each, ran.started + due_s

    async def _one(self, number: int, due: float) -> None:
        traffic = self._traffic
        columns = (traffic.prompt, traffic.output, traffic.cached, traffic.numbers)
        place, (prompt, output, cached, number) = number, (int(column[number]) for column in columns)
        self._sent += 1
        before: Said = ()
        said = list[str]()
        drawn = np.random.default_rng((traffic.seed, number))
        if self._talk is None:
            text = self._prompts.make(prompt, cached, drawn)
        else:
            before, text = self._talk.text(place, prompt, cached, drawn, least=int(self._dialect.api == "chat"))
        reply = Reply(number=number, due=due, wanted_prompt=prompt, wanted_output=output)
        try:
            body = self._dialect.body(text, output, before)
            await self._client.ask(self._dialect.path, body, reply, None if self._talk is None else said)
        finally:
            if self._talk is not None:
                self._talk.ended(place, text, "".join(said), reply)
            reply.since(self._ran.started)
            self._sink(reply)
        self._in_a_row = 0 if reply.outcome == OK else self._in_a_row + 1
        self._given_up = self._given_up or self._in_a_row >= self._most_in_a_row
        self._stopped = self._given_up or self._stop(reply) or self._stopped

    def _left_over(self, ran: Ran) -> Ran:
        """Count what was not sent, if the server was given up (and not if the run was told to stop)."""
        if self._given_up:
            ran.not_sent = len(self._traffic) - self._sent
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
