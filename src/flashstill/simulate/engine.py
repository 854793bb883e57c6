"""Run requests through replicas: blocks of arrivals in, counts out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flashstill.simulate.deciding import check_all_served, decide
from flashstill.simulate.loop import ASK, MORE, ROOM, Arrivals, advance
from flashstill.simulate.state import STARTS, Fleet, Limits, larger, new_fleet, new_pool
from flashstill.simulate.tables import StepTables
from flashstill.simulate.tally import Tally, new_tally
from flashstill.simulate.view import Scheduler

PLACES = 4096
"""room for requests in flight at first; it doubles as often as needed"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What happened: counts, replicas at the end, and the time of the last event in seconds."""

    tally: Tally
    fleet: Fleet
    end_s: float


def run(
    tables: StepTables,
    limits: Limits,
    blocks: Iterable[Arrivals],
    replicas: int = 1,
    closed: bool = False,
    seed: int = 0,
    moment_s: float = 0.1,
    scheduler: Scheduler | None = None,
) -> Outcome:
    """Simulate all requests, until the last one is finished. blocks: arrivals in order, piece by piece.

    scheduler: the user's, asked before every step where limits.asks.  BadInput for a mistake of it.
    """
    fleet, pool, tally = new_fleet(replicas, limits, seed), new_pool(PLACES), new_tally(moment_s)
    pieces = iter(blocks)
    piece, following = next(pieces, _empty()), next(pieces, None)
    position = 0
    while True:
        why, position = advance(fleet, pool, tables, limits, tally, piece, position, following is None, closed)
        if why == ROOM:
            pool = larger(pool)
        elif why == MORE:
            assert following is not None
            piece, following, position = following, next(pieces, None), 0
        elif why == ASK:
            assert scheduler is not None
            decide(fleet, pool, tables, limits, tally, scheduler, closed)
        else:
            break
    if scheduler is not None:
        check_all_served(tally, scheduler)
    return Outcome(tally=tally, fleet=fleet, end_s=float(np.max(fleet.clock[:, STARTS])))


def _empty() -> Arrivals:
    none = np.zeros(0, dtype=np.int64)
    return Arrivals(np.zeros(0), none, none, none)
