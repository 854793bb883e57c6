"""What drives a figure: its quantiles over draws of the fact rows, Sobol indices, and a tornado.

    f         a figure of the rows x that it reads;  A, B: independent draws of all rows;  A_i: A with row i from B
    first     S_i = mean(f(B) (f(A_i) - f(A))) / V        share of the variance V by row i alone (Saltelli et al. 2010)
    total     T_i = mean((f(A) - f(A_i))^2) / (2 V)       share that is gone if row i is known (Jansen 1999)
    tornado   f with row i at its low and at its high end, every other row at its value

k rows take k + 2 evaluations of n draws each; no table of n x k^2 values is made, as scipy.stats.sobol_indices does,
and only the row that changes is drawn again.  The errors beside the indices are standard errors of these means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flashstill.economics.bill_of_materials import Rows
from flashstill.economics.draws import Draws, Key, Values
from flashstill.errors import BadInput, shown
from flashstill.facts import Fact, Facts

Figure = Callable[[Rows], Values]
Figures = Callable[[Rows], Mapping[str, Values]]
AT = (0.1, 0.5, 0.9)
NAMES = ("p10", "p50", "p90")
MOST_DRAWS = 10**7
_PART = 2**14
"""draws evaluated at once: arrays of this length stay in a core's cache"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """One fact row and how it moves a figure.

    first, total: Sobol indices, with standard errors.  at_low, at_high: the figure with this row at either end.
    """

    name: str
    quantity: str
    unit: str
    value: float
    low: float
    high: float
    kind: str
    source: str
    first: float
    first_error: float
    total: float
    total_error: float
    at_low: float
    at_high: float

    def as_dict(self) -> dict[str, Any]:
        """The values by name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Replaced:
    """Rows of which one is read from other draws."""

    rows: Rows
    others: Rows
    key: Key

    def value(self, name: str, quantity: str) -> Any:
        return (self.others if (name, quantity) == self.key else self.rows).value(name, quantity)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ends:
    """All rows at their values, except row i at its low end in column 2 i and at its high end in column 2 i + 1."""

    facts: Facts
    column: dict[Key, int]

    def value(self, name: str, quantity: str) -> Values:
        row = self.facts.get(name, quantity)
        values = np.full(2 * len(self.column), row.value)
        at = self.column.get((name, quantity))
        if at is not None:
            values[2 * at : 2 * at + 2] = row.low, row.high
        return values


def drawn(facts: Facts, figures: Figures, count: int, seed: int = 0) -> dict[str, Values]:
    """`count` draws of each of several figures, each figure an array over draws; BadInput for fewer than 1."""
    check_draws(count, seed)
    parts = [
        figures(Draws(facts=facts, count=min(_PART, count - start), seed=seed, part=number))
        for number, start in enumerate(range(0, count, _PART))
    ]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}


def check_draws(count: int, seed: int = 0) -> None:
    """BadInput unless both are whole numbers, of draws at least 1 and no more than a machine's memory holds."""
    for name, value, least, most in (("draws", count, 1, MOST_DRAWS), ("seed", seed, 0, 2**63)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise BadInput(f"{name} is {shown(value)}, not a whole number")
        if not least <= value <= most:
            end = f"at least {least}" if value < least else f"at most {most:,}"
            raise BadInput(f"{name} must be {end}, not {shown(value)}")


def quantiles(values: Values, at: Sequence[float] = AT) -> tuple[float | None, ...]:
    """Values of the sorted draws at shares `at`, infinite ones allowed; None where a quantile is not finite."""
    found = np.quantile(values, at, method="inverted_cdf")
    return tuple(float(value) if math.isfinite(value) else None for value in found)


def interval(values: Values) -> dict[str, float | None]:
    """P10, P50 and P90 of draws, by name; None where the quantile is infinite."""
    return dict(zip(NAMES, quantiles(values), strict=True))


def uncertain_rows(facts: Facts, figure: Figure) -> list[Fact]:
    """The rows with a range that the figure reads, in the order in which it reads them."""
    traced = Draws(facts=facts, count=2)
    figure(traced)
    rows = [facts.get(*key) for key in traced.drawn]
    return [row for row in rows if row.low < row.high]


def tornado(facts: Facts, figure: Figure, rows: Sequence[Fact]) -> Values:
    """The figure with each row at its low and at its high end, the others at their values: [len(rows), 2]."""
    column = {(row.name, row.quantity): number for number, row in enumerate(rows)}
    ends = np.broadcast_to(figure(_Ends(facts=facts, column=column)), 2 * len(rows))
    return ends.reshape(len(rows), 2)


def drivers(facts: Facts, figure: Figure, count: int = 4096, seed: int = 0) -> tuple[Driver, ...]:
    """Every row that moves the figure, the largest total index first.

    count: draws of each of the k + 2 evaluations.  Raises BadInput if the figure is infinite for some draws, as its
    variance then is: take one that is finite, as a sum of dollars.
    """
    rows = uncertain_rows(facts, figure)
    if not rows:
        return ()
    first, second = (Draws(facts=facts, count=count, seed=seed, part=part) for part in (-1 % 2**32, -2 % 2**32))
    before, other = figure(first), figure(second)
    if not (np.isfinite(before).all() and np.isfinite(other).all()):
        raise BadInput("Sobol indices need a figure that is finite for every draw")
    both = np.concatenate([before, other])
    mean, variance = float(both.mean()), float(both.var())
    ends = tornado(facts, figure, rows)
    found = []
    for row, (at_low, at_high) in zip(rows, ends, strict=True):
        change = figure(_Replaced(rows=first, others=second, key=(row.name, row.quantity))) - before
        shares = [(other - mean) * change, 0.5 * change * change]
        index, error = (
            [float(scale(term)) / variance if variance else 0.0 for term in shares]
            for scale in (np.mean, lambda term: np.std(term) / math.sqrt(count))
        )
        found.append(_driver(row, index, error, float(at_low), float(at_high)))
    return tuple(sorted(found, key=lambda driver: (-driver.total, driver.name, driver.quantity)))


def _driver(row: Fact, index: list[float], error: list[float], at_low: float, at_high: float) -> Driver:
    of_row = {
        name: getattr(row, name) for name in ("name", "quantity", "unit", "value", "low", "high", "kind", "source")
    }
    return Driver(
        first=index[0], first_error=error[0], total=index[1], total_error=error[1], at_low=at_low, at_high=at_high,
        **of_row,
    )  # fmt: skip
