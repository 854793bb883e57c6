"""What is known about a law's errors, and draws of its coefficients.

standard_errors   of the paper: E, exponents normal, factors (A, B) log-normal; correlated as `correlations` says
samples           of a fit on runs (posterior.py): coefficients that belong together, and `noise` of a single run
relative_error    the largest error that the paper tells of its fit: a span, not a confidence interval
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
_FACTORS = ("A", "B")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spread:
    """At most one of the three kinds; none if nothing is known. correlations: in the order of standard_errors."""

    standard_errors: Mapping[str, float] = field(default_factory=dict)
    correlations: tuple[tuple[float, ...], ...] = ()
    correlations_source: str = ""
    samples: Mapping[str, Values] = field(default_factory=dict)
    relative_error: float | None = None

    def draws(self, coefficients: Mapping[str, float], count: int, seed: int) -> dict[str, Any] | None:
        """name -> draws [count], or as many as the fit sampled; None if nothing is known."""
        if self.samples:
            return dict(self.samples)
        if not self.standard_errors:
            return None
        names = list(self.standard_errors)
        numbers = np.random.default_rng(seed).standard_normal((count, len(names)))
        if self.correlations:
            numbers = numbers @ np.linalg.cholesky(np.asarray(self.correlations)).T
        drawn: dict[str, Any] = dict(coefficients)
        for name, number in zip(names, numbers.T, strict=True):
            value, error = coefficients[name], self.standard_errors[name]
            if name in _FACTORS:
                drawn[name] = value * np.exp(np.sqrt(np.log1p((error / value) ** 2)) * number)
            else:
                drawn[name] = value + error * number
        return {name: np.broadcast_to(values, (count,)) for name, values in drawn.items()}

    def remarks(self) -> Iterator[str]:
        """What the interval is, or that there is none."""
        if self.samples:
            return
        if self.standard_errors and not self.correlations:
            yield (
                "interval from the paper's standard errors, drawn independently: correlations are not published, and"
                " with them it would be narrower"
            )
        elif self.standard_errors:
            yield f"interval from the paper's standard errors, correlated as in {self.correlations_source}"
        elif self.relative_error is not None:
            yield (
                f"the interval is the paper's largest error of its fit, {self.relative_error:.0%}, not a confidence"
                " interval"
            )
        else:
            yield "no errors of the coefficients are known: no interval"
