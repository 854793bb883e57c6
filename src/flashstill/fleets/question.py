"""A question of fleet sizing with everything that its variants share: layouts, their tables, and runs so far."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.fleets.apart import cheapest_apart, hopeful_first
from flashstill.fleets.candidates import Candidates
from flashstill.fleets.demand import Demand
from flashstill.fleets.lower_bound import horizon_s, lower_bound
from flashstill.fleets.others import cheapest_of_others
from flashstill.fleets.pairs import further_pairs, pairs_below
from flashstill.fleets.search import Question, Sized, cheapest
from flashstill.fleets.slo import Bound, tightest
from flashstill.fleets.space import Choices, check_kinds, kinds_of
from flashstill.fleets.trials import Traffic, Trials
from flashstill.simulate.capacity import mix_of

QUICK_LAYOUTS = 5
SLIGHTLY_MORE = 1.0 + 1e-6
"""so that of two fleets that cost the same the co-located one is taken"""
MOST_PAIRS, QUICK_PAIRS, MANY_SEEDS, MORE_REQUESTS = 4, 2, 10, 60_000
"""pairs of pools that are simulated for one question, and for variants of it, which are proved with fewer seeds; and
requests that further pairs of the question are simulated with"""


@dataclass(kw_only=True, slots=True)
class Sizing:
    """Bounds under a demand. told: called with a line of progress; reasons: of layouts that are impossible.

    pairs: of pools that might have been cheaper than the best co-located fleet of a question, at most.
    """

    bounds: tuple[Bound, ...]
    demand: Demand
    candidates: Candidates
    trials: Trials
    told: Callable[[str], None]
    reasons: Counter[str] = field(default_factory=Counter)
    pairs: int = 0

    def sized(
        self, bounds: tuple[Bound, ...], traffic: Traffic, seeds: int, coarse: float = 0.0
    ) -> tuple[Sized | None, Counter[str]]:
        """The cheapest fleet of a question, or None and the reasons. coarse: among fewer layouts."""
        reasons = Counter(self.reasons)
        question = Question(bounds=bounds, traffic=traffic, seeds=tuple(range(seeds)), coarse=coarse)
        if coarse:  # pools first: where they are much cheaper, every other layout needs one run to be out
            best = self.apart(question, math.inf, reasons)
            as_dear = best.usd_per_hour * SLIGHTLY_MORE if best else math.inf
            return self.co_located(question, as_dear, reasons) or best, reasons
        best = self.co_located(question, math.inf, reasons)
        return self.apart(question, best.usd_per_hour if best else math.inf, reasons) or best, reasons

    def co_located(self, question: Question, dear: float, reasons: Counter[str]) -> Sized | None:
        """The cheapest fleet, below `dear` dollars per hour, whose replicas both prefill and decode."""
        ranked = self.candidates.ranked(question.bounds, question.traffic.times, reasons)
        if question.coarse:
            return cheapest(self.trials, ranked[:QUICK_LAYOUTS], question, reasons, self.told, dear)
        best = cheapest(self.trials, ranked, question, reasons, self.told, dear)
        best = cheapest_of_others(self.trials, self.candidates, ranked, question, best, dear, self.told) or best
        if best is not None:
            self.candidates.note_proved(best.candidate)
        return best

    def apart(self, question: Question, dear: float, reasons: Counter[str]) -> Sized | None:
        """The cheapest fleet below `dear` dollars per hour with replicas of its own for prefill."""
        if not self.candidates.choices.disaggregated:
            return None
        is_quick = len(question.seeds) < MANY_SEEDS
        most = QUICK_PAIRS if is_quick else MOST_PAIRS
        pairs, count = pairs_below(self.candidates, self.trials, question, dear, most, reasons)
        self.pairs = max(self.pairs, count)
        best = cheapest_apart(self.trials, pairs, question, dear, reasons, self.told)
        if is_quick:
            return best
        dear = best.usd_per_hour if best else dear
        known = {pair.candidate.key for pair in pairs}
        further = further_pairs(self.candidates, self.trials, question, dear, known)
        further = hopeful_first(self.trials, further, question, dear, MORE_REQUESTS)
        return cheapest_apart(self.trials, further, question, dear, Counter(), self.told, MORE_REQUESTS) or best

    def bound_usd(self, bounds: Sequence[Bound], times: float = 1.0) -> float | None:
        """The lower bound in dollars per hour; None where no layout keeps the bounds."""
        least = lower_bound(self.candidates.kinds, self.demand, bounds, times).usd_per_hour
        return least if math.isfinite(least) else None


def sizing_of(
    facts: Facts, model: Any, demand: Demand, bounds: tuple[Bound, ...], choices: Choices, told: Callable[[str], None]
) -> Sizing:
    """What a sizing needs: every kind of replica priced for the requests, and how late a request may be.

    told: called with lines of progress.  BadInput for bounds that the requests cannot have, InfeasiblePlan if no layout
    is possible.
    """
    requests, reasons = demand.requests, Counter[str]()
    mix = mix_of(requests.prompt, requests.output, requests.cached)
    if mix.decoded <= 0.0 and tightest(bounds, "tpot"):
        raise BadInput("every answer has one token and so no time per token after the first; leave out the tpot bound")
    share = min((bound.share for bound in bounds if bound.metric == "ttft"), default=0.5)
    prompt = float(np.quantile(requests.prompt - requests.cached, share))
    longest = int((requests.prompt + requests.output).max())
    kinds = kinds_of(facts, model, choices, mix, prompt, longest, reasons)
    check_kinds(kinds, model, reasons)
    late_s = horizon_s(kinds, demand, bounds) - demand.span_s
    return Sizing(
        bounds=bounds,
        demand=demand,
        candidates=Candidates(facts=facts, model=model, choices=choices, demand=demand, mix=mix, kinds=kinds),
        trials=Trials(demand=demand, late_s=late_s),
        told=told,
        reasons=reasons,
    )
