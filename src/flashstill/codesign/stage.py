"""What one stage of a cascade costs a question, on machines that stand there for the traffic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flashstill.codesign.rent import Rent, question_joules, question_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """Questions a second, the greatest share of its rate at which a stage is loaded, and the fewest replicas."""

    per_s: float
    load_ratio: float
    replicas: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCost:
    """One stage. seconds: of a question, waiting included.  joules: at the wall, idle time included.

    group_chips: chips of one replica, which holds all that the stage needs.  together: questions served at a time.
    busy: share of the time in which the chips work.  bytes: kept in memory by all replicas, weights apart.
    """

    name: str
    kind: str
    chip: str
    model: str
    tier: str
    items_in: float
    items_out: float
    tokens: float
    recall: float
    seconds: float
    joules: float
    usd: float
    replicas: int
    group_chips: int
    together: float
    busy: float
    bytes: float
    bound: str

    @property
    def chips(self) -> int:
        """Chips of all replicas."""
        return self.replicas * self.group_chips

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        names = (
            "name", "kind", "chip", "model", "tier", "items_in", "items_out", "tokens", "recall", "seconds", "joules",
            "usd", "chips", "replicas", "group_chips", "together", "busy", "bytes", "bound",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


def paid(rent: Rent, chips: float, traffic: Traffic, joules: float, busy: float) -> tuple[float, float]:
    """(joules at the wall, dollars) of a question whose work takes `joules` of the chips."""
    whole = float(question_joules(rent, chips, traffic.per_s, joules, busy))
    return whole * rent.wall_ratio, float(question_usd(rent, chips, traffic.per_s, whole))
