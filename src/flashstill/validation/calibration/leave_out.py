"""Fits without a group of served rows, and the predictions of that group by them.

A group is a model, a chip, an engine or a stack; for the bands also a fifth of the rows of every stack, and a model
together with a chip.  Every fit starts from the fit to all rows and runs until it no longer moves, so the rows of the
group have no part in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flashstill.facts import Facts
from flashstill.validation.anchors.serving import LEAVE_OUT, Group, groups
from flashstill.validation.calibration.pooled import Pooled, priced
from flashstill.validation.calibration.software import ServedRows, fit_engines
from flashstill.validation.calibration.trials import QUANTITIES
from flashstill.validation.comparison import Values

FOLDS = 5
FOLD, PAIR = "fold", "model and chip"
"""kinds beside LEAVE_OUT: every FOLDSth row of all stacks, and a model together with a chip"""
KINDS = (*LEAVE_OUT, PAIR, FOLD)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Fits without each group, and predictions by kind and quantity: of every row by the fit without its group."""

    fits: Mapping[Group, Pooled]
    predicted: Mapping[str, Mapping[str, Values]]


def leave_out(facts: Facts, served: ServedRows, whole: Pooled, kinds: Sequence[str] = KINDS) -> LeftOut:
    """Leave out each group of the kinds in turn. Rows that only support the fit (`Served.group`) are no groups."""
    fits: dict[Group, Pooled] = {}
    predicted = {}
    for kind in kinds:
        figures = {quantity: np.full(len(served.rows), np.nan) for quantity in QUANTITIES}
        for name, unseen, own in _members(facts, served, kind):
            fits[kind, name] = replace(fit_engines(served, ~unseen, whole), around=None)
            blocks = [block for block in served.blocks if own[block.rows].any()]
            for quantity, values in priced(blocks, fits[kind, name], QUANTITIES, len(own)).items():
                figures[quantity][own] = values[own]
        predicted[kind] = figures
        print(f"engines, {kind} left out: {errors_text(served, figures)}", file=sys.stderr, flush=True)
    return LeftOut(fits=fits, predicted=predicted)


def errors_text(served: ServedRows, figures: Mapping[str, Values]) -> str:
    """Mean and median errors of predictions of the scored rows, in words."""
    scored = np.array([not row.group for row in served.rows])
    parts = []
    for quantity, measured in (("tpot_s", served.tpot_s), ("ttft_s", served.ttft_s)):
        errors = np.abs(figures[quantity] / measured - 1.0)[scored]
        parts.append(f"{quantity} mean {np.nanmean(errors):.1%}, median {np.nanmedian(errors):.1%}")
    return "; ".join(parts)


Mask = npt.NDArray[np.bool_]


def _members(facts: Facts, served: ServedRows, kind: str) -> Iterable[tuple[str, Mask, Mask]]:
    """Name of each group of a kind, the rows that its fit does not see, and the scored rows that it predicts."""
    scored = np.array([not row.group for row in served.rows])
    if kind == FOLD:
        places = np.array([np.sum(served.stacks[:index] == stack) for index, stack in enumerate(served.stacks)])
        for number in range(FOLDS):
            unseen = scored & (places % FOLDS == number)
            yield str(number), unseen, unseen
        return
    of_row = [dict(groups(facts, row)) for row in served.rows]
    if kind == PAIR:
        pairs = {(its["model"], its["chip"]) for its, row in zip(of_row, served.rows, strict=True) if not row.group}
        for model, chip in sorted(pairs):
            same_model = np.array([its["model"] == model for its in of_row])
            same_chip = np.array([its["chip"] == chip for its in of_row])
            yield f"{model} {chip}", same_model | same_chip, same_model & same_chip & scored
        return
    for name in sorted({its[kind] for its, row in zip(of_row, served.rows, strict=True) if not row.group}):
        unseen = np.array([its[kind] == name for its in of_row])
        yield name, unseen, unseen & scored
