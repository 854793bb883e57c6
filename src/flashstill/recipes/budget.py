"""The [budget] of a distill.toml: limits on the cost of training a student, and on its memory and latency."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flashstill.recipes.ranges import Bound, Context
from flashstill.units import SECONDS_PER_HOUR

KINDS = ("depth", "width")


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetRecipe:
    """Limits; 0 means no limit.

    minutes: of signals and training, or usd at usd_per_hour; memory_gb: the student's weights as served; latency_ms:
    per token decoded on this machine at batch 1 after `context` tokens.
    """

    minutes: Bound = 0.0
    usd: Bound = 0.0
    usd_per_hour: Bound = 0.0
    memory_gb: Bound = 0.0
    latency_ms: Bound = 0.0
    context: Context = 256

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return any((self.minutes, self.usd, self.memory_gb, self.latency_ms))

    @property
    def seconds(self) -> float:
        """The smaller of the limits from minutes and dollars, in seconds; infinite if neither is given."""
        allowed = [self.minutes * 60.0] if self.minutes else []
        if self.usd:
            allowed.append(self.usd / self.usd_per_hour * SECONDS_PER_HOUR)
        return min(allowed, default=float("inf"))


def problems(budget: BudgetRecipe, student: str, is_served: bool) -> Iterator[str]:
    """Errors in the budget, as sentences. student: its kind; is_served: whether a teacher is behind a server."""
    if budget.usd and not budget.usd_per_hour:
        yield "budget.usd needs budget.usd_per_hour, the price of this machine"
    if not budget.is_set:
        if budget != BudgetRecipe():
            yield "budget sets no bound; give minutes, usd, memory_gb or latency_ms"
        return
    if student not in KINDS:
        yield f"a budget chooses among students of kind {' or '.join(KINDS)}, not {student}"
    if is_served:
        yield "a budget measures how fast the teacher is on this machine, and it is behind a server; leave it out"
