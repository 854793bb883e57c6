"""A straight line through the logarithms of dated values, and what it says of a year.

    log2 y = a + b (t - t_mean) + e,    e normal of standard deviation s, estimated from n - 2 degrees of freedom
    at t:    a + b (t - t_mean) +- q s sqrt(1 + 1/n + (t - t_mean)^2 / S),   S = sum (t_i - t_mean)^2
    doubling time 1 / b,  of an interval b +- q s / sqrt(S);  q: quantile of Student's t

The band holds the value of one further chip, not the mean of chips (a prediction interval; Draper and Smith 1998,
Applied Regression Analysis, section 1.4).  It widens with the distance from the years that were seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.codesign.future import Spread
from flashstill.errors import MissingFact

FEWEST = 3
"""points without which a line has no spread"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One dated value. name: of the chip, memory or process that it belongs to."""

    name: str
    year: float
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """A fitted line; symbols as above. slope: doublings a year.  band: probability of the intervals.  points: seen."""

    what: str
    unit: str
    centre: float
    slope: float
    mean_year: float
    deviation: float
    squares: float
    band: float
    points: tuple[Point, ...]

    def at(self, year: float) -> Spread:
        """The value of a year with its band."""
        middle = self.centre + self.slope * (year - self.mean_year)
        away = (year - self.mean_year) ** 2 / self.squares
        half = self._quantile() * self.deviation * math.sqrt(1.0 + 1.0 / len(self.points) + away)
        return Spread(
            value=2.0**middle, low=2.0 ** (middle - half), high=2.0 ** (middle + half), unit=self.unit, basis=self.basis
        )

    @property
    def basis(self) -> str:
        """The points and the doubling time in a few words."""
        years = [point.year for point in self.points]
        time = "does not change" if not self.slope else f"doubles in {1.0 / self.slope:.1f} years"
        if self.slope < 0.0:
            time = f"halves in {-1.0 / self.slope:.1f} years"
        return f"{self.what}: {time}, from {len(years)} points of {min(years):.0f} to {max(years):.0f}"

    @property
    def doubling_years(self) -> tuple[float, float, float]:
        """Years of a doubling and its band: (value, low, high); negative for a halving, infinite if none is seen."""
        half = self._quantile() * self.deviation / math.sqrt(self.squares)
        fast, slow = self.slope + half, self.slope - half
        return _years(self.slope), _years(fast), (_years(slow) if slow > 0.0 or fast < 0.0 else math.inf)

    def as_dict(self) -> dict[str, Any]:
        """The line as a JSON document; infinite times are null."""
        value, low, high = (None if math.isinf(years) else years for years in self.doubling_years)
        return {
            "what": self.what,
            "unit": self.unit,
            "doubling_years": {"value": value, "low": low, "high": high},
            "deviation_doublings": self.deviation,
            "points": [{"name": point.name, "year": point.year, "value": point.value} for point in self.points],
        }

    def _quantile(self) -> float:
        from scipy.special import stdtrit

        return float(stdtrit(len(self.points) - 2, 0.5 + self.band / 2.0))


def _years(slope: float) -> float:
    return 1.0 / slope if slope else math.inf


def fitted(what: str, unit: str, points: Sequence[Point], band: float) -> Trend:
    """The line through at least three points of at least two years; MissingFact with fewer."""
    if len(points) < FEWEST or len({point.year for point in points}) < 2:
        raise MissingFact(
            f"a trend of {what} needs {FEWEST} values of different years, and by then {len(points)} of"
            f" {len({point.year for point in points})} are known; add rows with --facts, or take a later as_of"
        )
    years = np.array([point.year for point in points], dtype=np.float64)
    logs = np.log2([point.value for point in points])
    away = years - years.mean()
    squares = float((away**2).sum())
    slope = float((away * logs).sum() / squares)
    rest = logs - logs.mean() - slope * away
    return Trend(
        what=what,
        unit=unit,
        centre=float(logs.mean()),
        slope=slope,
        mean_year=float(years.mean()),
        deviation=math.sqrt(float((rest**2).sum()) / (len(points) - 2)),
        squares=squares,
        band=band,
        points=tuple(points),
    )
