"""Whether a server is saturated: a higher load no longer brings more tokens, or waiting grows while it runs.

    closed loop   output tokens per second (median over runs) rise by less than LEAST_GAIN of what the load rose by
    open loop     seconds to the first token grow from the second to the last quarter of a run (simulate/results.py)
                  or less than LEAST_SERVED of the requests end well

The knee lies between the highest load that was sustained and the lowest that was not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flashstill.load_test.question import Level
from flashstill.load_test.summary import LevelResult

LEAST_GAIN, LEAST_SERVED = 0.1, 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Saturation:
    """Where a server is saturated. sustained, beyond: the loads on both sides, None for a side not measured.

    output_tokens_per_s, requests_per_s: the highest medians that were reached.
    """

    kind: str
    sustained: float | None
    beyond: float
    output_tokens_per_s: float
    requests_per_s: float
    why: str

    @property
    def between(self) -> Level | None:
        """A load between both sides, in the middle of their logarithms; None where there is none."""
        if self.sustained is None or self.kind == "trace":
            return None
        middle = math.sqrt(self.sustained * self.beyond)
        if self.kind == "concurrency":
            middle = float(round(middle))
        return Level(kind=self.kind, value=middle) if self.sustained < middle < self.beyond else None


def saturation(levels: Sequence[LevelResult]) -> Saturation | None:
    """The lowest level beyond saturation, None if there is none so far."""
    before: LevelResult | None = None
    for result in sorted(levels, key=lambda level: level.level.value):
        why = _why(before, result)
        if why:
            best = [each.over_runs[name].median for each in levels for name in ("requests_per_s",) if each.over_runs]
            return Saturation(
                kind=result.level.kind, sustained=None if before is None else before.level.value,
                beyond=result.level.value, output_tokens_per_s=max(each.output_tokens_per_s for each in levels),
                requests_per_s=max(best, default=0.0), why=why,
            )  # fmt: skip
        before = result
    return None


def _why(before: LevelResult | None, result: LevelResult) -> str:
    if result.ok < LEAST_SERVED * result.requests:
        return f"only {result.ok:,} of {result.requests:,} requests ended well"
    if result.level.kind == "agents":  # more of them may think more, and bring no more tokens
        return ""
    if not result.level.is_closed:
        steady = result.steady
        if steady is None or steady.is_steady:
            return ""
        return f"the wait for the first token grows from {steady.before_s:.3g} to {steady.after_s:.3g} s within a run"
    if before is None or result.level.value <= before.level.value or not before.output_tokens_per_s:
        return ""
    gain = result.output_tokens_per_s / before.output_tokens_per_s - 1.0
    load = result.level.value / before.level.value - 1.0
    if gain >= LEAST_GAIN * load:
        return ""
    return f"{load:.0%} more load bring {gain:+.1%} output tokens per second"
