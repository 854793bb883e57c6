"""Self-hosting against an API: whole replicas that stand day and night, against a price for every token.

    v        requests a day          a    dollars of a request at the API
    R        dollars a day of a replica that stands and waits
    p        dollars of a request's power, beyond waiting (0 for rented chips)
    c        requests a day that a replica may be given: its full rate x utilisation over the day
    n(v)   = max(n_0, ceil(v / c)) replicas;  n_0 are kept whatever comes
    own(v) = n(v) R + p v;   api(v) = a v

Within one number n of replicas, own < api from n R / (a - p) on.  With n = n_0 this is the break-even.  Just beyond it,
where one more replica is needed, the API may be cheaper again: a further replica is paid as soon as it is needed if
(n + 1) R <= (a - p) n c, which holds for good from some n on.  Where a - p <= R / c, the API is cheaper at all volumes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flashstill.economics.prices import HourlyPrice
from flashstill.economics.tco import OwnedChip, Terms, owned_hour, usd_per_watt_hour
from flashstill.errors import BadInput
from flashstill.units import HOURS_PER_DAY, JOULES_PER_KWH, SECONDS_PER_DAY, SECONDS_PER_HOUR


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica:
    """One replica: requests a day at full rate, dollars a day while it stands, and of a request's power beyond that.

    waiting_kwh, request_kwh: at the wall, of a day of waiting and of a request beyond waiting.
    """

    chips: int
    requests_per_day: float
    standing_usd: float
    request_usd: float
    waiting_kwh: float
    request_kwh: float

    def usd(self, requests: float, replicas: int) -> float:
        """Dollars of a day with so many requests on so many replicas."""
        return replicas * self.standing_usd + requests * self.request_usd

    def kwh(self, requests: float, replicas: int) -> float:
        """Energy at the wall of such a day."""
        return replicas * self.waiting_kwh + requests * self.request_kwh


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakEven:
    """Requests a day from which self-hosting is first cheaper, and from which on it stays so; None: never."""

    first: float | None
    always: float | None


def fleet_usd_per_day(chips: float, usd_per_chip_hour: float) -> float:
    """Dollars of a day of so many chips, a mean over the day where they vary."""
    return chips * HOURS_PER_DAY * usd_per_chip_hour


def replica_of(
    chips: int,
    requests_per_s: float,
    watts: float,
    price: HourlyPrice,
    owned: tuple[Terms, OwnedChip] | None,
    idle_w: float,
    wall_ratio: float,
) -> Replica:
    """A replica from its full rate and the watts of a chip at that rate. owned: None for rented chips.

    wall_ratio: joules at the wall per joule of the chips.  The terms' utilisation plays no part: what a replica costs
    while it waits is counted by the hour.  Raises BadInput if no price is known.
    """
    if owned is None:
        if price.usd_per_hour is None:
            raise BadInput(
                f"{price.basis} of an hour of this chip; give one with --set CHIP.usd_per_hour=2, or --facts"
            )
        hour, beyond = price.usd_per_hour, 0.0
    else:
        terms, chip = owned
        hour = float(owned_hour(terms, chip, chip.idle_w).usd)
        beyond = max(watts - idle_w, 0.0) * float(usd_per_watt_hour(terms, chip))
    per_request_h = chips / requests_per_s / SECONDS_PER_HOUR  # chip-hours
    kwh = SECONDS_PER_HOUR / JOULES_PER_KWH * wall_ratio  # of a watt for an hour
    return Replica(
        chips=chips,
        requests_per_day=requests_per_s * SECONDS_PER_DAY,
        standing_usd=fleet_usd_per_day(chips, hour),
        request_usd=beyond * per_request_h,
        waiting_kwh=chips * HOURS_PER_DAY * idle_w * kwh,
        request_kwh=max(watts - idle_w, 0.0) * per_request_h * kwh,
    )


def replicas_for(requests: float, replica: Replica, utilisation_ratio: float, least: int = 1) -> int:
    """Whole replicas for so many requests a day, at a mean load of `utilisation_ratio` of their full rate."""
    return max(least, math.ceil(requests / (replica.requests_per_day * utilisation_ratio) * (1.0 - 1e-12)))


def break_even(replica: Replica, api_usd: float, utilisation_ratio: float, least: int = 1) -> BreakEven:
    """Volumes at which self-hosting beats an API that asks `api_usd` a request."""
    capacity, saved = replica.requests_per_day * utilisation_ratio, api_usd - replica.request_usd
    if saved * capacity <= replica.standing_usd:
        return BreakEven(first=None, always=None)
    first = least * replica.standing_usd / saved  # fits n_0 replicas, as each is paid before it is full
    enough = math.ceil(replica.standing_usd / (saved * capacity - replica.standing_usd) * (1.0 - 1e-12))
    return BreakEven(first=first, always=first if enough <= least else enough * replica.standing_usd / saved)
