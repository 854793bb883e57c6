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
from flashstill.fleets.candidates import Candidates
from flashstill.fleets.demand import Demand
from flashstill.fleets.lower_bound import horizon_s, lower_bound
from flashstill.fleets.search import Question, Sized, cheapest
from flashstill.fleets.slo import Bound, tightest
from flashstill.fleets.space import Choices, check_kinds, kinds_of
from flashstill.fleets.trials import Traffic, Trials
from flashstill.simulate.capacity import mix_of

QUICK_LAYOUTS = 5


@dataclass(kw_only=True, slots=True)
class Sizing:
    """Bounds under a demand. told: called with a line of progress; reasons: of layouts that are impossible."""

    bounds: tuple[Bound, ...]
    demand: Demand
    candidates: Candidates
    trials: Trials
    told: Callable[[str], None]
    reasons: Counter[str] = field(default_factory=Counter)

    def sized(
        self, bounds: tuple[Bound, ...], traffic: Traffic, seeds: int, coarse: float = 0.0, is_quick: bool = False
    ) -> tuple[Sized | None, Counter[str]]:
        """The cheapest fleet of a question, or None and the reasons. is_quick: among fewer layouts."""
        reasons = Counter(self.reasons)
        ranked = self.candidates.ranked(bounds, traffic.times, reasons)[: QUICK_LAYOUTS if is_quick else None]
        question = Question(bounds=bounds, traffic=traffic, seeds=tuple(range(seeds)), coarse=coarse)
        return cheapest(self.trials, ranked, question, reasons, self.told), reasons

    def bound_usd(self, bounds: Sequence[Bound], times: float = 1.0) -> float | None:
        """The lower bound in dollars per hour; None where no layout keeps the bounds."""
        least = lower_bound(self.candidates.kinds, self.demand, bounds, times).usd_per_hour
        return least if math.isfinite(least) else None


def sizing_of(
    facts: Facts, model: Any, demand: Demand, bounds: tuple[Bound, ...], choices: Choices, told: Callable[[str], None]
) -> Sizing:
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
