"""The verdict on one design at one volume: break-even, dollars per token, drivers, all with intervals.

P10, P50 and P90 are over draws of all fact rows that the decision reads (economics/draws.py); single figures are P50,
so that `pays` is whether the volume reaches the P50 of the break-even.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.asic.money import Programme
from flashstill.asic.terms import Decision
from flashstill.economics.bill_of_materials import Rows
from flashstill.economics.draws import Values
from flashstill.economics.sensitivity import drawn, drivers, interval, tornado, uncertain_rows
from flashstill.units import DAYS_PER_YEAR, TOKENS_PER_MILLION

TRAINING_USD = (1e7, 3e7, 1e8, 3e8, 1e9, 3e9, 1e10)
_CURVE, _DECADES, _CURVE_DRAWS, _SOBOL_DRAWS = 25, 2.0, 4096, 2048
Interval = dict[str, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Figures of a decision at a volume. Intervals have p10, p50, p90; None where a quantile is infinite.

    net_usd: present value of having decided for the chip.  probability: share of the draws in which it is above 0.
    payback_years: from the decision until savings exceed spending.  capital_usd: of the first fleet, at its purchase.
    """

    tokens_per_day: float
    probability: float
    break_even: Interval
    asic_usd: Interval
    alternative_usd: Interval
    nre_usd: Interval
    net_usd: Interval
    payback_years: Interval

    @property
    def pays(self) -> bool:
        """Whether the volume reaches the median break-even."""
        middle = self.break_even["p50"]
        return middle is not None and self.tokens_per_day >= middle


def verdict(decision: Decision, tokens_per_day: float, draws: int, seed: int = 0) -> Verdict:
    """Evaluate a decision over `draws` draws of the fact rows."""

    def figures(rows: Rows) -> dict[str, Values]:
        terms = decision.programme(rows)
        asic, alternative = terms.usd_per_million(tokens_per_day)
        return {
            "break_even": terms.break_even(),
            "asic": asic,
            "alternative": alternative,
            "nre": np.asarray(decision.nre(rows).usd),
            "net": np.asarray(terms.net_usd(tokens_per_day)),
        }

    values = drawn(decision.facts, figures, draws, seed)
    few = min(draws, _CURVE_DRAWS)
    paid = drawn(
        decision.facts,
        lambda rows: {"years": decision.programme(rows).payback_years(tokens_per_day)},
        few,
        seed,
    )
    return Verdict(
        tokens_per_day=tokens_per_day,
        probability=float((values["net"] > 0.0).mean()),
        break_even=interval(values["break_even"]),
        asic_usd=interval(values["asic"]),
        alternative_usd=interval(values["alternative"]),
        nre_usd=interval(values["nre"]),
        net_usd=interval(values["net"]),
        payback_years=interval(paid["years"]),
    )


def drivers_of(decision: Decision, tokens_per_day: float, seed: int = 0) -> list[dict[str, Any]]:
    """The rows that move the present value at the volume, with the break-even at either end of each."""
    facts = decision.facts

    def net(rows: Rows) -> Values:
        return np.asarray(decision.programme(rows).net_usd(tokens_per_day))

    rows = uncertain_rows(facts, net)
    volumes = tornado(facts, lambda given: decision.programme(given).break_even(), rows)
    at_ends = {(row.name, row.quantity): ends for row, ends in zip(rows, volumes, strict=True)}
    found = []
    for driver in drivers(facts, net, _SOBOL_DRAWS, seed):
        low, high = at_ends[driver.name, driver.quantity]
        more = {"break_even_at_low": _finite(low), "break_even_at_high": _finite(high)}
        found.append({**driver.as_dict(), **more})
    return found


def curve_of(
    decision: Decision, tokens_per_day: float, break_even: float | None, seed: int = 0
) -> list[dict[str, Any]]:
    """Dollars per million tokens of both, P10 to P90, at volumes around the asked one and the break-even."""
    around = [tokens_per_day] if break_even is None else [tokens_per_day, break_even]
    ends = math.log10(min(around)) - _DECADES / 2.0, math.log10(max(around)) + _DECADES / 2.0
    volumes = sorted({*np.logspace(*ends, _CURVE).tolist(), *around})

    def figures(rows: Rows) -> dict[str, Values]:
        terms = decision.programme(rows)
        pairs = {volume: terms.usd_per_million(volume) for volume in volumes}
        return {f"{side} {volume!r}": pair[side] for volume, pair in pairs.items() for side in (0, 1)}

    values = drawn(decision.facts, figures, _CURVE_DRAWS, seed)
    return [
        {
            "tokens_per_day": volume,
            "asic": interval(values[f"0 {volume!r}"]),
            "alternative": interval(values[f"1 {volume!r}"]),
        }
        for volume in volumes
    ]


def training_shares(nre_usd: Interval) -> list[dict[str, Any]]:
    """The cost of the design as a share of training runs of 10 million to 10 billion dollars."""
    return [
        {"training_usd": run, "nre_ratio": {name: None if usd is None else usd / run for name, usd in nre_usd.items()}}
        for run in TRAINING_USD
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoForTwo:
    """The rule of ASIC Clouds (Khazraee et al. 2017; Magaki et al. 2016): with r times less cost per token beside what
    is spent once, a chip pays if that is below (1 - 1/r) of what the alternative costs: half of it at r = 2."""

    cost_ratio: float
    spent_ratio: float

    @property
    def threshold(self) -> float:
        """Largest share of the alternative's cost that may be spent once."""
        return 1.0 - 1.0 / self.cost_ratio

    def as_dict(self) -> dict[str, Any]:
        """The rule's numbers, and its answer; None of all numbers if the chip never serves, or the other is free."""
        serves = self.cost_ratio > 0.0
        return {
            "alternative_over_asic_cost": self.cost_ratio if serves else None,
            "once_over_alternative_cost": self.spent_ratio if serves else None,
            "threshold": self.threshold if serves else None,
            "pays": serves and self.spent_ratio < self.threshold,
        }


def two_for_two(terms: Programme, tokens_per_day: float) -> TwoForTwo:
    """The rule at a volume; the cost of masks for next models counts as spent once."""
    asic, alternative = (float(usd) for usd in terms.usd_per_million(tokens_per_day))
    recurring = float(terms.recurring_usd_per_million(tokens_per_day))
    if math.isinf(recurring) or alternative == 0.0:
        return TwoForTwo(cost_ratio=0.0, spent_ratio=math.inf)
    return TwoForTwo(cost_ratio=alternative / recurring, spent_ratio=(asic - recurring) / alternative)


def yearly_bill(usd_per_million: float | None, tokens_per_day: float | None) -> float | None:
    """Dollars a year of a volume; None if either is infinite."""
    if usd_per_million is None or tokens_per_day is None:
        return None
    return usd_per_million * tokens_per_day * DAYS_PER_YEAR / TOKENS_PER_MILLION


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
