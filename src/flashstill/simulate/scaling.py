"""The number of replicas over time: by a schedule, or by an autoscaler.

An autoscaler looks at all replicas every `interval_s` and asks for

    units = ceil(sum over replicas of what it looks at / (target x replicas of a unit))

as the Horizontal Pod Autoscaler of Kubernetes does: not within a tolerance of the target, at once upwards, and
downwards to the most that was asked for while fewer were enough.  Of two pools, the one that needs more units decides.
"""

from __future__ import annotations

import math

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.outages import start
from flashstill.simulate.settings import Settings
from flashstill.simulate.state import (
    AT_ROW,
    DOWN,
    DRAINING,
    ENTRIES,
    LINE_LENGTH,
    LOWER_S,
    NONE,
    OFF,
    PEAK,
    STARTING,
    UNITS,
    UP,
    Fleet,
)
from flashstill.simulate.status import become, drain
from flashstill.simulate.tally import IN_SYSTEM, Tally


def look(fleet: Fleet, settings: Settings, tally: Tally, now: float) -> None:
    """The time has come to look at the number of replicas."""
    scaling, last = settings.scaling, len(fleet.ends) - 1
    if scaling.interval_s > 0.0:
        units = asked_units(fleet, settings, tally.area[IN_SYSTEM] > 0.0, now)
        fleet.ends[last] = now + scaling.interval_s
    else:
        row = int(fleet.scaling[AT_ROW]) + 1
        fleet.scaling[AT_ROW], units = row, scaling.units[row]
        fleet.ends[last] = scaling.starts_s[row + 1] if row + 1 < len(scaling.starts_s) else np.inf
    fleet.scaling[UNITS] = units
    resize(fleet, settings, tally, 0, settings.prefills, units * scaling.prefills, now)
    resize(fleet, settings, tally, settings.prefills, len(fleet.counts), units * scaling.decodes, now)


def asked_units(fleet: Fleet, settings: Settings, works: bool, now: float) -> int:
    """Units that an autoscaler asks for. works: there are requests, so that one unit is the least."""
    scaling, units = settings.scaling, int(fleet.scaling[UNITS])
    needed = needed_units(fleet, settings, settings.prefills, len(fleet.counts), scaling.decodes, now)
    if settings.prefills:
        needed = max(needed, needed_units(fleet, settings, 0, settings.prefills, scaling.prefills, now))
    asked = units if abs(needed - units) <= scaling.tolerance * units else math.ceil(needed)
    asked = min(max(asked, scaling.least, 1 if works else 0), scaling.most)
    if asked >= units:
        fleet.scaling[LOWER_S] = np.inf
        return asked
    if fleet.scaling[LOWER_S] == np.inf:
        fleet.scaling[LOWER_S], fleet.scaling[PEAK] = now, asked
    fleet.scaling[PEAK] = max(fleet.scaling[PEAK], float(asked))
    if now - fleet.scaling[LOWER_S] < scaling.patience_s:
        return units
    fleet.scaling[LOWER_S] = np.inf
    return int(fleet.scaling[PEAK])


def needed_units(fleet: Fleet, settings: Settings, first: int, end: int, each: int, now: float) -> float:
    """Units with which replicas [first, end), `each` of a unit, would be at the target."""
    scaling, total = settings.scaling, 0.0
    blocks = settings.prefill_limits.blocks if first < settings.prefills else settings.limits.blocks
    for r in range(first, end):
        if scaling.metric == 0:
            total += fleet.counts[r, field.OWED]
        elif scaling.metric == 1:
            busy = fleet.clock[r, field.BUSY_S]
            busy += now - fleet.clock[r, field.STARTS] if fleet.ends[r] < np.inf else 0.0
            total += (busy - fleet.clock[r, field.SEEN_S]) / scaling.interval_s
            fleet.clock[r, field.SEEN_S] = busy
        else:
            total += 1.0 - fleet.counts[r, field.FREE] / blocks
    if first == 0 and fleet.router[ENTRIES] <= end:
        total += fleet.router[LINE_LENGTH] if scaling.metric == 0 else 0.0
    return total / (scaling.target * each)


def resize(fleet: Fleet, settings: Settings, tally: Tally, first: int, end: int, wanted: int, now: float) -> None:
    """Start or drain replicas of [first, end) until `wanted` of them serve, start or are in repair."""
    active = 0
    for r in range(first, end):
        active += fleet.counts[r, field.STATUS] in (UP, STARTING, DOWN)
    while active < wanted:
        r = first_of(fleet, first, end, DRAINING)
        if r != NONE:
            become(fleet, tally, r, UP, now, fleet.ends[len(fleet.counts) + len(fleet.links) + r])
        else:
            start(fleet, tally, settings, first_of(fleet, first, end, OFF), now)
        active += 1
    while active > wanted:
        r = last_of(fleet, first, end, DOWN)
        if r == NONE:
            r = last_of(fleet, first, end, STARTING)
        if r == NONE:
            drain(fleet, tally, last_of(fleet, first, end, UP), now)
        else:
            become(fleet, tally, r, OFF, now, np.inf)
        active -= 1


def first_of(fleet: Fleet, first: int, end: int, status: int) -> int:
    """The first replica of [first, end) with a status; NONE without any."""
    for r in range(first, end):
        if fleet.counts[r, field.STATUS] == status:
            return r
    return NONE


def last_of(fleet: Fleet, first: int, end: int, status: int) -> int:
    """The last replica of [first, end) with a status; NONE without any."""
    for r in range(end - 1, first - 1, -1):
        if fleet.counts[r, field.STATUS] == status:
            return r
    return NONE
