"""Run requests through replicas: blocks of arrivals in, counts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.course import STEADY, Course, PrefillPool, is_on, set_up
from flashstill.simulate.deciding import check_all_served, decide
from flashstill.simulate.feeding import Feed, no_arrivals, part_of_arrivals
from flashstill.simulate.followers import Followers
from flashstill.simulate.loop import ASK, CHANGE, MORE, OVER, ROOM, advance, keys_of
from flashstill.simulate.outages import begin, change, give_up_rest
from flashstill.simulate.prefix import with_larger_tables
from flashstill.simulate.scaling import look
from flashstill.simulate.selection import joined
from flashstill.simulate.settings import Settings
from flashstill.simulate.state import (
    FOLLOWED,
    LINE_LENGTH,
    NOW_S,
    NUMBER,
    OFF,
    SINCE_S,
    STARTS,
    STATUS,
    Fleet,
    Limits,
    Pool,
    larger,
    new_pool,
    with_room_for_keys,
)
from flashstill.simulate.status import settle
from flashstill.simulate.tables import StepTables
from flashstill.simulate.tally import ARRIVED, IN_SYSTEM, Tally, new_tally
from flashstill.simulate.view import Scheduler

Told = Callable[[int], object]
PLACES = 4096
"""room for requests in flight at first; it doubles as often as needed"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What happened: counts, replicas at the end (the first `prefills` of them only prefill), and the time of the last
    event in seconds."""

    tally: Tally
    fleet: Fleet
    end_s: float
    prefills: int = 0


def run(
    tables: StepTables,
    limits: Limits,
    blocks: Iterable[Arrivals],
    replicas: int = 1,
    closed: bool = False,
    seed: int = 0,
    moment_s: float = 0.1,
    scheduler: Scheduler | None = None,
    prefill: PrefillPool | None = None,
    course: Course = STEADY,
    followers: Followers | None = None,
    is_brief: bool = False,
    told: Told = lambda arrived: None,
) -> Outcome:
    """Simulate all requests, until the last one is finished. blocks: arrivals in order, piece by piece.

    replicas: of one unit, where the course scales units.  prefill: a pool that prefills for the replicas.
    followers: requests that come only after others, in place of blocks.  is_brief: only what `new_tally` then counts.
    told: hears again and again how many requests have come.
    scheduler: the user's, asked before every step where limits.asks.
    BadInput for a mistake of it.
    """
    fleet, settings = set_up(tables, limits._replace(follows=followers is not None), replicas, prefill, course, seed)
    pool, tally = new_pool(PLACES), new_tally(moment_s, is_brief)
    _begin(fleet, settings, tally, course)
    feed = Feed(blocks, closed, whole=closed and limits.return_s == 0.0)
    piece = feed.next()
    position, given_up = 0, -1
    if closed:
        fleet.router[FOLLOWED] = int(np.count_nonzero(np.isfinite(piece.arrival_s)))
    while True:
        is_last = feed.is_last if followers is None else followers.is_last
        why, position = advance(fleet, pool, settings, tally, piece, position, is_last, closed, given_up)
        given_up = -1
        told(int(tally.totals[ARRIVED]))
        if why == ROOM:
            keys = keys_of(settings.prefill_limits, piece, position)[1]
            if pool.spares[0] == 0:
                pool = larger(pool)
            elif pool.keyed[0] + keys > len(pool.keys):
                pool = with_room_for_keys(pool, keys)
            else:
                fleet = with_larger_tables(fleet)
        elif why == MORE and followers is not None:
            piece, position = followers.due(int(tally.totals[ARRIVED])), 0
        elif why == MORE and closed:
            fleet.router[FOLLOWED] = max(int(fleet.router[FOLLOWED]) - position, 0)
            rest = part_of_arrivals(piece, position, len(piece.arrival_s))
            piece, position = joined([rest, feed.next()]), 0
        elif why == MORE:
            piece, position = feed.next(), 0
        elif why == ASK:
            assert scheduler is not None
            decide(fleet, pool, settings, tally, scheduler, closed)
        elif why == CHANGE and is_last and not _goes_on(fleet, settings, piece, position):
            break
        elif why == CHANGE:
            given_up = _change(fleet, pool, settings, tally)
        elif why == OVER:
            break
        if followers is not None and pool.spares[0] > pool.spares[1]:
            left = pool.spare[pool.spares[1] : pool.spares[0]]
            pool.spares[1] = pool.spares[0]
            if followers.leave(pool.counts[left, NUMBER].tolist(), float(tally.area[1]), piece, position):
                piece, position = no_arrivals(), 0
    if scheduler is not None:
        check_all_served(fleet, tally, scheduler, course is STEADY)
    end_s = float(max(np.max(fleet.clock[:, STARTS]), np.max(fleet.clock[:, SINCE_S]), tally.area[1]))
    for r in range(len(fleet.counts)):
        settle(fleet, tally, r, end_s)
    if tally.area[IN_SYSTEM]:
        give_up_rest(fleet, pool, settings, tally, end_s)
    return Outcome(tally=tally, fleet=fleet, end_s=end_s, prefills=settings.prefills)


def _goes_on(fleet: Fleet, settings: Settings, piece: Arrivals, position: int) -> bool:
    """Whether anything can happen beside the next look of an autoscaler: it alone would look for ever."""
    comes = position < len(piece.arrival_s) and piece.arrival_s[position] < np.inf
    others = bool((fleet.ends[:-1] < np.inf).any()) or fleet.router[LINE_LENGTH] > 0
    return comes or others or settings.scaling.interval_s == 0.0


def _change(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally) -> int:
    """Carry out the next change of replicas; returns the number of requests given up."""
    event = int(np.argmin(fleet.ends))
    fleet.scaling[NOW_S] = now = float(fleet.ends[event])
    r = event - len(fleet.counts) - len(fleet.links)
    if r < len(fleet.counts):
        return change(fleet, pool, settings, tally, r, now)
    look(fleet, settings, tally, now)
    return 0


def _begin(fleet: Fleet, settings: Settings, tally: Tally, course: Course) -> None:
    """Switch on the first replicas, and set the times of the first changes."""
    if course is STEADY:
        return
    for r in range(len(fleet.counts)):
        if is_on(settings, course.first_units, r):
            begin(fleet, tally, settings, r, 0.0)
        else:
            fleet.counts[r, STATUS] = OFF
    if course.autoscaler is not None:
        fleet.ends[-1] = course.autoscaler.interval_s
    elif len(course.schedule) > 1:
        fleet.ends[-1] = course.schedule[1][0]
