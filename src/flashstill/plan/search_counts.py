"""What a search has found so far: configurations counted, those refused by reason, and the fronts that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flashstill.frontier import non_dominated, thinned
from flashstill.hardware import Chip
from flashstill.plan.deployment import TWO_BATCH
from flashstill.plan.feasible import NO_LINKS
from flashstill.plan.fronts import Table, costs_of
from flashstill.plan.layouts import NOTHING_TO_HIDE
from flashstill.plan.pool_search import Paired
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.scenario import Scenario, broken_bounds
from flashstill.plan.space import OBJECTIVES
from flashstill.plan.tables import Places, Values


@dataclass(kw_only=True, slots=True)
class SearchCounts:
    """evaluated: all configurations; priced: those that can run; feasible: those that keep the bounds.

    reasons: of all others, by the first that refuses them.  tables: fronts of the feasible ones.
    """

    evaluated: int = 0
    priced: int = 0
    feasible: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    tables: list[Table] = field(default_factory=list)

    def refuse(self, reasons: Mapping[str, int]) -> None:
        """Count configurations that were not priced, by reason."""
        self.reasons.update(reasons)

    def left(self, refused: Mapping[str, Any], shape: tuple[int, ...]) -> Places:
        """Flat places that no reason refuses; the others are counted by their first reason."""
        left = np.ones(shape, dtype=bool)
        for reason, these in refused.items():
            count = int(np.count_nonzero(left & these))
            if count:
                self.reasons[reason] += count
                left &= ~these
        return np.flatnonzero(left)

    def keep(self, scenario: Scenario, label: dict[str, Any], columns: Mapping[str, Values]) -> None:
        """Count priced configurations that break a bound, and keep the front of the others. label: what they share."""
        broken = broken_bounds(scenario, columns["ttft_s"], columns["tpot_s"], columns["output_tokens_per_s"])
        left = self.left(broken, columns["batch"].shape)
        self.feasible += len(left)
        if len(left):
            costs = costs_of([columns[name][left] for name in OBJECTIVES])
            few = thinned(costs)
            best = left[few[non_dominated(costs[few])]]
            self.tables.append(Table(label, {name: column[best] for name, column in columns.items()}))

    def keep_pairs(self, scenario: Scenario, chip: Chip, label: dict[str, Any], pairs: Paired) -> None:
        """As `keep`, for prefill and decoding on pools of their own, all of which are priced."""
        columns, topology, system = pairs.columns, chip.topology, chip.system
        apart = (columns["chips"] > system.domain_chips) & (not system.scale_out_bytes_per_s)
        broken = broken_bounds(scenario, columns["ttft_s"], columns["tpot_s"], columns["output_tokens_per_s"])
        refused = {
            NO_LINKS: apart | (not topology.link_bytes_per_s),
            NOTHING_TO_HIDE: (columns["dp"] == 1) & (label["overlap"] == TWO_BATCH),
            NOT_FITTING: ~pairs.fits,
        }
        left = self.left(refused | broken, pairs.fits.shape)
        self.evaluated += len(pairs.fits)
        self.priced += len(pairs.fits)
        self.feasible += len(left)
        if len(left):
            best = left[non_dominated(costs_of([columns[name][left] for name in OBJECTIVES]))]
            self.tables.append(Table(label, {name: column[best] for name, column in columns.items()}))
