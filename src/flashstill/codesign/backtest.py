"""A back-test: chips proposed, and lines drawn, from what was known then, against the chips that came.

    vector      FLOP/s in 16 bits (dense), bytes of memory, bytes a second of it, watts: of one package
    distance    root of the mean square of log2(proposed / came) over the four: 1 is a factor of two
    lines       each quantity's own trend over the makers' best chips of each year (trends.py), read at the year; the
                same for each maker with three years; and the newest chip of each maker as it is

A proposal is any vector (proposals.py).  Nothing is fitted to the chips that came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.codesign.dated import known_by
from flashstill.codesign.regression import FEWEST, fitted
from flashstill.codesign.trends import CHIPS, band_of, chip_points
from flashstill.errors import MissingFact
from flashstill.facts import Facts

COMPARED = ("flops_per_s.16 bits", "memory_bytes", "memory_bytes_per_s", "power_limit_w")
"""keys of `trends.CHIPS` that are compared"""
Vector = Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """One vector and its distances to the chips that came, by their names."""

    name: str
    vector: Vector
    distances: Mapping[str, float]

    @property
    def nearest(self) -> float:
        """The least of its distances."""
        return min(self.distances.values())

    def as_dict(self) -> dict[str, Any]:
        """The guess as a JSON document."""
        return {"name": self.name, "vector": dict(self.vector), "distances": dict(self.distances)}


def chip_vector(facts: Facts, chip: str) -> Vector:
    """What a chip came with; MissingFact if a row lacks."""
    vector = {}
    for key in COMPARED:
        what, _, measure = CHIPS[key]
        value = measure(facts, facts.machine(chip).name)
        if value is None:
            raise MissingFact(f"no fact row gives the {what} of {chip}; add one with --facts DIR")
        vector[key] = value
    return vector


def distance(one: Vector, other: Vector) -> float:
    """Root of the mean square of log2 of their ratios."""
    logs = [math.log2(one[key] / other[key]) for key in COMPARED]
    return math.sqrt(sum(log * log for log in logs) / len(logs))


def lines(facts: Facts, year: int, as_of: int) -> dict[str, Vector]:
    """The vectors of trend lines, and of each maker's newest chip, from what was known at the end of as_of."""
    known = known_by(facts, as_of)
    band = band_of(known)
    points = {key: chip_points(known, CHIPS[key][2]) for key in COMPARED}
    makers = dict.fromkeys(known.machines[point.name].maker for point in points[COMPARED[0]])
    found: dict[str, Vector] = {
        "all makers, each quantity's own line": {
            key: fitted(key, "", points[key], band).at(year).value for key in COMPARED
        }
    }
    for maker in makers:
        own = {key: [point for point in points[key] if known.machines[point.name].maker == maker] for key in COMPARED}
        if all(len({point.year for point in each}) >= FEWEST for each in own.values()):
            found[f"{maker}, each quantity's own line"] = {
                key: fitted(key, "", own[key], band).at(year).value for key in COMPARED
            }
        found[f"{maker}, as in its newest year"] = {key: own[key][-1].value for key in COMPARED if own[key]}
    return {name: vector for name, vector in found.items() if len(vector) == len(COMPARED)}


def compared(facts: Facts, vectors: Mapping[str, Vector], came: Sequence[str]) -> tuple[Guess, ...]:
    """Each vector with its distances to the chips `came`, nearest first."""
    targets = {name: chip_vector(facts, name) for name in came}
    guesses = [
        Guess(name=name, vector=vector, distances={chip: distance(vector, to) for chip, to in targets.items()})
        for name, vector in vectors.items()
    ]
    return tuple(sorted(guesses, key=lambda guess: guess.nearest))
