"""Error statistics of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FITTED, LEFT_OUT, NOT_FITTED = "fitted", "left out", "not fitted"
OWN = "own measurements, not fitted"
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Predicted against measured values of one quantity; chip and engine (or kind) of each value label it.

    fitted: FITTED if the coefficients were fitted to these measurements, LEFT_OUT if only to others of the same table,
    NOT_FITTED if to neither; OWN if neither, and this project measured them itself.
    low, high: the band of each prediction, or None.
    """

    anchor: str
    quantity: str
    fitted: str
    measured: Values
    predicted: Values
    chip: tuple[str, ...]
    engine: tuple[str, ...]
    unanswered: int = 0
    low: Values | None = None
    high: Values | None = None

    @property
    def errors(self) -> Values:
        """Signed relative errors: positive if the prediction is too high."""
        return self.predicted / self.measured - 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRow:
    """One line of an error table; errors are relative to the measured value, None if there is no prediction."""

    anchor: str
    quantity: str
    fitted: str
    chip: str
    engine: str
    n: int
    unanswered: int
    mean_absolute_error: float | None
    median_absolute_error: float | None
    bias: float | None
    coverage: float | None


def error_rows(comparison: Comparison) -> list[ErrorRow]:
    """Rows for the whole comparison, then per chip and engine if there are several."""
    everything = np.ones(len(comparison.measured), dtype=bool)
    rows = [_row(comparison, everything, "all", "all", comparison.unanswered)]
    groups = sorted(set(zip(comparison.chip, comparison.engine, strict=True)))
    if len(groups) > 1:
        pairs = list(zip(comparison.chip, comparison.engine, strict=True))
        for chip, engine in groups:
            chosen = np.array([pair == (chip, engine) for pair in pairs])
            rows.append(_row(comparison, chosen, chip, engine, 0))
    return rows


def _row(comparison: Comparison, chosen: npt.NDArray[np.bool_], chip: str, engine: str, unanswered: int) -> ErrorRow:
    errors = comparison.errors[chosen]
    coverage = None
    if comparison.low is not None and comparison.high is not None and errors.size:
        measured = comparison.measured[chosen]
        inside = (comparison.low[chosen] <= measured) & (measured <= comparison.high[chosen])
        coverage = float(inside.mean())
    empty = not errors.size
    return ErrorRow(
        anchor=comparison.anchor,
        quantity=comparison.quantity,
        fitted=comparison.fitted,
        chip=chip,
        engine=engine,
        n=int(errors.size),
        unanswered=unanswered,
        mean_absolute_error=None if empty else float(np.abs(errors).mean()),
        median_absolute_error=None if empty else float(np.median(np.abs(errors))),
        bias=None if empty else float(np.median(errors)),
        coverage=coverage,
    )
