"""Percentiles with intervals, rates, and the check for a steady state, from what was counted (tally.py).

A percentile's 95 % interval is the wider of two: from its order statistics, which are binomial (independent requests),
and from its spread over consecutive parts of the run (batch means, Law and Carson 1979), as neighbours in a queue wait
together.  An end that so few requests cannot determine is None: the 99th percentile of 71 requests is their maximum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flashstill.simulate.state import Counts, Values
from flashstill.simulate.tally import BIN, LEAST_PART, LEAST_S, METRICS, PART_SIZE, REFUSED, WAITING, Tally

PERCENTILES = (50, 90, 95, 99)
NORMAL_95, STUDENT_95 = 1.96, 2.1
"""two-sided 95 % quantiles: of a normal variable, and of Student's t with about 20 degrees of freedom"""
FEWEST_IN_A_PART = 20
FEWEST_PARTS_OF_A_QUARTER = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """A latency over n requests (inter-token gaps: n gaps): mean, and percentile -> (value, low, high) in seconds."""

    n: int
    mean_s: float
    percentiles: dict[int, tuple[float, float | None, float | None]]


def latencies(tally: Tally) -> dict[str, Latency]:
    """All latencies that any request had, by name."""
    found = {}
    for metric, name in enumerate(METRICS):
        counts = tally.counts[metric]
        n = int(counts.sum())
        if n:
            found[name] = Latency(
                n=n,
                mean_s=float(tally.sums[metric].sum() / n),
                percentiles={each: percentile(tally, metric, each / 100.0) for each in PERCENTILES},
            )
    return found


def percentile(tally: Tally, metric: int, share: float) -> tuple[float, float | None, float | None]:
    """A percentile of a latency (tally.METRICS) and the ends of its 95 % interval, in seconds."""
    parts, counts = tally.histograms[metric], tally.counts[metric]
    whole: Counts = parts.sum(axis=0)
    n = int(whole.sum())
    value = _quantile(whole, share)
    reach = NORMAL_95 * math.sqrt(share * (1.0 - share) / n)
    low = _quantile(whole, share - reach) if share - reach > 0.0 else None
    high = _quantile(whole, share + reach) if share + reach < 1.0 else None
    used = [part for part, count in zip(parts, counts, strict=True) if count >= FEWEST_IN_A_PART]
    if len(used) >= 8:
        each = np.array([_quantile(part, share) for part in used])
        width = STUDENT_95 * float(each.std(ddof=1)) / math.sqrt(len(used))
        low = None if low is None else max(min(low, value - width), 0.0)
        high = None if high is None else max(high, value + width)
    return value, low, high


def value_at(tally: Tally, metric: int, share: float) -> float:
    """Seconds of a latency (tally.METRICS) that `share` of those who come keep: infinite if too many are refused."""
    histogram = tally.histograms[metric].sum(axis=0)
    n, refused = int(histogram.sum()), int(tally.totals[REFUSED])
    rank = share if refused == 0 or n == 0 else share * (n + refused) / n
    if n == 0:
        return math.inf if refused else 0.0
    return math.inf if rank > 1.0 else _quantile(histogram, rank)


def _quantile(histogram: Counts, share: float) -> float:
    """Value below which `share` of a histogram lies, interpolated within its bin."""
    passed = np.cumsum(histogram)
    rank = share * float(passed[-1])
    at = int(np.searchsorted(passed, max(rank, 1e-9)))
    before = float(passed[at - 1]) if at else 0.0
    inside = (rank - before) / float(histogram[at])
    return 0.0 if at == 0 else LEAST_S * math.exp(BIN * (at - 1 + min(max(inside, 0.0), 1.0)))


def between_values(histogram: Counts, share: float) -> float:
    """The percentile that a load test gives of the values themselves: between the two in order that are nearest to it
    (numpy.quantile), each in the middle of its bin. Of two kinds of requests, as many of each, the median is half way;
    `_quantile` is the longest of the shorter kind then."""
    passed = np.cumsum(histogram)
    at = share * (float(passed[-1]) - 1.0)
    bins = np.searchsorted(passed, [math.floor(at), math.ceil(at)], side="right")
    low, high = (LEAST_S * math.exp(BIN * (each - 0.5)) if each else 0.0 for each in bins.tolist())
    return low + (high - low) * (at - math.floor(at))


@dataclass(frozen=True, kw_only=True, slots=True)
class Steadiness:
    """Whether waiting grows over the run: mean seconds of waiting in its second and in its last quarter, and their
    standard errors; `is_steady` is False if the last is larger by a quarter and by more than three of them."""

    before_s: float
    after_s: float
    error_s: float

    @property
    def is_steady(self) -> bool:
        """No sign of a backlog that grows without bound."""
        return self.after_s - self.before_s <= max(0.25 * self.before_s, 3.0 * self.error_s, 1e-3)


def steadiness(tally: Tally) -> Steadiness | None:
    """None for a run of too few requests to tell. Parts that are too small at first are taken two by two."""
    counts, sums = tally.counts[WAITING], tally.sums[WAITING]
    if tally.totals[PART_SIZE] < FEWEST_IN_A_PART:
        counts, sums = counts.reshape(-1, 2).sum(axis=1), sums.reshape(-1, 2).sum(axis=1)
    used = counts >= FEWEST_IN_A_PART
    means: Values = sums[used] / counts[used]
    quarter = len(means) // 4
    if quarter < FEWEST_PARTS_OF_A_QUARTER:
        return None
    second, last = means[quarter : 2 * quarter], means[-quarter:]
    error = math.sqrt((float(second.var(ddof=1)) + float(last.var(ddof=1))) / quarter)
    return Steadiness(before_s=float(second.mean()), after_s=float(last.mean()), error_s=error)


def too_few_to_tell(requests: int) -> tuple[str, ...]:
    """A note where so many requests are too few for `steadiness`."""
    enough = 4 * FEWEST_PARTS_OF_A_QUARTER * 2 * LEAST_PART
    if requests >= enough:
        return ()
    return (f"{requests:,} requests are too few to tell whether waiting grows over the run; {enough:,} would do",)
