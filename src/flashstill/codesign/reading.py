"""A stage that reads: items one by one with a small model, or all of them in one context with the best.

    read     a prompt of question and item for every item, in passes of several prompts; one token of answer, the score
             rate of a group = prompts of a pass / its seconds;  a question's items go to all groups alike
             seconds = items / (groups x rate) + wait of work that does not vary before one server   (cost/queues.py)
    answer   all items in one context, cold, on the chips, parts and batch that cost least (readings.py)
             seconds = time of `together` questions at a time + wait before groups x together servers
             only as many at a time as the traffic fills at least half of those that a group at its load would hold

Groups are the fewest whose load is below the bound and that keep the bound on seconds, or as many as are asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.codesign.fewest import fewest
from flashstill.codesign.readings import MOST_CHIPS, Asked, kept_bytes, readings
from flashstill.codesign.rent import Rent, question_joules, question_usd
from flashstill.codesign.stage import StageCost, Traffic, paid
from flashstill.cost.footprint import most_sequences
from flashstill.cost.load import Load, prompts_of_a_pass
from flashstill.cost.phases import prefill_step
from flashstill.cost.queues import wait_seconds
from flashstill.cost.step import StepCost
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario
from flashstill.plan.setup import Setup, make_setup

MOST_GROUPS = 2**24


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A model on a chip. tokens: of one item.  question, answer: tokens of each."""

    name: str
    setup: Setup
    rent: Rent
    tokens: float
    question: float
    answer: float = 1.0
    max_s: float | None = None


def setup_of(facts: Facts, model: str, chip: str, precision: str | None) -> Setup:
    """Model and conditions of a stage, with the defaults that every command has."""
    return make_setup(facts, Scenario(model=model, isl=1, osl=1), Deployment(chip=chip, precision=precision))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """A pass of one group that reads items. step: of `prompts` prompts together.  least_s: of one item alone."""

    layout: Resolved
    prompts: float
    step: StepCost
    least_s: float


def pass_of(facts: Facts, reader: Reader, precision: str | None) -> Pass:
    """The pass of one group of a reader: on the fewest chips that hold a pass of prompts.

    BadInput if an item is longer than the model's context.
    """
    length, most = reader.tokens + reader.question, reader.setup.model.context
    if math.ceil(length) + 1 > most:
        raise BadInput(
            f"the stage {reader.name!r} reads items of {reader.tokens:g} tokens beside a question of"
            f" {reader.question:g}: more than the {most:,} that {reader.setup.model.name} was made for"
        )
    scenario = Scenario(model=reader.setup.model, isl=math.ceil(length), osl=1)
    layout = resolve(facts, scenario, Deployment(chip=reader.rent.chip.name, precision=precision))
    model, conditions = layout.model, layout.conditions
    prompts = float(prompts_of_a_pass(conditions, Load(isl=length, osl=1.0, concurrency=1.0)))
    prompts = max(min(prompts, float(most_sequences(model, conditions, layout.layout, length))), 1.0)
    return Pass(
        layout=layout,
        prompts=prompts,
        step=prefill_step(model, conditions, layout.layout, prompts, length),
        least_s=float(prefill_step(model, conditions, layout.layout, 1.0, length).seconds),
    )


def read_cost(reader: Reader, run: Pass, items: float, kept: float, recall: float, traffic: Traffic) -> StageCost:
    """The stage that reads `items` items one by one and keeps `kept`; InfeasiblePlan if it cannot be fast enough."""
    step, layout = run.step, run.layout
    alone_s, joules = float(step.seconds) * items / run.prompts, float(step.total_joules) / run.prompts * items

    def seconds_of(groups: int) -> float:
        work_s = max(alone_s / groups, run.least_s)
        return work_s + float(wait_seconds(work_s, 1.0, min(traffic.per_s * alone_s / groups, 1.0 - 1e-9)))

    groups = max(math.ceil(traffic.per_s * alone_s / traffic.load_ratio * (1.0 - 1e-12)), traffic.replicas, 1)
    if reader.max_s is not None and seconds_of(groups) > reader.max_s:
        groups = _enough(reader, groups, seconds_of)
    busy = min(traffic.per_s * alone_s / groups, 1.0)
    whole, usd = paid(reader.rent, groups * layout.chips, traffic, joules, busy)
    return StageCost(
        name=reader.name,
        kind="read",
        chip=reader.rent.chip.name,
        model=layout.model.name,
        tier=layout.conditions.weights.name,
        items_in=items,
        items_out=min(kept, items),
        tokens=items * (reader.tokens + reader.question),
        recall=recall,
        seconds=seconds_of(groups),
        joules=whole,
        usd=usd,
        replicas=groups,
        group_chips=layout.chips,
        together=1.0,
        busy=busy,
        bytes=0.0,
        bound=str(np.asarray(step.bound).ravel()[0]),
    )


