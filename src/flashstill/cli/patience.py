"""What a long simulation says while it runs: after a moment how long it will take, then how far it is."""

from __future__ import annotations

from contextlib import ExitStack
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING

from flashstill.console import LINE_EVERY_S, Console, duration
from flashstill.progress import Advance

if TYPE_CHECKING:
    from flashstill.simulate.traffic import Traffic

MOMENT_S, LONG_S = 2.0, 60.0
"""seconds after which something is said, and from which on an estimate is"""


class Patience:
    """Hears how many requests have come. total: how many there will be, if that is known."""

    def __init__(self, total: float | None, console: Console) -> None:
        self._total, self._console, self._stack = total, console, ExitStack()
        self._began_s: float | None = None
        self._said_s, self._told, self._began_at = float("-inf"), 0, 0
        self._advance: Advance | None = None

    def __enter__(self) -> Patience:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, arrived: int) -> None:
        now = monotonic()
        if self._began_s is None:
            self._began_s, self._began_at = now, arrived  # the first call comes when the loop is compiled
        elif self._advance is not None:
            self._advance(arrived - self._told)
        elif arrived > self._began_at and now - self._began_s >= MOMENT_S and now - self._said_s >= LINE_EVERY_S:
            self._said_s = now
            self._say(arrived, (arrived - self._began_at) / (now - self._began_s))
        self._told = arrived

    def _say(self, arrived: int, per_s: float) -> None:
        if self._total is None:
            self._console.say(f"simulation: {arrived:,} requests so far, {per_s:,.0f} a second; Ctrl-C ends it")
            return
        left_s = (self._total - arrived) / per_s
        if left_s >= LONG_S:
            self._console.say(
                f"{self._total:,.0f} requests take about {duration(left_s)} at {per_s:,.0f} a second; Ctrl-C ends it"
            )
        rest = max(self._total - arrived, 1.0)
        self._advance = self._stack.enter_context(self._console.task("simulation", rest, "requests"))


def requests_expected(traffic: Traffic) -> float | None:
    """How many requests traffic has; None where only its end tells."""
    from flashstill.simulate.daily import read_day

    if traffic.trace is not None or traffic.by_clients:
        return None
    if traffic.agents is not None:
        return float(traffic.agents * traffic.turns * traffic.fan_out)
    if traffic.daily is not None:
        day = read_day(traffic.daily, traffic.cv, traffic.rate_scale)
        return float((day.rate * day.width_s).sum())
    return float(traffic.requests)
