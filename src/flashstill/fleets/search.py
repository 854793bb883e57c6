"""The cheapest fleet: layouts in the order of what they cost at best, each with as few replicas as keep the bounds.

A layout's fewest replicas are at least load / rate, by the closed form.  The layout that may still be the cheapest is
looked at next: first the fewest replicas that keep the bounds under the trace itself, or under the seed that broke one
last, are found by simulation, then they must keep them under every other seed, or get as many more as that seed needs.
It ends when the layout whose turn it is has kept them all: no other one, even at its best, costs less.  This assumes
that more replicas never break a bound that fewer keep.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flashstill.fleets.copies import Candidate, Copies
from flashstill.fleets.slo import Bound, tightest
from flashstill.fleets.trials import Broken, Traffic, Trials

ALONE = "{} above the bound even alone"
TTFT_FLOOR, TPOT_FLOOR = (ALONE.format(name) for name in ("ttft", "tpot"))
NEVER = "a bound is broken however many replicas"
MOST_REPLICAS = 4096
ALL = Traffic()
IDLE = 0.02
"""replicas that work a smaller share of the time hardly wait: more of them change nothing"""
OFTEN_IDLE = 0.5
"""where replicas above the closed form's number work a smaller share of the time and still break a bound, so many that
they hardly wait are looked at before a number between"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sized:
    """A layout with its numbers of replicas. fewer: what one replica fewer breaks, and under which seed; None for a
    single replica.  fewer_prefills: the same of one prefill instance fewer."""

    candidate: Candidate
    copies: Copies
    fewer: tuple[Broken, int] | None = None
    fewer_prefills: tuple[Broken, int] | None = None

    @property
    def usd_per_hour(self) -> float:
        """Of all replicas."""
        return self.candidate.usd_of(self.copies)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Bounds under some traffic, proved with the seeds. coarse: replicas may be this share too many."""

    bounds: tuple[Bound, ...]
    traffic: Traffic = ALL
    seeds: tuple[int, ...] = (0,)
    coarse: float = 0.0


def cheapest(
    trials: Trials,
    candidates: Sequence[Candidate],
    question: Question,
    reasons: Counter[str],
    told: Callable[[str], None] = lambda text: None,
    dear: float = math.inf,
) -> Sized | None:
    """The cheapest sized layout; None, with the reasons counted, if none keeps the bounds for less than `dear` dollars
    per hour."""
    tie = itertools.count()
    queue: list[tuple[float, int, Candidate, int, bool]] = []
    for candidate in candidates:
        least = least_replicas(trials, candidate, question)
        if least is None:
            reasons[TPOT_FLOOR] += 1
            continue
        alone = trials.broken_alone(candidate, Copies(1), question.bounds)
        if alone is not None:
            reasons[ALONE.format(alone.metric)] += 1
            continue
        heapq.heappush(queue, (least * candidate.usd_per_hour, next(tie), candidate, least, False))
    while queue:
        cost, _, candidate, count, is_found = heapq.heappop(queue)
        if cost >= dear * (1.0 - 1e-9):
            return None
        rival = next((cost for cost, *_, found in sorted(queue) if found), dear)
        if not is_found:
            told(f"{count}+ x {candidate.name}")
            seeds = trials.hardest_first(question.seeds, question.traffic)
            few, is_enough = _fewest(trials, candidate, question, seeds[0], count, rival / candidate.usd_per_hour)
            if few == 0:
                reasons[NEVER] += 1
            else:
                heapq.heappush(queue, (few * candidate.usd_per_hour, next(tie), candidate, few, is_enough))
            continue
        told(f"{count} x {candidate.name}: ${cost:,.2f} an hour")
        seeds = trials.hardest_first(question.seeds, question.traffic)
        harder = trials.keeps(candidate, Copies(count), seeds, question.bounds, question.traffic)
        if harder is not None:
            trials.note_hard(harder, question.traffic)
            few, is_enough = _fewest(trials, candidate, question, harder, count + 1, rival / candidate.usd_per_hour)
            if few == 0:
                reasons[NEVER] += 1
            else:
                heapq.heappush(queue, (few * candidate.usd_per_hour, next(tie), candidate, few, is_enough))
            continue
        if question.coarse:
            return Sized(candidate=candidate, copies=Copies(count))
        return _settled(trials, candidate, question, count)
    return None


def most_below(usd: float, price: float) -> int:
    """The most replicas at `price` dollars per hour that cost less than `usd` ones."""
    return math.ceil(usd / price - 1e-9) - 1 if math.isfinite(usd) else MOST_REPLICAS


def least_replicas(trials: Trials, candidate: Candidate, question: Question) -> int | None:
    """Replicas without which the requests cannot be served in time, by the closed form; None: no step keeps tpot."""
    return _by_rate(trials, candidate, question, trials.span_s(question.traffic) + trials.late_s)


def _by_rate(trials: Trials, candidate: Candidate, question: Question, seconds: float) -> int | None:
    """Replicas that serve all requests at their best rate in so many seconds."""
    bound_s = tightest(question.bounds, "tpot")
    rate, _ = candidate.capacity.within(math.inf if bound_s is None else bound_s)
    if rate <= 0.0:
        return None
    requests = len(trials.arrivals(question.seeds[0], question.traffic).arrival_s)
    return max(math.ceil(requests / seconds / rate - 1e-9), 1)


def _fewest(
    trials: Trials, candidate: Candidate, question: Question, seed: int, least: int, dear: float
) -> tuple[int, bool]:
    """The fewest replicas, from `least` on, that keep the bounds under one seed, and True.

    If none up to `dear` does: the next number to try, and False.  0 if more replicas do not help.
    """
    bounds, traffic = question.bounds, question.traffic

    def keeps(count: int) -> bool:
        return not trials.quickly_broken(candidate, Copies(count), seed, bounds, traffic)[1]

    broken, kept, helps = least - 1, 0, False
    busy = _by_rate(trials, candidate, question, trials.span_s(traffic)) or least
    count = max(busy, least)
    if count >= dear:
        count = max(math.ceil(dear) - 1, least)
    while not kept:
        if keeps(count):
            kept = count
            break
        if count + 1 >= dear:
            return count + 1, False
        trial, over = trials.quickly_broken(candidate, Copies(count), seed, bounds, traffic)
        if trial.busy < IDLE or count >= MOST_REPLICAS:
            return 0, False
        if count > busy and trial.busy < OFTEN_IDLE and not helps:
            helps = keeps(min(math.ceil(count * trial.busy / IDLE), MOST_REPLICAS))
            if not helps:
                return 0, False
        ratio = over[0].ratio
        factor = min(max(1.0 + 0.4 * (ratio - 1.0), 1.1), 2.0)  # far from the bound in large steps
        larger = min(max(count + 1, int(count * factor)), MOST_REPLICAS)
        broken, count = count, larger if larger < dear else math.ceil(dear) - 1  # above `dear` another one is cheaper
    while kept - broken > max(1, int(question.coarse * kept)):
        middle = max((kept + broken) // 2, int(0.85 * kept))
        middle = middle if middle < kept else kept - 1
        kept, broken = (middle, broken) if keeps(middle) else (kept, middle)
    return kept, True


def _settled(trials: Trials, candidate: Candidate, question: Question, count: int) -> Sized:
    """The sized layout, with what one replica fewer breaks; fewer still if that keeps all bounds after all."""
    while count > 1:
        seed = trials.keeps(candidate, Copies(count - 1), question.seeds, question.bounds, question.traffic)
        if seed is None:
            count -= 1
            continue
        broken = trials.broken(candidate, Copies(count - 1), seed, question.bounds, question.traffic)[0]
        return Sized(candidate=candidate, copies=Copies(count), fewer=(broken, seed))
    return Sized(candidate=candidate, copies=Copies(1))
