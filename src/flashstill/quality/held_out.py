"""How well runs that a fit did not see are foretold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flashstill.quality.own_runs import Run

LEVEL = 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """A run, and what the fit to the others foretold: the median, and an interval that holds it with `level`."""

    model: str
    parameters: float
    tokens: float
    loss: float
    predicted: float
    low: float
    high: float
    level: float

    def as_dict(self) -> dict[str, Any]:
        """Its fields by name."""
        return asdict(self)


def foretold(
    runs: Sequence[Run], without: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[int]]
) -> tuple[HeldOut, ...]:
    """One row a run, in the order of the runs. without[i]: draws of the fit that did not see the runs groups[i]."""
    rows: dict[int, HeldOut] = {}
    for samples, group in zip(without, groups, strict=True):
        for number in group:
            run = runs[number]
            size = np.exp(np.log(samples["A"]) - samples["alpha"] * np.log(run.parameters))
            data = np.exp(np.log(samples["B"]) - samples["beta"] * np.log(run.tokens))
            low, middle, high = np.quantile(
                (samples["E"] + size + data) * samples["noise"], [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2]
            )
            rows[number] = HeldOut(
                model=run.model,
                parameters=run.parameters,
                tokens=run.tokens,
                loss=run.loss,
                predicted=float(middle),
                low=float(low),
                high=float(high),
                level=LEVEL,
            )
    return tuple(rows[number] for number in range(len(runs)))