def _enough(reader: Reader, low: int, seconds_of: Any) -> int:
    """The fewest groups above `low` that keep the bound on seconds."""
    found = fewest(lambda groups: seconds_of(groups) <= reader.max_s, low, MOST_GROUPS)
    if found is None:
        raise InfeasiblePlan(
            f"the stage {reader.name!r} does not answer within {reader.max_s:g} s: one item alone takes"
            f" {seconds_of(2 * MOST_GROUPS):.3g} s",
            {"reader too slow": 1},
        )
    return found


def answer_cost(reader: Reader, items: float, traffic: Traffic, kept_corpus: bool = False) -> StageCost:
    """The stage that reads all items in one context; kept_corpus: its cache stays in memory between questions.

    InfeasiblePlan, with the ways counted, if nothing holds it, or nothing is fast enough.
    """
    asked = Asked(tokens=items * reader.tokens, question=reader.question, answer=reader.answer)
    ways = readings(reader.setup, asked, kept_corpus)
    alone = ways.seconds / ways.batch  # of one question, where groups are always full
    groups = np.maximum(np.ceil(traffic.per_s * alone / traffic.load_ratio * (1.0 - 1e-12)), float(traffic.replicas))
    seconds = _with_wait(ways.seconds, groups, ways.batch, traffic, alone)
    if reader.max_s is not None:
        for _ in range(40):  # more groups, until the wait is short enough
            late = ways.fits & (seconds > reader.max_s) & (ways.seconds <= reader.max_s)
            if not late.any():
                break
            groups = np.where(late, np.ceil(groups * 1.1 + 1.0), groups)
            seconds = _with_wait(ways.seconds, groups, ways.batch, traffic, alone)
    busy, chips, rent = np.minimum(traffic.per_s * alone / groups, 1.0), groups * ways.chips, reader.rent
    joules = question_joules(rent, chips, traffic.per_s, ways.joules / ways.batch, busy)
    usd = np.asarray(question_usd(rent, chips, traffic.per_s, joules))
    # Fewer at a time do where so many are not there: halving them at most doubles the load.
    filled = (ways.batch <= 1.0) | (busy >= traffic.load_ratio / 2.0)
    fine = ways.fits & filled & (seconds <= (reader.max_s or math.inf))
    if not fine.any():
        raise InfeasiblePlan(_refusal(reader, asked, ways.fits, ways.seconds), _counted(ways.fits))
    best = float(np.min(usd[fine]))
    near = fine & (usd <= best * (1.0 + 1e-9))
    at = np.unravel_index(int(np.argmin(np.where(near, seconds, np.inf))), usd.shape)

    def of(values: Any) -> float:
        return float(np.broadcast_to(values, usd.shape)[at])

    bounds = {name: of(value) for name, value in ways.prefill.shares_s.items()}
    return StageCost(
        name=reader.name,
        kind="kept" if kept_corpus else "answer",
        chip=rent.chip.name,
        model=reader.setup.model.name,
        tier=reader.setup.conditions.cache.name,
        items_in=items,
        items_out=items,
        tokens=asked.end,
        recall=1.0,
        seconds=of(seconds),
        joules=of(joules) * rent.wall_ratio,
        usd=of(usd),
        replicas=int(of(groups)),
        group_chips=int(of(ways.chips)),
        together=of(ways.batch),
        busy=of(busy),
        bytes=kept_bytes(reader.setup, asked.tokens) * of(groups) * (1.0 if kept_corpus else of(ways.batch)),
        bound=max(bounds, key=bounds.__getitem__),
    )


def _with_wait(seconds: Any, groups: Any, together: Any, traffic: Traffic, alone: Any) -> Any:
    busy = np.minimum(traffic.per_s * alone / groups, 1.0 - 1e-9)
    return seconds + wait_seconds(seconds, groups * together, busy)


def _counted(fits: Any) -> dict[str, int]:
    counted = {"does not fit in memory": int((~fits).sum()), "too slow": int(fits.sum())}
    return {reason: count for reason, count in counted.items() if count}


def _refusal(reader: Reader, asked: Asked, fits: Any, seconds: Any) -> str:
    model, chip = reader.setup.model.name, reader.rent.chip.name
    what = f"the stage {reader.name!r}, {model} over {asked.tokens:.4g} tokens on up to {MOST_CHIPS:,} x {chip},"
    if not fits.any():
        return f"{what} fits nowhere: weights and {kept_bytes(reader.setup, asked.tokens):.3g} bytes of cache"
    bound = "" if reader.max_s is None else f" within {reader.max_s:g} s"
    return f"{what} does not answer{bound}: a question alone takes {float(np.min(seconds[fits])):.3g} s"
