"""Totals of a training run: steps, days, chip-hours, energy and dollars.

steps = tokens of the run / tokens of a step, rounded up;  time lost to failures and restarts is not included
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from flashstill.economics.prices import HourlyPrice
from flashstill.units import JOULES_PER_KWH, SECONDS_PER_DAY, SECONDS_PER_HOUR

KWH_PER_MWH = 1e3


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTotals:
    """Totals of a training run. mwh: at the wall.  usd: None if no price is known."""

    tokens: float
    steps: float
    days: float
    chip_hours: float
    mwh: float
    usd: float | None

    def as_dict(self) -> dict[str, float | None]:
        """The totals by name."""
        return asdict(self)


def run_totals(
    price: HourlyPrice, chips: int, tokens: int, step_tokens: int, step_seconds: float, step_wall_joules: float
) -> RunTotals:
    """Totals of a run of `tokens` tokens in steps of `step_tokens`, each of given seconds and joules at the wall."""
    steps = float(math.ceil(tokens / step_tokens))
    seconds = steps * step_seconds
    chip_hours = seconds * chips / SECONDS_PER_HOUR
    return RunTotals(
        tokens=float(tokens),
        steps=steps,
        days=seconds / SECONDS_PER_DAY,
        chip_hours=chip_hours,
        mwh=steps * step_wall_joules / JOULES_PER_KWH / KWH_PER_MWH,
        usd=None if price.usd_per_hour is None else chip_hours * price.usd_per_hour,
    )
