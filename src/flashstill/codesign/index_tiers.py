"""In which tier an index is kept: chips that hold it, chips that the traffic needs, and when the faster tier is free.

    holds   chips whose tier holds the index once:  S = ceil(bytes / B)
    needs   chips that answer the traffic within the bound on seconds: shards x replicas (scanning.py)
    free    the traffic from which a slower tier needs as many chips as hold the index in a faster one

In 2001 a web index on disks took 60 shards, and its traffic 20 replicas of them; those 1,200 machines had the memory
to hold the index once.  With each question looked up alone, that is so from as many replicas on as

    R  =  B_slow / B_fast        the bytes of a machine's slower tier over those of its faster one
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flashstill.codesign.scanning import Scan, fewest_shards, scan_cost
from flashstill.codesign.stage import StageCost, Traffic
from flashstill.codesign.tiers import Store
from flashstill.errors import InfeasiblePlan

SLOWEST, QUICKEST = 1e-3, 1e9
"""questions a second between which the traffic is looked for"""
PRECISE = 1e-4
"""relative width at which that traffic is found"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TierOfIndex:
    """The index in one tier. holds: chips that hold it once.  The other figures at the plan's traffic, None: too slow.

    free_from_per_s: questions a second from which the next slower tier that is built needs as many chips as hold the
    index in this one; None for the slowest tier, or if it never does.  replicas_for_free: the slower tier's bytes over
    this one's.
    """

    tier: str
    holds: int
    chips: int | None
    replicas: int | None
    seconds: float | None
    joules: float | None
    usd: float | None
    together: float | None
    free_from_per_s: float | None
    replicas_for_free: float | None
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def index_tiers(scan: Scan, stores: Sequence[Store], items: float, kept: float, traffic: Traffic) -> list[TierOfIndex]:
    """The index of a scan in each of `stores`, the fastest first."""
    scans = [replace(scan, store=store) for store in stores]
    found = []
    for place, one in enumerate(scans):
        slower = next((each for each in scans[place + 1 :] if not each.store.note), None)  # of those that exist
        cost, holds = _cost(one, items, kept, traffic), fewest_shards(one, items)
        found.append(
            TierOfIndex(
                tier=one.store.name,
                holds=holds,
                chips=None if cost is None else cost.chips,
                replicas=None if cost is None else cost.replicas,
                seconds=None if cost is None else cost.seconds,
                joules=None if cost is None else cost.joules,
                usd=None if cost is None else cost.usd,
                together=None if cost is None else cost.together,
                free_from_per_s=None if slower is None else free_from(slower, holds, items, kept, traffic),
                replicas_for_free=None
                if slower is None
                else slower.store.memory.visible_bytes / one.store.memory.visible_bytes,
                note=one.store.note,
            )
        )
    return found


def free_from(slower: Scan, holds: int, items: float, kept: float, traffic: Traffic) -> float | None:
    """Questions a second from which the slower tier needs at least `holds` chips; None if it never does."""

    def enough(per_s: float) -> bool:
        cost = _cost(slower, items, kept, replace(traffic, per_s=per_s))
        return cost is None or cost.chips >= holds

    low, high = math.log(SLOWEST), math.log(QUICKEST)
    if enough(SLOWEST):
        return SLOWEST
    if not enough(QUICKEST):
        return None
    while high - low > PRECISE:
        middle = (low + high) / 2.0
        low, high = (low, middle) if enough(math.exp(middle)) else (middle, high)
    return math.exp(high)


def _cost(scan: Scan, items: float, kept: float, traffic: Traffic) -> StageCost | None:
    try:
        return scan_cost(scan, items, kept, 1.0, traffic)
    except InfeasiblePlan:
        return None
