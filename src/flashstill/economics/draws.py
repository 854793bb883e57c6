"""Draws of fact rows within their ranges, for intervals of whatever is computed from them.

Each row is drawn from a triangular distribution: lowest at `low`, most likely at `value`, highest at `high`.  Rows are
independent of each other; the same seed gives the same draws of a row, whichever others are asked for.

    x = low + sqrt(u (high - low) (value - low))              where u < (value - low) / (high - low)
    x = high - sqrt((1 - u) (high - low) (high - value))      elsewhere,  u uniform in [0, 1)
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
            self.drawn[key] = triangular(self.facts.get(name, quantity), numbers.random(self.count))
        return self.drawn[key]


def triangular(row: Fact, uniforms: Values) -> Values:
    """The row's values at the shares `uniforms` of its distribution, of the same shape."""
    width, below = row.high - row.low, row.value - row.low
    if width == 0.0:
        return np.full(uniforms.shape, row.value)
    rises = uniforms < below / width
    reach = np.where(rises, uniforms * (width * below), (1.0 - uniforms) * (width * (width - below)))
    np.sqrt(reach, out=reach)
    return np.where(rises, row.low + reach, row.high - reach)
