"""Dies of a wafer, counted by exact placement, and the share of them that works.

    A    area of a die in cm2        D    defects per cm2        x = A D
    Y = (1 + x / a)^-a,  a: clustering of defects (Stapper 1989: the negative binomial); Poisson's exp(-x) as a grows

A die with u equal units of which w must work (132 of the 144 of an H100) is sold if at most u - w of them are hit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.workload import Quantity

Values = npt.NDArray[np.float64]
MM2_PER_CM2 = 100.0
_ROWS = 512
"""offsets of the grid of dies that are tried along the height; along the width the best one is exact"""
_TOUCHES = 1e-9
"""of a die's width: a die that touches the edge counts"""
_COMPARED = 2**20
"""pairs of rows that are compared at once"""
_KNOTS = 257
_NARROW = 100.0
"""from this clustering on, Laguerre's rule loses its digits"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wafer:
    """diameter_mm; edge_mm: width of the ring that holds no die; scribe_mm: lost between neighbours."""

    diameter_mm: float
    edge_mm: float
    scribe_mm: float


def wafer_of(facts: Facts) -> Wafer:
    """The wafer of the fact rows."""
    names = ("diameter_mm", "edge_mm", "scribe_mm")
    return Wafer(**{name: facts.value("wafer", name) for name in names})


def fits_wafer(width_mm: float, height_mm: float, wafer: Wafer) -> bool:
    """Whether a wafer holds one such die."""
    diagonal = math.hypot(width_mm + wafer.scribe_mm, height_mm + wafer.scribe_mm)
    return diagonal <= wafer.diameter_mm - 2.0 * wafer.edge_mm


@lru_cache(maxsize=256)
def dies_per_wafer(width_mm: float, height_mm: float, wafer: Wafer) -> int:
    """Whole dies on a wafer: rectangles on one grid, at the best offset of the grid from the centre.

    Rows of dies lie between y and y + h; a row holds those within the chord of its longer side, so that for a grid
    line at x0 the count is floor((c - x0) / w) + floor((c + x0) / w), which changes only at x0 = +-c mod w.
    Raises BadInput for sides that are not above 0.
    """
    if not (width_mm > 0.0 and height_mm > 0.0):
        raise BadInput(f"the sides of a die must be above 0 mm, not {width_mm:g} x {height_mm:g}")
    width, height = width_mm + wafer.scribe_mm, height_mm + wafer.scribe_mm
    radius = wafer.diameter_mm / 2.0 - wafer.edge_mm
    if not fits_wafer(width_mm, height_mm, wafer):
        return 0
    offsets = height * np.arange(_ROWS // 2 + 1)[:, None] / _ROWS
    lines = offsets + height * np.arange(-math.ceil(2.0 * radius / height), math.ceil(2.0 * radius / height) + 1)
    farthest = np.maximum(np.abs(lines), np.abs(lines + height))
    chords = np.sqrt(np.maximum(radius**2 - farthest**2, 0.0)) / width + _TOUCHES
    held = np.where(farthest <= radius, chords, np.nan)
    parts = math.ceil(held.shape[1] ** 2 * len(held) / _COMPARED)
    return max(_most_dies(part) for part in np.array_split(held, min(parts, len(held))))


def _most_dies(chords: Values) -> int:
    """The most dies of several grids. chords [grids, rows]: half the chord of each row in dies; NaN without a row.

    With c = n + f and a grid line at x of a die's width, 0 <= x <= 1/2 (the other half mirrors it), a row holds
    floor(c - x) + floor(c + x) = 2 n + (x >= 1 - f) - (x > f) dies: of interest are x = 0 and each 1 - f up to 1/2.
    """
    whole = np.floor(chords)
    left = (chords - whole)[:, None, :]
    lines = np.where(left >= 0.5, 1.0 - left, 0.0).transpose(0, 2, 1)
    more = (lines >= 1.0 - left).sum(axis=2) - (lines > left).sum(axis=2)
    return int((2.0 * np.nansum(whole, axis=1) + more.max(axis=1)).max())


def yield_with_spares(
    mean_defects: Quantity, clustering: float, units: int, needed: int, units_ratio: float
) -> Quantity:
    """Share of dies on which at least `needed` of `units` equal units work, and all that is not a unit.

    units_ratio: share of the die's area that the units take.  The density of defects is gamma-distributed over dies,
    of shape `clustering` (so that needed = units gives the negative binomial); given the density, units fail
    independently.  The mean over the gamma distribution is a quadrature; many values of mean_defects are interpolated
    between `_KNOTS`.  Raises BadInput if fewer units exist than are needed.
    """
    if not 0 <= needed <= units:
        raise BadInput(f"a die cannot need {needed} of {units} units")
    if not 0.0 <= units_ratio <= 1.0:
        raise BadInput(f"the share of a die that its units take lies between 0 and 1, not {units_ratio:g}")
    asked = np.asarray(mean_defects, dtype=np.float64)
    if asked.size > _KNOTS:
        knots = np.linspace(float(asked.min()), float(asked.max()), _KNOTS)
        return np.interp(asked, knots, _sold(knots, clustering, units, needed, units_ratio))
    sold = _sold(asked.ravel(), clustering, units, needed, units_ratio).reshape(asked.shape)
    return sold if asked.ndim else float(sold)


def _sold(mean_defects: Values, clustering: float, units: int, needed: int, units_ratio: float) -> Values:
    densities, weights = _densities(clustering)
    hits = mean_defects[:, None] * densities
    works = np.exp(-hits * units_ratio / max(units, 1))
    enough = sum(
        math.comb(units, lost) * (1.0 - works) ** lost * works ** (units - lost) for lost in range(units - needed + 1)
    )
    mean: Values = (weights * np.exp(-hits * (1.0 - units_ratio)) * enough).sum(axis=1)
    return mean


@lru_cache(maxsize=32)
def _densities(clustering: float) -> tuple[Values, Values]:
    """Points and weights of a gamma distribution of mean 1 and shape `clustering`."""
    if math.isinf(clustering):
        return np.ones(1), np.ones(1)
    if clustering < _NARROW:
        from scipy.special import roots_genlaguerre

        points, weights = roots_genlaguerre(40, clustering - 1.0)
        return points / clustering, weights / weights.sum()
    reach = 10.0 / math.sqrt(clustering)  # standard deviations of a narrow peak, on which the trapezoid rule is exact
    points = np.linspace(max(1.0 - reach, 1e-9), 1.0 + reach, 401)
    logs = (clustering - 1.0) * np.log(points) - clustering * (points - 1.0)
    weights = np.exp(logs - logs.max())
    return points, weights / weights.sum()
