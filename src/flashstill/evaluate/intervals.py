"""95 % bootstrap intervals over documents.

Tokens of one document are not independent, so whole documents are drawn with replacement (Efron and Tibshirani 1993,
"An Introduction to the Bootstrap", chapter 13): the interval is the 2.5 % and 97.5 % percentile of the statistic over
1,000 draws.  SciPy draws; all statistics of one call are computed on the same draws, and the draws depend on the seed
and the number of documents alone, so that models are compared on the same documents.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

Floats = npt.NDArray[np.float64]
DRAWS, LEVEL = 1000, 0.95
MOST_INDICES = 4_000_000
"""indices drawn at a time, to limit memory with many documents"""


def with_intervals(
    per_document: Floats, statistics: Callable[[Floats], Floats], seed: int
) -> tuple[Floats, Floats | None, Floats | None]:
    """Values [M] of the statistics on all documents, and the lower and upper ends [M] of their intervals.

    per_document [D, C]: contribution of each document to C sums; statistics: sums [C, ...] -> values [M, ...].  For a
    single document both ends are None: nothing is known about other documents.
    """
    values = statistics(per_document.sum(axis=0))
    documents = len(per_document)
    if documents < 2:
        return values, None, None

    def statistic(drawn: Floats, axis: int) -> Floats:
        return statistics(drawn.sum(axis=axis))

    found = bootstrap(
        (per_document,), statistic, axis=0, n_resamples=DRAWS, confidence_level=LEVEL, method="percentile",
        vectorized=True, batch=max(1, min(DRAWS, MOST_INDICES // documents)), rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return values, found.low, found.high


def ends(low: Floats | None, high: Floats | None, count: int) -> list[tuple[float | None, float | None]]:
    """The ends of `count` intervals as plain numbers, (None, None) for each where there is no interval."""
    if low is None or high is None:
        return [(None, None)] * count
    return [(float(lower), float(upper)) for lower, upper in zip(low, high, strict=True)]
