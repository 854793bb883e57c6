"""Draws of fact rows within their ranges, for intervals of whatever is computed from them.

Each row is drawn from a triangular distribution: lowest at `low`, most likely at `value`, highest at `high`.  Rows are
independent of each other; the same seed gives the same draws of a row, whichever others are asked for.

    x = low + (high - value) min(u, v) + (value - low) max(u, v),      u, v uniform in [0, 1)

(Stein and Keblis 2009, Mathematical and Computer Modelling 49: the same distribution as by its inverse, without roots
and branches, and several times as fast.)
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flashstill.facts import Fact, Facts

Values = npt.NDArray[np.float64]
Key = tuple[str, str]
"""(name, quantity) of a row"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """`count` draws of every row that is asked for. part: number of a part of many draws, each drawn anew.

    drawn: the rows read so far.
    """

    facts: Facts
    count: int
    seed: int = 0
    part: int = 0
    drawn: dict[Key, Values] = field(default_factory=dict)

    def value(self, name: str, quantity: str) -> Values:
        """Draws [count] of one row, in its unit; MissingFact if there is none."""
        key = name, quantity
        if key not in self.drawn:
            numbers = np.random.default_rng([self.seed, self.part, zlib.crc32(f"{name} {quantity}".encode())])
            self.drawn[key] = triangular(self.facts.get(name, quantity), *numbers.random((2, self.count)))
        return self.drawn[key]


def triangular(row: Fact, first: Values, second: Values) -> Values:
    """The row's values for two arrays of independent uniform shares, of their shape."""
    values: Values = np.minimum(first, second)
    values *= row.high - row.value
    values += row.low
    largest = np.maximum(first, second)
    largest *= row.value - row.low
    values += largest
    return values
