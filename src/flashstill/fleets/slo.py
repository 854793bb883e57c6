"""Latency bounds as text: "ttft_p95<0.5,tpot_p95<30ms".

bounds      bound [, bound ...]
bound       metric _p percentile < time       ttft_p95<500ms    end_to_end_p99.9<20
metric      ttft, tpot, inter_token, end_to_end
time        seconds, or with a unit: 500ms
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flashstill.errors import BadInput, nearest, shortened
from flashstill.simulate.tally import END_TO_END, GAP, TPOT, TTFT
from flashstill.units import parse_amount

METRICS = {"ttft": TTFT, "tpot": TPOT, "inter_token": GAP, "end_to_end": END_TO_END}
LEAST_PERCENTILE, MOST_PERCENTILE, LONGEST_S = 1.0, 99.999, 1e7
NINES = (50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
EXAMPLE = "ttft_p95<0.5,tpot_p95<30ms"
_NAME = re.compile(r"([a-z_]+?)_?(?:p(\d{1,3}(?:\.\d{1,6})?))?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """`percentile` percent of the requests (inter_token: of the gaps) stay below `seconds`."""

    metric: str
    percentile: float
    seconds: float

    @property
    def name(self) -> str:
        """As written in a bound: ttft_p95."""
        return f"{self.metric}_p{self.percentile:g}"

    @property
    def text(self) -> str:
        """The bound as text: ttft_p95<0.5."""
        return f"{self.name}<{self.seconds:.6g}"

    @property
    def share(self) -> float:
        """The percentile as a share."""
        return self.percentile / 100.0

    def halved(self) -> Bound:
        """Half the seconds at the same percentile."""
        return replace(self, seconds=self.seconds / 2.0)

    def one_more_nine(self) -> Bound:
        """The same seconds for the next of the percentiles 50, 90, 99, 99.9, ...; the last stays."""
        return replace(self, percentile=next((each for each in NINES if each > self.percentile), self.percentile))


def parse_slo(text: str) -> tuple[Bound, ...]:
    """The bounds of a text. BadInput says what is wrong with which bound, and the nearest valid choice."""
    bounds = tuple(_bound(part.strip()) for part in text.split(",") if part.strip())
    if not bounds:
        raise BadInput(f"the bounds are empty; write them as {EXAMPLE}")
    names = [bound.name for bound in bounds]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{name} is bounded twice; give it one bound")
    return bounds


def _bound(text: str) -> Bound:
    left, sign, right = (part.strip() for part in text.lower().replace("<=", "<").partition("<"))
    if not sign:
        raise BadInput(f"{shortened(text)!r} is no bound; write it as {_guess(left)}<0.5")
    match = _NAME.fullmatch(left)
    metric, percentile = (match[1], match[2]) if match else (left, None)
    if metric not in METRICS:
        raise BadInput(
            f"unknown metric {shortened(metric)!r} in {shortened(text)!r}; the nearest known:"
            f" {', '.join(nearest(metric, METRICS))}"
        )
    if percentile is None:
        raise BadInput(f"{shortened(text)!r} names no percentile; write it as {metric}_p95<{right or '0.5'}")
    value = float(percentile)
    if not LEAST_PERCENTILE <= value <= MOST_PERCENTILE:
        close = f"p99.{percentile[2:]}" if percentile.startswith("99") and len(percentile) == 3 else "p99"
        raise BadInput(
            f"p{percentile} in {shortened(text)!r} is no percentile from {LEAST_PERCENTILE:g} to {MOST_PERCENTILE:g};"
            f" is it {close}?"
        )
    seconds = parse_amount(right, "s")
    if seconds is None or not 0.0 < seconds <= LONGEST_S:
        raise BadInput(
            f"{shortened(right)!r} in {shortened(text)!r} is no time above 0 and up to {LONGEST_S:g} s; write it as 0.5"
            " or 500ms"
        )
    return Bound(metric=metric, percentile=value, seconds=seconds)


def _guess(left: str) -> str:
    """The nearest name of a bound to what stands left of its sign."""
    metric = next((name for name in METRICS if left.startswith(name)), None) or nearest(left, METRICS, 1)[0]
    return f"{metric}_p95"


def tightest(bounds: Sequence[Bound], metric: str) -> float | None:
    """The fewest seconds that any bound allows for a metric; None without a bound."""
    return min((bound.seconds for bound in bounds if bound.metric == metric), default=None)
