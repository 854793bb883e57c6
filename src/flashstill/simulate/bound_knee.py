"""The load at which a percentile of TTFT or TPOT first breaks its bound, by simulation.

The same requests arrive at different rates, in the same order and with gaps in proportion, so that rates differ by
nothing but the load; the rate is found by bisection, as latencies grow with the load.  Its interval follows from that
of the percentile (results.py): from the load at which its upper end breaks the bound to that at which the lower does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from flashstill.errors import BadInput
from flashstill.progress import Progress
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.results import percentile
from flashstill.simulate.saturation import Measured
from flashstill.simulate.simulation import Prepared
from flashstill.simulate.tally import TPOT, TTFT

LEAST, PRECISION = 0.01, 0.005
"""share of the knee at which the search begins; of the knee, to which rates are found"""
VALUE, LOW, HIGH = range(3)
METRICS = {"ttft": TTFT, "tpot": TPOT}


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Seconds that a percentile must keep; infinite without a bound."""

    ttft_s: float
    tpot_s: float
    percentile: float

    @property
    def any(self) -> bool:
        """Whether there is a bound at all."""
        return min(self.ttft_s, self.tpot_s) < math.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundKnee:
    """Requests per second up to which the bounds are kept, and the ends of the interval; 0 if no load keeps them.

    binds: the bound that breaks first: ttft or tpot; or waiting, if both are kept up to the knee.
    """

    percentile: float
    rate: float
    low: float
    high: float
    binds: str

    def times(self, factor: float) -> BoundKnee:
        """The same with other requests counted."""
        return replace(self, rate=factor * self.rate, low=factor * self.low, high=factor * self.high)


def rate_of(requests: Arrivals) -> float:
    """Requests per second, from the first to the last."""
    span = float(requests.arrival_s[-1] - requests.arrival_s[0])
    return (len(requests.arrival_s) - 1) / span if span > 0.0 else math.inf


def bound_knee(
    fleet: Prepared, requests: Arrivals, found: Measured, bounds: Bounds, seed: int, progress: Progress
) -> BoundKnee:
    """The highest rate below the knee (found) that keeps the bounds. requests: in order of arrival, at any rate.

    BadInput if they all arrive at once.
    """
    knee, given, seen = found.value, rate_of(requests), dict[float, dict[str, tuple[float, float, float]]]()
    if given == math.inf:
        raise BadInput("these requests all arrive at once, so that the load at which a bound breaks cannot be found")
    limits = {name: each for name, each in (("ttft", bounds.ttft_s), ("tpot", bounds.tpot_s)) if each < math.inf}
    total = 2 + 3 * math.ceil(math.log2(1.0 / PRECISION))
    with progress.task("bounds", total, "runs at most") as advance:

        def latencies(share: float) -> dict[str, tuple[float, float, float]]:
            """Of each bounded latency at a share of the knee: the percentile, the lower and the upper end."""
            if share not in seen:
                scaled = requests._replace(arrival_s=requests.arrival_s * (given / (share * knee)))
                tally = fleet.serve(iter([scaled]), False, seed).tally
                seen[share] = {
                    name: _ends(*percentile(tally, METRICS[name], bounds.percentile / 100.0))
                    for name in limits
                    if tally.counts[METRICS[name]].any()
                }
                advance(1.0)
            return seen[share]

        def broken(share: float, end: int) -> str:
            return next((name for name, each in latencies(share).items() if each[end] > limits[name]), "")

        value, low, high = (_first(lambda share, end=end: broken(share, end)) for end in (VALUE, HIGH, LOW))  # type: ignore[misc]
        above = min((share for share in seen if share > value and broken(share, VALUE)), default=None)
    if value == 1.0:
        low, high = found.low / knee, found.high / knee
    return BoundKnee(
        percentile=bounds.percentile,
        rate=value * knee,
        low=min(low, value) * knee,
        high=max(high, value) * knee,
        binds="waiting" if above is None else broken(above, VALUE),
    )


def _ends(value: float, low: float | None, high: float | None) -> tuple[float, float, float]:
    """The value and its ends, an open end as far as it can be."""
    return value, 0.0 if low is None else low, math.inf if high is None else high


def _first(broken: Callable[[float], str]) -> float:
    """The share of the knee, from 0 to 1, up to which nothing is broken."""
    if not broken(1.0):
        return 1.0
    if broken(LEAST):
        return 0.0
    low, high = LEAST, 1.0
    while high - low > PRECISION:
        middle = (low + high) / 2.0
        low, high = (low, middle) if broken(middle) else (middle, high)
    return low
