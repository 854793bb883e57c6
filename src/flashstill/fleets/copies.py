"""What a fleet is made of: replicas of a deployment, and prefill instances beside them where they only decode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from flashstill.plan.deployment import Deployment
from flashstill.simulate.apart import joined
from flashstill.simulate.capacity import Capacity
from flashstill.simulate.simulation import Prepared
from flashstill.simulate.state import Limits


class Copies(NamedTuple):
    """Replicas of a deployment, and prefill instances beside them where they only decode."""

    replicas: int
    prefills: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefill:
    """Prefill instances for replicas that only decode. prepared: one instance as a fleet of its own; limits: as it
    prefills; requests_per_s: that one can prefill at best; chips_joined: most chips of a fleet with links between."""

    prepared: Prepared
    limits: Limits
    requests_per_s: float
    usd_per_hour: float
    chips_joined: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A deployment that may be replicated. capacity: of one replica; usd_per_hour: of one replica.

    prefill: where replicas only decode, the instances that prefill for them.
    """

    key: tuple[int, ...]
    prepared: Prepared
    capacity: Capacity
    usd_per_hour: float
    prefill: Prefill | None = None

    def usd_of(self, copies: Copies) -> float:
        """Dollars per hour of so many."""
        return copies.replicas * self.usd_per_hour + copies.prefills * (
            self.prefill.usd_per_hour if self.prefill else 0.0
        )

    def fleet(self, copies: Copies) -> Prepared:
        """So many, ready for requests."""
        one, other = self.prepared, self.prefill
        fleet = replace(one, replicas=copies.replicas * one.replicas)
        if other is None:
            return fleet
        return replace(
            fleet,
            apart=joined(
                other.prepared.resolved, one.resolved, other.prepared.tables, other.limits,
                copies.prefills * other.prepared.replicas, self.chips_of(copies), one.tables.contexts,
            ),
        )  # fmt: skip

    def chips_of(self, copies: Copies) -> int:
        """Chips of so many."""
        each = self.deployment.chips
        assert each is not None, "filled in when the layout was resolved"
        return copies.replicas * each + copies.prefills * (self.prefill.prepared.resolved.chips if self.prefill else 0)

    @property
    def deployment(self) -> Deployment:
        """One replica, with the layout of the prefill instances if there are any on the same kind of chip."""
        used = self.prepared.resolved.deployment
        if self.prefill is None or self.prefill_deployment is not None:
            return used
        return used.with_prefill(self.prefill.prepared.resolved.deployment)

    @property
    def prefill_deployment(self) -> Deployment | None:
        """One prefill instance that is on another kind of chip; None where there is none."""
        other = self.prefill.prepared.resolved.deployment if self.prefill else None
        return other if other is not None and other.chip != self.prepared.resolved.deployment.chip else None

    @property
    def name(self) -> str:
        """Chips and degrees, for people: 4 x h100-sxm (tp4)."""
        if self.prefill is None:
            return layout_name(self.deployment)
        prefill = layout_name(self.prefill.prepared.resolved.deployment)
        return f"{layout_name(self.prepared.resolved.deployment)}, prefill on {prefill}"


def layout_name(used: Deployment) -> str:
    """Chips and degrees of one replica, for people: 4 x h100-sxm (tp4)."""
    degrees = [f"{each}{getattr(used, each)}" for each in ("tp", "pp", "ep", "dp") if (getattr(used, each) or 1) > 1]
    return f"{used.chips} x {used.chip}" + (f" ({' '.join(degrees)})" if degrees else "")
