"""The share of the gap between a teacher and a control that a model closes.

    gap closed = (control - model) / (control - teacher)        in bits per byte, on the same documents

control: the same student trained on hard labels.  The bootstrap draws the same documents for all three.  No figure is
given unless the gap is above zero in 97.5 % of the draws.
"""

from __future__ import annotations

import numpy as np

from flashstill.evaluate.intervals import Floats, ends, with_intervals
from flashstill.evaluate.summary import COLUMNS, FORMULAS, Sums
from flashstill.records import QualityRecord

GAP_CLOSED = "gap_closed"


def _bits_per_byte(total: Floats, place: int) -> Floats:
    return FORMULAS["bits_per_byte"](total[place * len(COLUMNS) :])


def has_gap(teacher: Sums, control: Sums, seed: int) -> bool:
    """Whether the teacher is significantly better than the control, by bootstrap over documents; never for a single
    document."""
    _, low, _ = with_intervals(
        np.concatenate([control, teacher], axis=1),
        lambda total: (_bits_per_byte(total, 0) - _bits_per_byte(total, 1))[None],
        seed,
    )
    return low is not None and bool(low[0] > 0)


def gap_closed(sums: Sums, teacher: Sums, control: Sums, model: str, domain: str, seed: int) -> QualityRecord:
    """The share as a record; sums [documents, C] of the model, the teacher and the control, as `document_sums`."""

    def share(total: Floats) -> Floats:
        ours, best, plain = (_bits_per_byte(total, place) for place in range(3))
        return ((plain - ours) / (plain - best))[None]

    [value], lows, highs = with_intervals(np.concatenate([sums, teacher, control], axis=1), share, seed)
    [(low, high)] = ends(lows, highs, 1)
    return QualityRecord(
        model=model, domain=domain, metric=GAP_CLOSED, value=float(value), low=low, high=high,
        tokens=int(sums[:, 4].sum()), documents=len(sums),
    )  # fmt: skip
