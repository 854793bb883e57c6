"""What the replicas of one role did during a run, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.economics import HourlyPrice, usd_per_million_tokens
from flashstill.plan.resolve import Resolved
from flashstill.simulate.kinds import joules_by_kind, seconds_by_kind
from flashstill.simulate.state import BUSY_S, JOULES, PAID_S, Fleet
from flashstill.simulate.tables import ranks_of
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION


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


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleBill:
    """What a role did, the price of its chips, and the busy seconds and the joules of steps by kind of token."""

    use: RoleUse
    price: HourlyPrice
    seconds: dict[str, float]
    joules: dict[str, float]

    @property
    def paid(self) -> HourlyPrice:
        """The price at the watts that the chips drew."""
        return self.price.at(self.use.joules / max(self.use.chip_s, 1e-12))

    @property
    def usd(self) -> float | None:
        """Dollars of the run; None if no price is known."""
        return usd_per_million_tokens(self.paid, 1.0, self.use.chip_s, TOKENS_PER_MILLION)


def role_bill(resolved: Resolved, fleet: Fleet, replicas: slice, price: HourlyPrice) -> RoleBill:
    """What some replicas of a fleet did and cost; arguments as in `role_use`."""
    return RoleBill(
        use=role_use(resolved, fleet, replicas),
        price=price,
        seconds=seconds_by_kind(fleet, replicas),
        joules=joules_by_kind(fleet, replicas),
    )
