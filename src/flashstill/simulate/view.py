"""What a scheduler written by the user sees of a replica before a step, and what it decides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.ahead import seen_until
from flashstill.simulate.bounds import step_seconds
from flashstill.simulate.prefix import cached_tokens
from flashstill.simulate.state import Fleet, Limits, Pool
from flashstill.simulate.tables import StepTables


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A request in line. cached_tokens: of its prompt that need not be computed here, as they
    are in a prefix cache or the host's memory; generated_tokens: before a preemption."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    generated_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A request that runs. prompt_left: prompt tokens to be prefilled (0: it decodes).  context: cached tokens."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    generated_tokens: int
    prompt_left: int
    context: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a replica does next. The default is what `chunked` does.

    prompt_tokens: most prompt tokens of the step; None: as many as the engine takes.  admit: how many waiting requests
    may start, or which: positions in `ReplicaView.waiting` in the order in which they start; None: all, in order.
    refuse: positions of requests that are sent away; only such as have not begun.  decodes: False lets prompts stall
    the decoding; where no prompt can run, decoding goes on.

    Memory, the number of sequences and the engine's tokens of a step limit what is carried out.
    """

    prompt_tokens: int | None = None
    admit: int | Sequence[int] | None = None
    refuse: Sequence[int] = ()
    decodes: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaView:
    """A replica before its next step; valid during the call.

    step_tokens, max_sequences: the engine's limits, in a pipeline of all its batches together.  max_ttft_s, max_tpot_s:
    bounds of goodput, infinite if not given.
    """

    now_s: float
    replica: int
    waiting_count: int
    decoding_count: int
    prefilling_count: int
    free_blocks: int
    blocks: int
    block_tokens: int
    step_tokens: int
    max_sequences: int
    max_ttft_s: float
    max_tpot_s: float
    _fleet: Fleet
    _pool: Pool
    _limits: Limits
    _tables: StepTables

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """Requests in line that the engine sees, in order."""
        fleet, pool, limits = self._fleet, self._pool, self._limits
        clock, counts = pool.clock, pool.counts
        return tuple(
            Waiting(
                arrival_s=float(clock[place, field.ARRIVAL_S]),
                prompt_tokens=int(counts[place, field.PROMPT]),
                output_tokens=int(counts[place, field.OUTPUT]),
                cached_tokens=cached_tokens(fleet, pool, limits, self.replica, place),
                generated_tokens=int(counts[place, field.GENERATED]),
            )
            for place in itertools.islice(places_in_line(fleet, pool, self.replica), self.waiting_count)
        )

    @property
    def running(self) -> tuple[Running, ...]:
        """Requests that run: those whose prompt is being prefilled, in order of admission, then those that decode."""
        fleet, r = self._fleet, self.replica
        counter = int(fleet.counts[r, field.COUNTER])
        filling = [
            self._running(
                fleet.slots[r, field.FILL_REQUEST, slot],
                None,
                fleet.slots[r, field.FILL_LEFT, slot],
                fleet.slots[r, field.FILL_CACHED, slot],
            )
            for slot in range(self.prefilling_count)
        ]
        decoding = [
            self._running(
                fleet.slots[r, field.REQUEST, slot],
                fleet.slots[r, field.END, slot] - counter,
                0,
                fleet.slots[r, field.BASE, slot] + counter,
            )
            for slot in range(self.decoding_count)
        ]
        return (*filling, *decoding)

    def step_s(self, decoding: int, context: float = 0.0, prompt_tokens: int = 0, attended: float = 0.0) -> float:
        """Seconds of a step in which so many sequences decode at this mean context, and so many prompt tokens are
        prefilled, each of which attends to `attended` others on average."""
        most = len(self._tables.decode_s) - 1
        return float(step_seconds(self._tables, min(decoding, most), float(context), prompt_tokens, float(attended)))

    def _running(self, place: int, output_left: int | None, prompt_left: int, context: int) -> Running:
        counts = self._pool.counts
        output = int(counts[place, field.OUTPUT])
        generated = int(counts[place, field.GENERATED]) if output_left is None else output - int(output_left)
        return Running(
            arrival_s=float(self._pool.clock[place, field.ARRIVAL_S]),
            prompt_tokens=int(counts[place, field.PROMPT]),
            output_tokens=output,
            generated_tokens=generated,
            prompt_left=int(prompt_left),
            context=int(context),
        )


Scheduler = Callable[[ReplicaView], Decision]
"""A scheduler of the user"""


def name_of(scheduler: Scheduler) -> str:
    """The scheduler's function, with its file and line."""
    code = getattr(scheduler, "__code__", None)
    name = getattr(scheduler, "__name__", type(scheduler).__name__)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"


def view_of(fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, r: int) -> ReplicaView:
    """What the scheduler sees of a replica that is to plan a step."""
    counts = fleet.counts[r]
    return ReplicaView(
        now_s=float(fleet.clock[r, field.STARTS]),
        replica=r,
        waiting_count=seen_in_line(fleet, pool, limits, r),
        decoding_count=int(counts[field.DECODING]),
        prefilling_count=int(counts[field.FILLING]),
        free_blocks=int(counts[field.FREE]),
        blocks=limits.blocks,
        block_tokens=limits.block,
        step_tokens=limits.tokens,
        max_sequences=limits.sequences,
        max_ttft_s=limits.ttft_s,
        max_tpot_s=limits.tpot_s,
        _fleet=fleet,
        _pool=pool,
        _limits=limits,
        _tables=tables,
    )


def seen_in_line(fleet: Fleet, pool: Pool, limits: Limits, r: int) -> int:
    """How many of the requests that wait at a replica it sees; those that it does not see yet are the last ones."""
    seen_s, count = seen_until(fleet, limits, r), int(fleet.counts[r, field.QUEUED])
    if count == 0 or pool.clock[fleet.counts[r, field.TAIL], field.HELD_S] <= seen_s:
        return count
    return sum(bool(pool.clock[place, field.HELD_S] <= seen_s) for place in places_in_line(fleet, pool, r))


def places_in_line(fleet: Fleet, pool: Pool, r: int) -> Iterator[int]:
    """Places of the requests that wait at a replica, in order."""
    place = int(fleet.counts[r, field.HEAD]) if fleet.counts[r, field.QUEUED] else field.NONE
    while place != field.NONE:
        yield place
        place = int(np.int64(pool.counts[place, field.FOLLOWING]))
