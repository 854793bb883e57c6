"""Measured rates and latencies of served models against predictions, with the 80 % band of each.

No coefficient is fitted to a row of these tables.  Some makers' classes have rows estimated over groups of them (AMD
GPUs, TPUs, Gaudi): their rows are compared apart, as fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.facts import Facts
from flashstill.plan.predict import Case, predict
from flashstill.plan.prediction import ENDS, Prediction
from flashstill.validation.comparison import FITTED, NOT_FITTED, Comparison

TPOT, TTFT, RATE, JOULES = "tpot_s", "ttft_s", "output_tokens_per_s", "joules_per_output_token"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One measured figure of a case. quantity: a field of Prediction; value: in its unit.  copies: replicas of the
    case whose rates add up to the measured one.  edits: numbers of the chip as the row states them (facts/edits.py)."""

    case: Case
    quantity: str
    value: float
    copies: float = 1.0
    edits: tuple[str, ...] = ()


def compared(
    facts: Facts, anchor: str, rows: Sequence[Measured], unanswered: int = 0, used: Sequence[str] = ()
) -> list[Comparison]:
    """Comparisons by quantity. unanswered: rows of the file for which no case could be made, added to the first.

    used: makers' classes whose estimates were made with rows of this file.
    """
    answers = _answers(facts, rows)
    labels = [
        (row.quantity, FITTED if used and facts.machine(row.case.deployment.chip).maker_class in used else NOT_FITTED)
        for row in rows
    ]
    comparisons: list[Comparison] = []
    for label in dict.fromkeys(labels):
        quantity, fitted = label
        pairs = [pair for pair, each in zip(zip(rows, answers, strict=True), labels, strict=True) if each == label]
        answered = [(row, answer) for row, answer in pairs if getattr(answer, quantity) is not None]
        scale = np.array([row.copies if quantity == RATE else 1.0 for row, _ in answered])
        predicted = np.array([getattr(answer, quantity) for _, answer in answered]) * scale
        bands = [each for each in (band_of(answer, quantity) for _, answer in answered) if each is not None]
        banded = len(bands) == len(answered)
        comparisons.append(
            Comparison(
                anchor=anchor,
                quantity=quantity,
                fitted=fitted,
                measured=np.array([row.value for row, _ in answered]),
                predicted=predicted,
                low=predicted * np.array([low for low, _ in bands]) if banded else None,
                high=predicted * np.array([high for _, high in bands]) if banded else None,
                chip=tuple(str(facts.chip_name(row.case.deployment.chip)) for row, _ in answered),
                engine=tuple(str(row.case.deployment.engine or "default") for row, _ in answered),
                unanswered=len(pairs) - len(answered) + (0 if comparisons else unanswered),
            )
        )
    return comparisons


def _answers(facts: Facts, rows: Sequence[Measured]) -> list[Prediction]:
    """The prediction of each row, those with the same numbers of their chip together."""
    places: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.edits, []).append(place)
    answered = {
        place: answer
        for edits, mine in places.items()
        for place, answer in zip(mine, predict(facts.edited(edits), [rows[at].case for at in mine]), strict=True)
    }
    return [answered[place] for place in range(len(rows))]


def band_of(answer: Prediction, quantity: str) -> tuple[float, float] | None:
    """Ends of the 80 % band as factors on the prediction; None if the quantity has none."""
    value = getattr(answer, quantity)
    low, high = (getattr(answer, name) for name in ENDS[quantity]) if quantity in ENDS else (None, None)
    return (low / value, high / value) if value and low is not None and high is not None else None
