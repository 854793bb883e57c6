"""Draws of fact rows within their ranges, for intervals of whatever is computed from them.

Each row is drawn from a triangular distribution: lowest at `low`, most likely at `value`, highest at `high`.  Rows are
independent of each other; the same seed gives the same draws of a row, whichever others are asked for.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flashstill.facts import Facts

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """`count` draws of every row that is asked for."""

    facts: Facts
    count: int
    seed: int = 0
    drawn: dict[tuple[str, str], Values] = field(default_factory=dict)

    def value(self, name: str, quantity: str) -> Values:
        """Draws [count] of one row, in its unit; MissingFact if there is none."""
        key = name, quantity
        if key not in self.drawn:
            row = self.facts.get(name, quantity)
            numbers = np.random.default_rng([self.seed, zlib.crc32(f"{name} {quantity}".encode())])
            is_certain = row.low == row.high
            self.drawn[key] = (
                np.full(self.count, row.value)
                if is_certain
                else numbers.triangular(row.low, min(max(row.value, row.low), row.high), row.high, self.count)
            )
        return self.drawn[key]
