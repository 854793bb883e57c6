"""Measure a server at every level of load: a warm-up and some runs each, kept as they end."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput
from flashstill.load_test.answer import Measurement
from flashstill.load_test.client import Client, Reply, connected
from flashstill.load_test.conversations import note_of
from flashstill.load_test.dialects import Dialect, probed
from flashstill.load_test.drive import Ran, Run, Sink
from flashstill.load_test.failures import OK
from flashstill.load_test.kept import Kept
from flashstill.load_test.meters import Energy
from flashstill.load_test.processes import Processes, shares
from flashstill.load_test.prompts import Prompts, prompts_of
from flashstill.load_test.question import GROWTH, MOST_IN_FLIGHT, REQUESTS_PER_SLOT, Level, LoadTest
from flashstill.load_test.saturation import Saturation, saturation
from flashstill.load_test.statistics import WarmUp
from flashstill.load_test.summary import METRICS, LevelResult, Measured, level_result
from flashstill.load_test.traffic import Traffic
from flashstill.progress import Advance, Progress
from flashstill.simulate.traces import pieces_of
from flashstill.simulate.traffic import OF_AGENTS, OPEN_LOOP, generated
from flashstill.traces.reader import Trace
from flashstill.traces.reading import DEFAULT

REFINEMENTS = 2
"""loads that are tried between the last that was sustained and the first that was not: the bracket's fourth root"""
WARM_UP_SEED, RUN_SEEDS = 1_000_003, 1
"""seed of the warm-up beside that of the first run, and from one run to the next"""


def measured(asked: LoadTest, progress: Progress, out: Path | None = None) -> Measurement:
    """All levels, whatever became of their requests. out: a directory that keeps what is done (kept.py)."""
    if asked.trace is not None:
        Trace(asked.trace, asked.reading, asked.replay != OPEN_LOOP)  # its mistakes are told before all else
    prompts = prompts_of(asked.tokenizer)
    kept = Kept(out, _question(asked))
    try:
        return asyncio.run(_all(asked, prompts, kept, progress))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        kept.close()


def _question(asked: LoadTest) -> dict[str, Any]:
    """What makes two measurements the same: not which levels or how many runs, of which more may be added."""
    plain = dataclasses.asdict(asked)
    reading = plain.pop("reading")
    if asked.reading.turn_lengths is None:  # so that what was measured before there was such a setting goes on
        reading.pop("turn_lengths")
    plain |= reading if asked.reading != DEFAULT else {}
    if asked.replay == OPEN_LOOP:
        plain.pop("replay")
    for name in () if asked.agents else OF_AGENTS:
        plain.pop(name)
    for name in ("agents", "concurrency", "rates", "speeds", "runs", "until_saturation", "in_turn"):
        plain.pop(name)
    if asked.per_slot == REQUESTS_PER_SLOT:
        plain.pop("per_slot")
    return plain


def _quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of a task in which the signal arrived that stops everything; it is raised there as well."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


async def _all(asked: LoadTest, prompts: Prompts, kept: Kept, progress: Progress) -> Measurement:
    asyncio.get_running_loop().set_exception_handler(_quiet)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connected(asked.address, asked.time_limit_s, asked.stall_s))
        name, context = await client.model(asked.name)
        _check_context(asked, context)
        dialect = await probed(client, asked, name, prompts)
        if dialect.template_tokens:
            prompts = prompts.with_template(dialect.template_tokens)
        processes = stack.enter_context(Processes(asked, dialect, prompts)) if asked.clients > 1 else None
        work = _Levels(asked, client, dialect, prompts, kept, progress, processes)
        resumed, results = len(kept.runs), []
        found: Saturation | None = None
        if asked.in_turn:
            await work.in_turn()
        for level in _levels(asked):
            results.append(await work.measure(level))
            found = saturation(results)
            progress.say(_line(results[-1]))
            if asked.until_saturation and (found is not None or (not level.is_closed and results[-1].steady is None)):
                break  # or from so few requests nobody can tell
            if not results[-1].ok:
                break  # a higher load would not help
        for _ in range(REFINEMENTS if asked.until_saturation and results[-1].ok else 0):
            between = None if found is None else found.between
            if between is None:
                break
            results.append(await work.measure(between))
            progress.say(_line(results[-1]))
            results.sort(key=lambda result: result.level.value)
            found = saturation(results)
        return Measurement(
            asked=asked, dialect=dialect, context=context, exact_prompts=prompts.is_exact, energy=work.energy.told,
            levels=tuple(results), saturation=found, resumed_runs=resumed, trace_notes=work.trace_notes,
        )  # fmt: skip


def _check_context(asked: LoadTest, context: int | None) -> None:
    """BadInput for agents whose last turns the server cannot take."""
    longest = max((asked.traffic(level).longest_tokens for level in asked.levels if asked.agents), default=0)
    if context is not None and longest > context:
        raise BadInput(
            f"the last turns of agents have up to {longest:,} tokens with their answers, and the server takes"
            f" {context:,}; give fewer or shorter turns"
        )


def _levels(asked: LoadTest) -> Iterator[Level]:
    """The levels that were asked for; until saturation, ever higher ones after the last."""
    level = None
    for level in asked.levels:
        yield level
    while asked.until_saturation and level is not None:
        level = Level(kind=level.kind, value=level.value * GROWTH)
        if level.is_closed and level.value > MOST_IN_FLIGHT:
            return
        yield level


class _Levels:
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


def _line(result: LevelResult) -> str:
    """A level in a line, for standard error."""
    failed = result.requests - result.ok
    told = f"{result.level}: {result.output_tokens_per_s:,.1f} output tokens/s"
    return f"{told}, {failed:,} of {result.requests:,} requests failed" if failed else told
