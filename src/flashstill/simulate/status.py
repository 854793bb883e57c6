"""The status of a replica over time: when it is paid for, when it serves, and when it is switched off."""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.state import DRAINING, OFF, STARTING, UP, Fleet
from flashstill.simulate.tally import PAID, SERVING, Tally, draw_line


@compiled
def settle(fleet: Fleet, tally: Tally, r: int, now: float) -> None:
    """Count the time since a replica's status began."""
    status, since = fleet.counts[r, field.STATUS], fleet.clock[r, field.SINCE_S]
    if status in (UP, DRAINING, STARTING):
        fleet.clock[r, field.PAID_S] += now - since
        draw_line(tally, PAID, since, now, 1.0)
    if status in (UP, DRAINING):
        draw_line(tally, SERVING, since, now, 1.0)
    fleet.clock[r, field.SINCE_S] = now


@compiled
def become(fleet: Fleet, tally: Tally, r: int, status: int, now: float, until: float) -> None:
    """Change a replica's status; it ends by itself at `until`."""
    settle(fleet, tally, r, now)
    fleet.counts[r, field.STATUS] = status
    fleet.ends[len(fleet.counts) + len(fleet.links) + r] = until


@compiled
def drain(fleet: Fleet, tally: Tally, r: int, now: float) -> None:
    """A replica gets no further requests; it is switched off when it has none left."""
    if fleet.counts[r, field.OWED] == 0:
        become(fleet, tally, r, OFF, now, np.inf)
    elif fleet.counts[r, field.STATUS] != DRAINING:
        become(fleet, tally, r, DRAINING, now, fleet.ends[len(fleet.counts) + len(fleet.links) + r])
