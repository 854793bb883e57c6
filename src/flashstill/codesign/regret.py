"""Regret: what it costs to have built the chip for another future than the one that comes.

    regret(d, f) = cost of design d in future f / cost of the best design for f, less 1
    minimax      the design whose largest regret is least        mean: whose regret, weighted by probability, is least

Bounds of costs give bounds of both, as neither falls when a cost rises: the same hunt finds them (hunt.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.codesign.designs import Values
from flashstill.codesign.hunt import Combined, Found, Hunt, least


@dataclass(frozen=True, kw_only=True, slots=True)
class Regrets:
    """best: by future.  minimax, mean: None unless there are several.  chosen: distinct designs, in that order.

    costs: (chosen, futures).
    """

    best: tuple[Found, ...]
    minimax: Found | None
    mean: Found | None
    chosen: tuple[int, ...]
    costs: Values

    @property
    def regrets(self) -> Values:
        """(chosen, futures): cost over that of the future's best, less 1; infinite where a design cannot serve it."""
        table: Values = self.costs / np.array([found.cost for found in self.best]) - 1.0
        return table


def largest_of(bests: Sequence[float]) -> Combined:
    """The largest of the costs over those of the best designs."""

    def largest(costs: Sequence[Values]) -> Values:
        worst: Values = np.max([cost / known for cost, known in zip(costs, bests, strict=True)], axis=0)
        return worst

    return largest


def expected_of(bests: Sequence[float], probabilities: Sequence[float]) -> Combined:
    """The mean, weighted by probability, of the costs over those of the best designs."""

    def expected(costs: Sequence[Values]) -> Values:
        weighted = zip(costs, bests, probabilities, strict=True)
        total: Values = np.sum([chance * cost / known for cost, known, chance in weighted if chance], axis=0)
        return total

    return expected


def regrets_of(hunt: Hunt, futures: Sequence[int], probabilities: Sequence[float]) -> Regrets:
    """The best design of each future, and those of least regret; `Found.design` is -1 where nothing serves."""
    best = tuple(least(hunt, [future]) for future in futures)
    minimax = mean = None
    if len(futures) > 1 and all(found.design >= 0 for found in best):
        least_costs = [found.cost for found in best]
        minimax = least(hunt, futures, largest_of(least_costs))
        mean = least(hunt, futures, expected_of(least_costs, probabilities))
    found = [one.design for one in (*best, *(one for one in (minimax, mean) if one)) if one.design >= 0]
    chosen = tuple(dict.fromkeys(found))
    places = np.array(chosen, dtype=np.intp)
    costs = np.array([hunt.cost(future, places) for future in futures]).T if chosen else np.zeros((0, len(futures)))
    return Regrets(best=best, minimax=minimax, mean=mean, chosen=chosen, costs=costs)
