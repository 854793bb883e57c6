"""Dollars spent before the first token, spread over the tokens of a life.

PV(tokens)   = day rate x integral of exp((ln(1 + g) - ln(1 + r)) t) over the life: tokens, discounted at interest r
at launch    = dollars x (1 + r)^(half of the run's years + years until launch): a run is paid evenly while it lasts
per token    = dollars at launch / PV(tokens): the price that earns them back with interest (levelised cost)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.units import DAYS_PER_YEAR, TOKENS_PER_MILLION
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """years of service; interest per year; growth of traffic per year (0.5: half as much again). Numbers or arrays."""

    years: Quantity
    interest: Quantity
    growth: float = 0.0

    @property
    def discounted_days(self) -> Quantity:
        """Days of the traffic at launch that the whole life is worth at launch."""
        slope = np.asarray(np.log1p(self.growth) - np.log1p(self.interest), dtype=np.float64)
        even = np.abs(slope) < 1e-12
        years = np.where(even, self.years, np.expm1(slope * self.years) / np.where(even, 1.0, slope))
        return years * DAYS_PER_YEAR if years.ndim else float(years) * DAYS_PER_YEAR

    def at_launch(self, usd: Quantity, days: Quantity, later_days: Quantity = 0.0) -> Quantity:
        """Dollars of a run of `days` that ends `later_days` before launch, with interest."""
        return usd * (1.0 + self.interest) ** ((days / 2.0 + later_days) / DAYS_PER_YEAR)

    def usd_per_million_tokens(self, usd_at_launch: Quantity, tokens_per_day: Quantity) -> Quantity:
        """What each million tokens bears of dollars spent before launch."""
        return usd_at_launch / (tokens_per_day * self.discounted_days) * TOKENS_PER_MILLION

    def tokens_per_day(self, usd_at_launch: Quantity, usd_per_million_saved: Quantity) -> Quantity:
        """Traffic at launch with which a saving per million tokens earns the dollars back within the life."""
        return usd_at_launch / usd_per_million_saved * TOKENS_PER_MILLION / self.discounted_days
