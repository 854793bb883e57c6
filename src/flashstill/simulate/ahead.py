"""Engines that schedule one step ahead: what the next step does is settled while the one before it runs.

A request that comes while a step runs then misses the step after it as well: at the end of a step, only those are seen
that had come when that step began.  Where nothing runs, there is no step ahead of which to schedule, and a request
starts at once.  (vLLM's async_scheduling, SGLang's overlap schedule, TensorRT-LLM's overlap scheduler.)
"""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.state import Fleet, Limits, Pool, Values
from flashstill.simulate.times import Pair, decode_sum


@compiled
def seen_until(fleet: Fleet, limits: Limits, r: int) -> float:
    """Until when requests must have come that a replica sees at the end of its step; infinite if it sees all."""
    running = fleet.counts[r, field.DECODING] + fleet.counts[r, field.FILLING]
    if limits.ahead == 0 or running == 0 or fleet.ends[r] == np.inf:
        return np.inf
    return float(fleet.clock[r, field.BEGUN_S])


@compiled
def is_unseen(fleet: Fleet, pool: Pool, r: int, seen_s: float) -> bool:
    """Whether a request is in front of the line that came too late to be seen; all behind it came later still, as a
    line is in the order in which requests came, but for those in front that have long been seen."""
    return bool(
        seen_s < np.inf
        and fleet.counts[r, field.QUEUED] > 0
        and pool.clock[fleet.counts[r, field.HEAD], field.HELD_S] > seen_s
    )


@compiled
def last_begins(
    limits: Limits, contexts: Values | Pair, row: Values | Pair, mean: float, steps: int, now: float
) -> float:
    """When the last of some decode steps in a row begins; only where steps are scheduled ahead, else their begin."""
    if limits.ahead == 0 or steps < 2:
        return now
    return now + decode_sum(contexts, row, mean, steps - 1)
