"""What the replicas of one role did during a run."""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.plan.resolve import Resolved
from flashstill.simulate.state import BUSY_S, JOULES, PAID_S, Fleet
from flashstill.simulate.tables import ranks_of
from flashstill.units import SECONDS_PER_HOUR


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleUse:
    """Replicas of a role. replicas: as many as there were places for; ranks of attention that share
    experts count one by one.  chips: of one.  replica_hours: paid for, cold
    starts included.  utilisation: busy share of these.  joules: of the chips, idle ones included."""

    replicas: int
    chips: int
    replica_hours: float
    utilisation: float
    joules: float

    @property
    def chip_s(self) -> float:
        """Chip-seconds paid for."""
        return self.replica_hours * SECONDS_PER_HOUR * self.chips


def role_use(resolved: Resolved, fleet: Fleet, replicas: slice) -> RoleUse:
    """What some replicas of a fleet did. resolved: one of them, or the ranks of attention that step together."""
    clock, chips = fleet.clock[replicas], resolved.chips // ranks_of(resolved)
    busy, paid = float(clock[:, BUSY_S].sum()), float(clock[:, PAID_S].sum())
    return RoleUse(
        replicas=len(clock),
        chips=chips,
        replica_hours=paid / SECONDS_PER_HOUR,
        utilisation=busy / paid if paid else 0.0,
        joules=float(clock[:, JOULES].sum()) + resolved.chip.idle_w * chips * (paid - busy),
    )
