"""Figures over several seeds: means and shares with 95 % intervals.

    mean     m = sum x_s / n                            se = s / sqrt(n)
    share    r = sum a_s / sum b_s                      se by the jackknife over seeds (Efron 1982, chapter 3)

and m -+ t(0.975, n - 1) se.  A share is the ratio of sums, not the mean of ratios: a seed with a small denominator
would otherwise decide alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from flashstill.verdicts import HOLDS, verdict

RECORDS = "records.jsonl"
"""file in a seed's directory: its models and their quality, in the format of families"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """The least value that a study claims of a figure. given: a figure that must lie above zero with its interval, as
    a share of a difference that may be zero says nothing."""

    least: float
    given: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Results of one seed.

    measures: name -> value, None where it is not defined; shares: name -> (numerator, denominator); details: anything
    else that explains them.
    """

    measures: Mapping[str, float | None]
    shares: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


def interval(value: float, se: float, seeds: int) -> dict[str, Any]:
    """Value, standard error and 95 % interval; for a single seed the latter two are None."""
    if seeds < 2:
        return {"value": value, "se": None, "low": None, "high": None, "n": seeds}
    reach = float(student_t.ppf(0.975, seeds - 1)) * se
    return {"value": value, "se": se, "low": value - reach, "high": value + reach, "n": seeds}


def mean(values: Sequence[float | None]) -> dict[str, Any]:
    """The mean over seeds; None if a seed has no value."""
    if any(value is None for value in values):
        return {"value": None, "se": None, "low": None, "high": None, "n": len(values), "values": list(values)}
    array = np.asarray(values, dtype=float)
    se = float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else 0.0
    return {**interval(float(array.mean()), se, len(array)), "values": array.tolist()}


def share(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Sum of numerators / sum of denominators over seeds; None if the denominators sum to zero."""
    won, there = np.asarray(pairs, dtype=float).T
    count = len(won)
    values = [float(a / b) if b else None for a, b in zip(won, there, strict=True)]
    rest = there.sum() - there
    if not there.sum() or (count > 1 and not rest.all()):
        return {"value": None, "se": None, "low": None, "high": None, "n": count, "values": values}
    se = 0.0
    if count > 1:
        without = (won.sum() - won) / rest
        se = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    return {**interval(float(won.sum() / there.sum()), se, count), "values": values}


def together(results: Sequence[Result], bars: Mapping[str, Bar]) -> dict[str, dict[str, Any]]:
    """Every measure and share, aggregated over seeds; those with a bar are judged by their intervals (verdicts.py)."""
    first = results[0]
    figures = {name: mean([result.measures[name] for result in results]) for name in first.measures}
    figures |= {name: share([result.shares[name] for result in results]) for name in first.shares}
    for name, bar in bars.items():
        if name in figures:
            figures[name] |= {"bar": bar.least, **({"given": bar.given} if bar.given else {})}
            found = verdict(figures[name], figures)
            figures[name] |= {"holds": found == HOLDS, "verdict": found}
    return figures
