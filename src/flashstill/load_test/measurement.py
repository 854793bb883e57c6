"""Measure a server at every level of load: a warm-up and some runs each, kept as they end."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput
from flashstill.load_test.answer import Measurement
from flashstill.load_test.client import connected
from flashstill.load_test.dialects import probed
from flashstill.load_test.kept import Kept
from flashstill.load_test.levels import Levels
from flashstill.load_test.processes import Processes
from flashstill.load_test.prompts import Prompts, prompts_of
from flashstill.load_test.question import GROWTH, MOST_IN_FLIGHT, REQUESTS_PER_SLOT, Level, LoadTest
from flashstill.load_test.saturation import Saturation, saturation
from flashstill.load_test.summary import LevelResult
from flashstill.progress import Progress
from flashstill.simulate.traffic import OF_AGENTS, OPEN_LOOP
from flashstill.traces.reader import Trace
from flashstill.traces.reading import DEFAULT

REFINEMENTS = 2
"""loads that are tried between the last that was sustained and the first that was not: the bracket's fourth root"""


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
        work = Levels(asked, client, dialect, prompts, kept, progress, processes)
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


def _line(result: LevelResult) -> str:
    """A level in a line, for standard error."""
    failed = result.requests - result.ok
    told = f"{result.level}: {result.output_tokens_per_s:,.1f} output tokens/s"
    return f"{told}, {failed:,} of {result.requests:,} requests failed" if failed else told
