"""Published training runs: what was measured, and the cost of the same step; as comparisons, also with a model left
out of the fit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from flashstill.cost.training import TrainingCost
from flashstill.errors import FlashstillError
from flashstill.facts import Fact, Facts
from flashstill.facts.csv_files import read_rows
from flashstill.validation.anchors.serving import without
from flashstill.validation.comparison import FITTED, LEFT_OUT, Comparison, Values

LEFT_OUT_FILE = Path(__file__).with_name("left_out_training.csv")
"""coefficients of training frameworks, each fitted without one model; written by scripts/calibrate"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRun:
    """One measured figure of a run. figure: its name in `FIGURES`.  key: runs of equal key have the same cost."""

    anchor: str
    quantity: str
    framework: str
    model: str
    chip: str
    measured: float
    figure: str
    key: Hashable
    cost: Callable[[Facts], TrainingCost]


def chip_label(facts: Facts, name: str) -> str:
    """The chip's name in the fact tables, or `name` if they do not have it."""
    return facts.chip_name(name) or name


FIGURES: dict[str, Callable[[TrainingCost], float]] = {
    "mfu": lambda cost: 100.0 * float(cost.mfu),
    "teraflops": lambda cost: float(cost.model_flops_per_s) * 1e-12,
    "tokens_per_s": lambda cost: float(cost.tokens_per_s),
    "seconds": lambda cost: float(cost.seconds),
}


def predicted(facts: Facts, runs: Sequence[TrainedRun]) -> Values:
    """The predicted figure of each run; NaN where the model or the chip is unknown."""
    costs: dict[Hashable, TrainingCost | None] = {}
    values = []
    for run in runs:
        if run.key not in costs:
            try:
                costs[run.key] = run.cost(facts)
            except FlashstillError:
                costs[run.key] = None
        cost = costs[run.key]
        values.append(np.nan if cost is None else FIGURES[run.figure](cost))
    return np.array(values)


def compare_runs(facts: Facts, runs: Sequence[TrainedRun]) -> list[Comparison]:
    """Comparisons by anchor and quantity: as fitted, and with the run's model left out of the fit."""
    values = predicted(facts, runs)
    left_out = np.full(len(runs), np.nan)
    for model in sorted({run.model for run in runs}):
        coefficients = left_out_rows(model)
        mine = [index for index, run in enumerate(runs) if run.model == model]
        if coefficients:
            left_out[mine] = predicted(facts.with_rows(coefficients), [runs[index] for index in mine])
    return [
        comparison
        for label, fitted, answers in (("", FITTED, values), (", model left out", LEFT_OUT, left_out))
        for comparison in compared(runs, answers, label, fitted)
    ]


def compared(runs: Sequence[TrainedRun], values: Values, label: str, fitted: str) -> list[Comparison]:
    """Comparisons of answers (NaN: none) by anchor and quantity. label: added to the name of the quantity."""
    comparisons = []
    for anchor, quantity in dict.fromkeys((run.anchor, run.quantity) for run in runs):
        mine = [index for index, run in enumerate(runs) if (run.anchor, run.quantity) == (anchor, quantity)]
        answered = [index for index in mine if np.isfinite(values[index])]
        if fitted == LEFT_OUT and not answered:
            continue
        comparisons.append(
            Comparison(
                anchor=anchor,
                quantity=f"{quantity}{label}",
                fitted=fitted,
                measured=np.array([runs[index].measured for index in answered]),
                predicted=values[answered],
                chip=tuple(runs[index].chip for index in answered),
                engine=tuple(runs[index].framework for index in answered),
                unanswered=len(mine) - len(answered),
            )
        )
    return comparisons


def left_out_rows(model: str) -> list[Fact]:
    """Fact rows of the frameworks, fitted without a model."""
    condition = without(("model", model))
    return [replace(row, condition="") for row in _all_left_out() if row.condition == condition]


@cache
def _all_left_out() -> tuple[Fact, ...]:
    return tuple(read_rows(LEFT_OUT_FILE)) if LEFT_OUT_FILE.exists() else ()
