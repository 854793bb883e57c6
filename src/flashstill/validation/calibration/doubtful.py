"""Served rows that are listed apart, with the reason: no coefficient is fitted to them and no error counts them.

impossible    the measured time per output token is below that of a perfect machine: decode steps alone at the peaks of
              arithmetic, memory and links, the cache in one byte a value, lengths at the short end of what was drawn
held back     a request waits more than HELD_BACK answers longer for its first token than memory makes it wait: far
              fewer ran at once than were in flight, so that the load is not the one that the row states
contradicted  repeats of the same configuration on the same stack differ from their median by more than OUTLIER times
              their typical distance (1.4826 x median absolute deviation, and at least REPEATS); of two that contradict
              each other both are in doubt
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flashstill.cost.admission import capacity
from flashstill.cost.phases import batch_step
from flashstill.facts import Facts
from flashstill.validation.anchors.serving import Served, stack_name
from flashstill.validation.apart import Apart
from flashstill.validation.calibration.trials import Trial, trials
from flashstill.validation.comparison import Values

REPEATS = {"tpot_s": 0.08, "ttft_s": 0.18}
"""distances between repeats, in logs, that are usual in the published runs (their mean)"""
DEVIATIONS = 1.4826
"""standard deviations of a normal distribution in its median absolute deviation: 1 / 0.6745"""
OUTLIER = 5.0
HELD_BACK = 2.0
"""answers.  A round of prompts that an engine prefills before it decodes is below one."""
UNKNOWN_MEMORY = 0.1
"""of a chip's memory, which an engine may hold beyond what is known of its buffers"""
SHORTEST = 0.8
"""lengths of a run are drawn from this share of the nominal ones upwards"""
NARROWEST = "fp8"
"""narrowest format of a cache that engines served the anchors with"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubtful(Apart):
    """A served row listed apart."""

    row: Served


def doubtful(facts: Facts, rows: Sequence[Served]) -> list[Doubtful]:
    """The rows in doubt, in order."""
    blocks = trials(facts, rows)
    reasons = {**_contradicted(facts, rows), **_held_back(blocks, rows), **_impossible(blocks, rows)}
    return [
        Doubtful(row=rows[index], case=rows[index].case, stack=stack_name(facts, rows[index]), reason=reason)
        for index, reason in sorted(reasons.items())
    ]


def credible(facts: Facts, rows: Sequence[Served]) -> list[Served]:
    """The rows that are not in doubt."""
    apart = {id(each.row) for each in doubtful(facts, rows)}
    return [row for row in rows if id(row) not in apart]


def _impossible(blocks: Sequence[Trial], rows: Sequence[Served]) -> dict[int, str]:
    """Rows faster than a perfect machine, by place."""
    found = {}
    for block in blocks:
        for index, least_s in zip(block.rows, perfect_step_seconds(block), strict=True):
            measured = rows[index].tpot_s
            if measured < least_s:
                found[int(index)] = f"faster than a perfect machine: {measured * 1e3:.3g} of {least_s * 1e3:.3g} ms"
    return found


def _held_back(blocks: Sequence[Trial], rows: Sequence[Served]) -> dict[int, str]:
    """Rows of which few run at once though memory holds more, by place.

    Where R of c in flight run, a request waits (c / R - 1) answers in the steady state.
    """
    found = {}
    for block in blocks:
        setup, software = block.setup, block.setup.conditions.software
        least = replace(software, usable_ratio=software.usable_ratio - UNKNOWN_MEMORY)
        conditions = replace(setup.conditions, software=least)
        _, fitting = capacity(setup.model, conditions, block.layout, block.load, setup.speculation)
        in_flight = np.broadcast_to(block.load.concurrency, block.rows.shape)
        running = np.minimum(in_flight, np.maximum(np.broadcast_to(fitting, block.rows.shape), 1.0))
        for index, count, most in zip(block.rows, in_flight, running, strict=True):
            row = rows[index]
            answer_s = row.case.scenario.osl * row.tpot_s
            if row.ttft_s is not None and row.ttft_s > (count / most - 1.0 + HELD_BACK) * answer_s:
                ran = count * answer_s / (answer_s + row.ttft_s)
                found[int(index)] = (
                    f"some {ran:.0f} of {count:.0f} in flight ran at once, where memory holds {most:.0f}"
                )
    return found


def perfect_step_seconds(block: Trial) -> Values:
    """Seconds per token of the rows of a block, below which no machine can be; 0 where nothing fits."""
    setup = block.setup
    narrow = replace(setup.conditions, precisions=replace(setup.conditions.precisions, kv=NARROWEST)).perfect
    load = replace(block.load, isl=SHORTEST * block.load.isl, osl=SHORTEST * block.load.osl)
    _, fitting = capacity(setup.model, narrow, block.layout, load, setup.speculation)
    batch = np.minimum(block.load.concurrency, fitting)
    step = batch_step(setup.model, narrow, block.layout, np.maximum(batch, 1.0), load.context, setup.speculation)
    drafted = setup.speculation.tokens_per_step if setup.speculation else 1.0
    seconds: Values = np.where(batch >= 1.0, step.seconds / drafted, 0.0)
    return np.broadcast_to(seconds, block.rows.shape)


def _contradicted(facts: Facts, rows: Sequence[Served]) -> dict[int, str]:
    """Rows far from the median of their repeats, by place."""
    repeats = defaultdict(list)
    for index, row in enumerate(rows):
        repeats[stack_name(facts, row), str(row.case.columns())].append(index)
    several = [members for members in repeats.values() if len(members) > 1]
    found = {}
    for quantity, usual in REPEATS.items():
        apart = {
            index: log - median
            for members in several
            if None not in (values := [getattr(rows[index], quantity) for index in members])
            for median in [float(np.median(np.log(values)))]
            for index, log in zip(members, np.log(values), strict=True)
        }
        scale = max(DEVIATIONS * float(np.median(np.abs(list(apart.values())))), usual) if apart else usual
        for index, distance in apart.items():
            if abs(distance) > OUTLIER * scale:
                found[index] = f"repeats of the configuration differ by a factor of {np.exp(2 * abs(distance)):.2g}"
    return found
