"""Served rows simulated at the protocol by which they were measured, and compared.

A public benchmark sends its requests in a closed loop: `concurrency` of them one right after the other, and each
further one when one is done (anchors/launched.py). The mean over all requests therefore holds the first burst,
requests of similar length that end together, and the end of the run, where fewer are in flight. Steps cost what they
cost in `predict`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.plan.predict import predict
from flashstill.plan.prediction import Prediction
from flashstill.plan.resolve import Resolved, Resolver
from flashstill.simulate.engine import run
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import Sizes, limits_of, most_running, most_step_tokens, replicas_of
from flashstill.simulate.state import Limits
from flashstill.simulate.tables import StepTables, step_tables
from flashstill.simulate.tally import TPOT, TTFT, Tally
from flashstill.simulate.times import decode_value, extra_value
from flashstill.simulate.traffic import Traffic, generated
from flashstill.validation.anchors.launched import ClosedLoop
from flashstill.validation.anchors.serving import Served, compared
from flashstill.validation.comparison import FITTED, Comparison

SIMULATED = ", simulated"
"""added to the name of a quantity"""
SPACING_S = 1e-3
"""between the first requests, as a client sends them: 0.7 to 2.1 ms by `measure --server` on two cores (docs/log.md);
what other clients need is not published, and 0.5 or 2 ms change the errors by less than 0.3 points"""


class Latencies(NamedTuple):
    """Means over all requests of a run, in seconds; tpot_s is 0 without a second token."""

    ttft_s: float
    tpot_s: float


def compare_simulated(facts: Facts, rows: Sequence[Served]) -> list[Comparison]:
    """Errors of simulated latencies and rates. Bands are those of the closed form, around the simulated values."""
    found = simulated_rows(facts, rows)
    answers = [
        Prediction(fits=False, reason=answer.reason) if latencies is None else with_latencies(row, answer, latencies)
        for row, answer, latencies in zip(rows, predict(facts, [row.case for row in rows]), found, strict=True)
    ]
    return compared(facts, rows, answers, SIMULATED, FITTED)


def with_latencies(row: Served, answer: Prediction, latencies: Latencies) -> Prediction:
    """The prediction with simulated latencies, the rate that follows from them, and its bands around them."""
    asked = row.case.scenario
    rate = asked.batch * asked.osl / (latencies.ttft_s + (asked.osl - 1) * latencies.tpot_s)
    values = {"ttft_s": latencies.ttft_s, "tpot_s": latencies.tpot_s or None, "output_tokens_per_s": rate}
    ends = {"ttft_s": "ttft_{}_s", "tpot_s": "tpot_{}_s", "output_tokens_per_s": "output_tokens_per_s_{}"}
    changed: dict[str, Any] = {}
    for name, value in values.items():
        changed[name] = value
        for side in ("low", "high"):
            end = ends[name].format(side)
            before, edge = getattr(answer, name), getattr(answer, end)
            changed[end] = None if value is None or not before else value * edge / before
    return replace(answer, **changed)


def simulated_rows(facts: Facts, rows: Sequence[Served], seed: int = 0) -> list[Latencies | None]:
    """Mean latencies of every row by simulation; None for a row that is invalid, does not fit or names no load.

    Rows of one deployment share their step tables, so that a thousand rows take seconds.
    """
    resolver, groups = Resolver(facts), defaultdict(list)
    for index, row in enumerate(rows):
        if row.loop is None:
            continue
        try:
            resolved = resolver.resolve(row.case.scenario, row.case.deployment)
        except FlashstillError:
            continue
        groups[id(resolved.setup), resolved.degrees].append((index, resolved, row.loop))
    found: list[Latencies | None] = [None] * len(rows)
    for members in groups.values():
        tables = shared_tables(facts, members[0][1], [loop for _, _, loop in members])
        for index, resolved, loop in members:
            found[index] = simulated_row(facts, resolved, loop, tables, seed)
    return found


def shared_tables(facts: Facts, resolved: Resolved, loops: Sequence[ClosedLoop]) -> StepTables:
    """Step tables that suffice for all loads of one deployment."""
    conditions = resolved.conditions
    policies = [Policy(step_tokens=loop.step_tokens) for loop in loops]
    tokens = max(most_step_tokens(conditions, policy, resolved.layout) for policy in policies)
    most = min(max(loop.concurrency for loop in loops), most_running(facts, conditions, Policy()))
    return step_tables(replicas_of(resolved, 1)[0], most, tokens, max(loop.isl + loop.osl for loop in loops))


def simulated_row(
    facts: Facts, resolved: Resolved, loop: ClosedLoop, tables: StepTables, seed: int
) -> Latencies | None:
    """Mean latencies of one row; None if the memory holds no request."""
    traffic = Traffic(
        concurrency=loop.concurrency,
        spacing_s=SPACING_S,
        requests=loop.requests,
        isl=loop.isl,
        osl=loop.osl,
        least_ratio=loop.least_ratio,
    )
    sizes = Sizes(isl=loop.isl, osl=loop.osl, mean_tokens=traffic.mean_tokens, moment_s=0.1)
    alone, replicas, _ = replicas_of(resolved, 1)
    running = min(loop.sequences or loop.concurrency, most_running(facts, resolved.conditions, Policy()))
    policy = Policy(step_tokens=loop.step_tokens, sequences=running)
    try:
        limits, _ = limits_of(facts, alone, policy, sizes)
    except FlashstillError:
        return None
    limits = limits if loop.ahead else limits._replace(ahead=0)
    outcome = run(
        tables,
        limits if loop.sequences else kept_waiting(limits, resolved, tables, sizes, loop.gathered),
        generated(traffic, seed),
        replicas,
        closed=True,
        seed=seed,
    )
    return Latencies(ttft_s=_mean(outcome.tally, TTFT), tpot_s=_mean(outcome.tally, TPOT))


def kept_waiting(limits: Limits, resolved: Resolved, tables: StepTables, sizes: Sizes, gathered: float = 0.0) -> Limits:
    """Limits of a server whose scheduler looks at a request only after some decode steps (`batching_steps`).

    The event loop prefills each prompt as it comes.  Of `gathered` others in one pass with it, a first token waits for
    the prompts as well, which the requests that decode meanwhile are delayed by in either case.
    """
    batch = min(resolved.scenario.batch, len(tables.decode_s) - 1)
    wait = resolved.scenario.batching_steps * decode_value(tables.contexts, tables.decode_s[batch], sizes.mean_tokens)
    prompt = float(resolved.scenario.isl)
    beside = gathered * extra_value(
        tables.batches, tables.tokens, tables.attended, tables.extra_s, float(batch), prompt, prompt / 2.0
    )
    return limits._replace(first_s=limits.first_s + wait + beside, return_s=limits.return_s + wait)


def _mean(tally: Tally, metric: int) -> float:
    count = int(tally.counts[metric].sum())
    return float(tally.sums[metric].sum()) / count if count else 0.0


def departures(rows: Sequence[Served], ttft_s: Sequence[float | None], times: float = 2.0) -> tuple[int, int]:
    """At which concurrency the time to first token leaves its floor: curves within one step of the grid, and all.

    A curve is a stack, layout and pair of lengths over four concurrencies and more; it leaves its floor where it first
    exceeds `times` its least value.
    """
    curves = defaultdict(list)
    for row, value in zip(rows, ttft_s, strict=True):
        if row.ttft_s is not None and value is not None and row.loop is not None:
            case, used = row.case.scenario, row.case.deployment
            key = (case.model_name, row.version, str(used), row.loop.isl, row.loop.osl)
            curves[key].append((row.loop.concurrency, row.ttft_s, value))
    near = several = 0
    for curve in curves.values():
        means = {at: np.mean([one[1:] for one in curve if one[0] == at], axis=0) for at, _, _ in curve}
        if len(means) >= 4:
            both = np.array([means[at] for at in sorted(means)])
            left = [int(np.argmax(each > times * each.min())) if (each > times * each.min()).any() else len(each)
                    for each in both.T]  # fmt: skip
            several += 1
            near += abs(left[0] - left[1]) <= 1
    return near, several
