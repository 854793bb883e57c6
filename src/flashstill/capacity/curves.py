"""Means over the steps of a plan of what changes at given hours, and demand by product and step.

mean of a step   (F(end) - F(start)) / step,  F: the integral of the piecewise constant quantity, exact
day              trough + (1 - trough) (1 + cos(2 pi (h - peak) / 24)) / 2, integrated over each step
growth           g^(hours / 8766) at the middle of each step
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flashstill.capacity.plan import CapacityPlan, Product
from flashstill.errors import BadInput
from flashstill.simulate.csv_rows import number_in, rows_of
from flashstill.units import HOURS_PER_DAY, HOURS_PER_YEAR

Values: TypeAlias = npt.NDArray[np.float64]
MOST_REQUESTS_PER_S = 1e12


def edges(plan: CapacityPlan) -> Values:
    """Hours at which steps begin, and the end of the last one [T + 1]."""
    found: Values = np.arange(plan.periods + 1, dtype=np.float64) * plan.step_hours
    return found


def step_means(starts: Values, values: Values, bounds: Values) -> Values:
    """Mean over each step of what is values[i] from starts[i] on, until the next start; starts[0] is 0."""
    past = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(starts))])
    at = np.searchsorted(starts, bounds, side="right") - 1
    integral: Values = past[at] + values[at] * (bounds - starts[at])
    means: Values = np.diff(integral) / np.diff(bounds)
    return means


def requests_per_s(plan: CapacityPlan, product: Product, key: str) -> Values:
    """Requests a second that are owed in each step [T]; BadInput names a line of its file that cannot be."""
    bounds = edges(plan)
    middle = (bounds[:-1] + bounds[1:]) / 2.0
    if product.demand_csv:
        base = _from_file(Path(product.demand_csv), bounds, key)
    else:
        base = (product.peak_requests_per_s or 0.0) * _shape(product, bounds, plan.clock_hours)
    with np.errstate(over="ignore"):
        grown: Values = base * product.growth_per_year ** (middle / HOURS_PER_YEAR)
    if not (grown <= MOST_REQUESTS_PER_S).all():
        raise BadInput(
            f"{key}.growth_per_year is {product.growth_per_year:g}, which makes more than {MOST_REQUESTS_PER_S:g}"
            " requests a second before the horizon's end"
        )
    factors = np.array([1.0, *(each.requests_factor for each in product.generations)])
    found: Values = grown * factors[generation_of(plan, product)]
    return found


def generation_of(plan: CapacityPlan, product: Product) -> npt.NDArray[np.int64]:
    """Number of the generation in each step [T]; 0 is the one that the product begins with."""
    starts = np.array([each.at for each in product.generations])
    begins = edges(plan)[:-1] + plan.step_hours / 2.0
    return np.searchsorted(starts, begins, side="right").astype(np.int64)


def _shape(product: Product, bounds: Values, clock: float) -> Values:
    """Mean of each step relative to the peak. clock: hours of the week at which the plan begins."""
    if product.shape == "flat":
        return np.ones(len(bounds) - 1)
    if product.shape == "day":
        turn = 2.0 * math.pi / HOURS_PER_DAY
        wave = np.diff(np.sin(turn * (bounds + clock - product.peak_hour))) / (turn * np.diff(bounds))
        found: Values = product.trough_ratio + (1.0 - product.trough_ratio) * (1.0 + wave) / 2.0
        return found
    numbers = np.array(product.shape)
    hours = np.arange(math.ceil(bounds[-1] + clock % 1.0) + 1)
    return step_means(hours.astype(np.float64), numbers[(hours + int(clock)) % len(numbers)], bounds + clock % 1.0)


def _from_file(path: Path, bounds: Values, key: str) -> Values:
    hours, rates = [], []
    for where, hour, rate in rows_of(path, [["hour"], ["requests_per_s"]]):
        hours.append(number_in(where, "hour", hour, 0.0, 1e7))
        rates.append(number_in(where, "requests_per_s", rate, 0.0, 1e12))
        if len(hours) > 1 and hours[-1] <= hours[-2]:
            raise BadInput(f"{where}: hour {hours[-1]:g} does not come after {hours[-2]:g}; sort the rows")
    if len(hours) < 2 or hours[0] != 0.0:
        raise BadInput(f"{key}: {path} needs at least two rows, the first of hour 0")
    covered = 2.0 * hours[-1] - hours[-2]  # the last row lasts as long as the one before it
    if covered < bounds[-1]:
        raise BadInput(
            f"{key}: {path} covers {covered:g} hours of the {bounds[-1]:g} of the horizon; add rows or shorten it"
        )
    return step_means(np.array(hours), np.array(rates), bounds)
