"""The runs of every level of load: a warm-up, then each run with requests of its own, kept as they end."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

from flashstill.load_test.client import Client, Reply
from flashstill.load_test.conversations import note_of
from flashstill.load_test.dialects import Dialect
from flashstill.load_test.drive import Ran, Run, Sink
from flashstill.load_test.failures import OK
from flashstill.load_test.kept import Kept
from flashstill.load_test.meters import Energy
from flashstill.load_test.processes import Processes, shares
from flashstill.load_test.prompts import Prompts
from flashstill.load_test.question import Level, LoadTest
from flashstill.load_test.statistics import WarmUp
from flashstill.load_test.summary import METRICS, LevelResult, Measured, level_result
from flashstill.load_test.traffic import Traffic
from flashstill.progress import Advance, Progress
from flashstill.simulate.traces import pieces_of
from flashstill.simulate.traffic import generated
from flashstill.traces.reader import Trace

WARM_UP_SEED, RUN_SEEDS = 1_000_003, 1
"""seed of the warm-up beside that of the first run, and from one run to the next"""


class Levels:
    """Measures level by level."""

    def __init__(
        self, asked: LoadTest, client: Client, dialect: Dialect, prompts: Prompts, kept: Kept, progress: Progress,
        processes: Processes | None,
    ) -> None:  # fmt: skip
        self.asked, self.client, self.dialect, self.prompts = asked, client, dialect, prompts
        self.kept, self.progress, self.energy, self.processes = kept, progress, Energy(), processes
        self._salt = int.from_bytes(os.urandom(6), "big")
        self.trace_notes: tuple[str, ...] = ()

    async def in_turn(self) -> None:
        """The first run of every level, then the second, and so on, as far as they are not there yet.

        A level at which nothing goes well ends it: a higher load would not help, and `measure` says so.
        """
        asked, kept = self.asked, self.kept
        wanted = [
            (level, run) for run in range(asked.runs) for level in asked.levels
            if (level.kind, level.value, run) not in kept.runs
        ]  # fmt: skip
        total = sum(len(self._traffic(level, run)) for level, run in wanted)
        warmed = set[Level]()
        with self.progress.task("all levels in turn", total, "requests") as advance:
            for level, run in wanted:
                if asked.warm_up and level not in warmed:
                    await self._warm_up(level)
                warmed.add(level)
                await self._run(level, run, advance)
                if not any(reply.outcome == OK for reply in kept.runs[level.kind, level.value, run].replies):
                    return

    async def measure(self, level: Level) -> LevelResult:
        """The runs of a level that are not there yet, after a warm-up, and the summary of all of them."""
        asked, kept = self.asked, self.kept
        missing = [run for run in range(asked.runs) if (level.kind, level.value, run) not in kept.runs]
        if missing and asked.warm_up:
            await self._warm_up(level)
        if missing:
            total = len(missing) * len(self._traffic(level, 0))
            with self.progress.task(f"{level}", total, "requests") as advance:
                for run in missing:
                    await self._run(level, run, advance)
        runs = [kept.runs[level.kind, level.value, run] for run in range(asked.runs)]
        return level_result(level, runs, kept.warm_ups.get((level.kind, level.value)))

    def _traffic(self, level: Level, run: int, requests: int | None = None) -> Traffic:
        """The same requests for the same seed, with prompts that no other run has: a server may have kept those."""
        asked = self.asked
        traffic, seed = asked.traffic(level), asked.seed + RUN_SEEDS * run
        if requests is not None and asked.trace is None:
            traffic = dataclasses.replace(traffic, requests=max(requests, traffic.concurrency or 1))
        trace, most = asked.trace, requests
        if trace is not None and most is None:
            most = asked.requests
        self._salt += 1
        if asked.agents:
            return Traffic.of_agents(traffic, seed, self._salt)
        if trace is None:
            return Traffic.of(generated(traffic, seed), most, self._salt)
        read = Trace(trace, asked.reading, traffic.waits)
        if traffic.waits:
            found = Traffic.of_turns(read, traffic, most, self._salt)
        else:
            found = Traffic.of(pieces_of(read, level.value), most, self._salt)
        self.trace_notes = (*read.seen.notes(), *note_of(asked.replay, read.tells_answers or read.has_delays))
        return found

    async def _drive(
        self, level: Level, traffic: Traffic, sink: Sink, stop: Callable[[Reply], bool] = lambda _: False
    ) -> Ran:
        if self.processes is not None:
            work = shares(traffic, level, self.asked.most_in_flight, self.asked.clients)
            return await self.processes.drive(work, sink, stop)
        run = Run(self.client, self.dialect, self.prompts, traffic, sink, stop)
        if level.is_closed:
            return await run.closed(int(level.value))
        return await run.opened(self.asked.most_in_flight)

    async def _run(self, level: Level, run: int, advance: Advance) -> None:
        replies: list[Reply] = []
        traffic = self._traffic(level, run)
        self.kept.begin(level, run)

        def sink(reply: Reply) -> None:
            self.kept.request(level, run, "run", reply)
            replies.append(reply)
            failed = sum(each.outcome != OK for each in replies[-100:])
            advance(1, f"{failed} of the last {min(len(replies), 100)} failed" if failed else "")

        self.energy.start()
        ran = await self._drive(level, traffic, sink)
        seed = self.asked.seed + RUN_SEEDS * run
        measured = Measured(run=run, seed=seed, replies=replies, ran=ran, joules=self.energy.joules())
        self.kept.finished(level, measured)

    async def _warm_up(self, level: Level) -> None:
        """Load the server until its times are stationary; what comes is kept, and counts for nothing."""
        window, sent = int(level.value) if level.is_count else 0, 0
        watch = WarmUp(window)
        traffic = self._traffic(level, WARM_UP_SEED, watch.most_requests)

        def stop(reply: Reply) -> bool:
            nonlocal sent
            sent += 1
            value = METRICS["tpot_with_first_s"](reply) if reply.outcome == OK else None
            return (value is not None and watch.add(value)) or sent >= watch.most_requests

        def sink(reply: Reply) -> None:
            self.kept.request(level, 0, "warm-up", reply)

        await self._drive(level, traffic, sink, stop)
        self.kept.warm_up(level, {"requests": watch.requests, "is_stationary": watch.is_stationary})
