"""Percentiles with intervals, medians over runs, and the test for a stationary warm-up.

    order statistics   of n values in order, the k-th lies below the q-quantile with P(Binomial(n, q) >= k)

Both intervals come from it (David and Nagaraja 2003, section 7.1) and assume no distribution.  A percentile whose
upper end would lie beyond the largest value has no value: the 99th of 71 requests is their maximum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PERCENTILES = (50, 90, 95, 99)
CONFIDENCE = 0.95
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentile:
    """A percentile with a 95 % interval; None where n values cannot tell it."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """A quantity over n requests (or gaps)."""

    n: int
    mean: float
    percentiles: dict[int, Percentile]


@dataclass(frozen=True, kw_only=True, slots=True)
class OverRuns:
    """A figure of every run: its median, and an interval that holds the true median with `confidence`."""

    n: int
    median: float
    low: float
    high: float
    confidence: float


def ranks(n: int, share: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """1-based ranks of the order statistics that enclose the quantile; None for an end beyond the values.

    Each end is missed with at most half of 1 - `confidence`.
    """
    from scipy.special import bdtr

    tail = (1.0 - confidence) / 2.0
    below = bdtr(np.arange(n + 1, dtype=float), n, share)  # P(Binomial <= k)
    # the k-th value lies above the quantile with P(Binomial <= k - 1) = below[k - 1], below it with 1 - that
    low = int(np.searchsorted(below[:n], tail, side="right"))  # the largest k with below[k - 1] <= tail
    above = np.nonzero(1.0 - below[:n] <= tail)[0]
    return (low or None), (int(above[0]) + 1 if len(above) else None)


def distribution(values: Sequence[float] | Values) -> Distribution | None:
    """Mean and percentiles; None of no values."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if not n:
        return None
    return Distribution(
        n=n, mean=float(ordered.mean()), percentiles={each: percentile(ordered, each / 100.0) for each in PERCENTILES}
    )


def percentile(ordered: Values, share: float) -> Percentile:
    """A percentile of values in ascending order."""
    low, high = ranks(len(ordered), share)
    return Percentile(
        value=None if high is None else float(np.quantile(ordered, share)),
        low=None if low is None else float(ordered[low - 1]),
        high=None if high is None else float(ordered[high - 1]),
    )


def over_runs(values: Sequence[float]) -> OverRuns | None:
    """The median over runs with the narrowest interval of 95 %, else (up to five runs) from the smallest to the largest
    with the confidence that it has, 1 - 2^(1 - n)."""
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        return None
    low, high = ranks(n, 0.5)
    first, last = low or 1, high or n
    outside = (
        sum(math.comb(n, k) for k in range(first)) / 2.0**n + sum(math.comb(n, k) for k in range(last, n + 1)) / 2.0**n
    )
    return OverRuns(
        n=n, median=float(np.median(ordered)), low=ordered[first - 1], high=ordered[last - 1],
        confidence=max(1.0 - outside, 0.0),
    )  # fmt: skip


SLACK, ERRORS, MOST_WINDOWS, FEWEST_IN_A_WINDOW = 0.1, 2.0, 10, 8
STATIONARITY = (
    f"the warm-up ends when the mean seconds per output token of a window of requests, in the order in which they"
    f" end, differ from the window before by less than {SLACK:.0%}, or by less than {ERRORS:g} standard errors of that"
    f" difference, and after at most {MOST_WINDOWS} windows; its requests are discarded"
)


class WarmUp:
    """Watches the requests of a warm-up. window: how many make one."""

    def __init__(self, window: int) -> None:
        self.window = max(window, FEWEST_IN_A_WINDOW)
        self._values: list[float] = []
        self.is_stationary = False

    @property
    def most_requests(self) -> int:
        """Requests after which a warm-up ends in any case."""
        return self.window * MOST_WINDOWS

    @property
    def requests(self) -> int:
        """Requests that were watched."""
        return len(self._values)

    def add(self, value: float) -> bool:
        """Note a request's seconds per output token; True once the load is stationary."""
        self._values.append(value)
        many = len(self._values)
        if many >= 2 * self.window and many % self.window == 0:
            before, after = (np.array(self._values[many - k * self.window :][: self.window]) for k in (2, 1))
            self.is_stationary = is_stationary(before, after)
        return self.is_stationary


def is_stationary(before: Values, after: Values) -> bool:
    """Whether two windows may have the same mean, by the test of STATIONARITY."""
    change = abs(float(after.mean()) - float(before.mean()))
    error = math.sqrt(float(before.var(ddof=1)) / len(before) + float(after.var(ddof=1)) / len(after))
    return change <= max(SLACK * float(before.mean()), ERRORS * error)
