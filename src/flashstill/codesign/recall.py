"""Recall of a stage: the share of the items that matter which are among those it keeps.

    law      lost(x) = ((1 + x/s)^-a - (1 + 1/s)^-a) / (1 - (1 + 1/s)^-a)      x = kept / items, recall = 1 - lost
    table    (items kept, recall), straight between the logarithms of the items kept

The law has a power-law tail a beyond a share s of the items, is 0 at nothing kept, and exactly 1 where all are kept.
It depends on the share alone: distractors grow with the corpus.  Stages are taken to err independently, so that the
recall of a cascade is the product.  s and a are fact rows: recall-scan, recall-read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.facts import Facts
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """A law (scale, tail), or a table if it has points; factor: of both, as of an approximate index."""

    scale: float
    tail: float
    points: tuple[tuple[float, float], ...] = ()
    factor: float = 1.0

    def of(self, kept: Quantity, items: Quantity) -> Quantity:
        """Recall where `kept` of `items` are kept; 1 where all are."""
        kept = np.minimum(np.asarray(kept, dtype=np.float64), items)
        if self.points:
            places, values = zip(*self.points, strict=True)
            found: Quantity = np.interp(np.log(np.maximum(kept, 1e-300)), np.log(places), values)
        else:
            rest = (1.0 + 1.0 / self.scale) ** -self.tail
            found = 1.0 - ((1.0 + kept / items / self.scale) ** -self.tail - rest) / (1.0 - rest)
        whole: Quantity = np.where(kept >= items, 1.0, found * self.factor)
        return whole


EVERYTHING = Recall(scale=1.0, tail=1.0, points=((1.0, 1.0),))
"""a stage that loses nothing of what it is given"""


def recall_law(facts: Facts, kind: str, factor: float = 1.0) -> Recall:
    """The law of a kind of stage, "scan" or "read"."""
    owner = f"recall-{kind}"
    return Recall(scale=facts.value(owner, "scale_ratio"), tail=facts.value(owner, "tail_exponent"), factor=factor)
