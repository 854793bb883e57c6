"""A scan of embeddings: the dot product of every question with every vector of an index, spread over chips.

    pass     a matrix product of q questions with n/S vectors of d values, which reads the chip's shard of S once,
             and the best items of all shards sent to where each question is merged
    index    an approximate index looks at a share v of the vectors for each question: 1 - (1 - v)^q of them a pass,
             at random places (accesses/s of flash), in whole pages, which come while the chip multiplies
    q        questions that come while a pass runs:  q = max(1, rate t(q));  at most `together` of them
    wait     half a pass, if one runs when the question comes; where each is looked up alone, that of work that does not
             vary before so many replicas (cost/queues.py), and of it a q-th where at most q are looked up together

Shards are the fewest that hold the index and keep up with the traffic within the bound on seconds; more than `together`
questions at a time need replicas, each of which holds the whole index.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from flashstill.codesign.fewest import fewest
from flashstill.codesign.rent import Rent
from flashstill.codesign.stage import StageCost, Traffic, paid
from flashstill.codesign.tiers import Store
from flashstill.cost import Conditions, StepCost, make_conditions, uniform
from flashstill.cost.chip_work import ChipWork, sharded_work
from flashstill.cost.conditions import stored_bytes
from flashstill.cost.footprint import usable_bytes
from flashstill.cost.queues import wait_seconds
from flashstill.cost.step import on_chips
from flashstill.cost.throttle import clocked_beside
from flashstill.errors import InfeasiblePlan
from flashstill.parallel import Exchange, Sharded
from flashstill.workload import Matmul

RESULT_BYTES = 12.0
"""bytes of one result: an identity of 64 bits and a score of 32"""
MOST_TOGETHER = 2**20
MOST_SHARDS = 2**24
PRECISE = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """Vectors of `dimensions` values in `precision` for every item, in a tier of a chip.

    visited_ratio: share of the vectors that an approximate index looks at for a question; 1: all.
    together: questions of one pass at the most; None: all that have come.  max_s: bound on the seconds of a question.
    """

    name: str
    dimensions: int
    precision: str
    store: Store
    rent: Rent
    visited_ratio: float = 1.0
    together: int | None = None
    max_s: float | None = None

    @property
    def item_bytes(self) -> float:
        """Bytes of one vector."""
        return self.dimensions * stored_bytes(self.precision)

    @property
    def conditions(self) -> Conditions:
        """Kernels alone, with the vectors in the tier."""
        plain = make_conditions(self.rent.chip, uniform(self.precision))
        return replace(plain, weights=self.store.memory)


def pass_cost(scan: Scan, items: float, kept: float, shards: float, questions: float) -> StepCost:
    """Cost of one pass of `questions` questions over an index of `items` vectors on `shards` chips."""
    conditions, visited = scan.conditions, scan.visited_ratio
    share = 1.0 if visited == 1.0 else -math.expm1(questions * math.log1p(-visited))
    each = conditions.precisions.widths
    product = Matmul(
        name="scan",
        rows=questions if scan.visited_ratio == 1.0 else questions * scan.visited_ratio / share,
        columns=items / shards * share,
        depth=float(scan.dimensions),
        value_bytes=each.of("linear"),
        input_value_bytes=each.of("linear"),
        output_value_bytes=0.0,  # scores are compared where they arise
    )
    results = Exchange(
        name="best items",
        kind="all-to-all",
        count=1.0,
        bytes=questions * min(kept, items) * RESULT_BYTES / shards,
        group=shards,
        tier="context",
    )
    work = sharded_work(conditions, Sharded(operations=(product,), exchanges=(results,) if shards > 1 else ()))
    if scan.visited_ratio == 1.0 or scan.store.accesses_per_s is None:
        return on_chips(conditions, work, shards)
    reads = items / shards * share * max(scan.item_bytes / scan.store.access_bytes, 1.0)
    return _at_random_places(scan, work, shards, reads)


def _at_random_places(scan: Scan, work: ChipWork, shards: float, reads: float) -> StepCost:
    """The pass if each chip reads whole pages at so many places: it waits for them, and their bytes take energy.

    Pages come while the chip multiplies, so that what follows its clock may take the longer time.  Both count before
    the power limit: waiting lowers the mean power, pages raise it.
    """
    chip, store = scan.conditions.chip, scan.store
    late = max(reads / store.accesses_per_s - float(work.seconds), 0.0) if store.accesses_per_s else 0.0
    beside = max(store.access_bytes - scan.item_bytes, 0.0) * reads  # bytes of whole pages
    moved = work.joules["weights"] + beside * store.memory.joules_per_byte_total
    clocked_s = clocked_beside(chip, work.clocked_s, late)
    work = replace(work, joules={**work.joules, "weights": moved}, clocked_s=clocked_s)
    step = on_chips(scan.conditions, work.lasting("overhead", late), shards)  # without the clocks of a busy chip
    overhead_s, memory_s = step.shares_s["overhead"] - late, step.shares_s["memory"] + late
    return replace(step, shares_s={**step.shares_s, "overhead": overhead_s, "memory": memory_s})


def fewest_shards(scan: Scan, items: float) -> int:
    """Chips whose tier holds the whole index once."""
    room = usable_bytes(scan.conditions, scan.store.memory)
    return max(math.ceil(items * scan.item_bytes / room * (1.0 - 1e-12)), 1)


def scan_cost(scan: Scan, items: float, kept: float, recall: float, traffic: Traffic) -> StageCost:
    """The stage on the chips that cost least; InfeasiblePlan if no number of shards keeps up within the bound."""

    def at(shards: int) -> StageCost | None:
        return _on_shards(scan, items, kept, recall, traffic, shards)

    high = fewest(lambda shards: at(shards) is not None, fewest_shards(scan, items), MOST_SHARDS)
    if high is None:
        bound = f" within {scan.max_s:g} s" if scan.max_s else ""
        raise InfeasiblePlan(
            f"the stage {scan.name!r} does not answer {traffic.per_s:g} questions a second{bound} from"
            f" {scan.store.name} of {scan.rent.chip.name}, on any number of chips",
            {"scan too slow": 1},
        )
    # Where replicas are whole, a few more shards may need fewer of them.
    tried = {high, *(math.ceil(high * 2.0 ** (step / 4.0)) for step in range(1, 9) if scan.together)}
    found = [cost for cost in map(at, sorted(tried)) if cost is not None]
    return min(found, key=lambda cost: cost.usd)


def _on_shards(scan: Scan, items: float, kept: float, recall: float, traffic: Traffic, shards: int) -> StageCost | None:
    """The stage with a replica of so many shards, and as many replicas as the traffic takes; None if too slow."""
    if shards < fewest_shards(scan, items):
        return None
    most, replicas = float(scan.together or MOST_TOGETHER), traffic.replicas
    if scan.together:
        full_s = float(pass_cost(scan, items, kept, shards, most).seconds)
        replicas = max(replicas, math.ceil(traffic.per_s * full_s / most / traffic.load_ratio * (1.0 - 1e-12)))
    rate = traffic.per_s / replicas
    together = _together(lambda size: _seconds(scan, items, kept, shards, size) * rate / traffic.load_ratio, most)
    step = pass_cost(scan, items, kept, shards, together)
    seconds = float(step.seconds)
    busy = rate * seconds / together
    latency = seconds + _wait_seconds(scan, seconds, replicas, busy)
    if busy > traffic.load_ratio * (1.0 + 1e-6) or (scan.max_s is not None and latency > scan.max_s):
        return None
    joules, usd = paid(scan.rent, shards * replicas, traffic, float(step.total_joules) / together, busy)
    return StageCost(
        name=scan.name,
        kind="scan",
        chip=scan.rent.chip.name,
        model=f"{scan.dimensions} x {scan.precision}",
        tier=scan.store.name,
        items_in=items,
        items_out=min(kept, items),
        tokens=0.0,
        recall=recall,
        seconds=latency,
        joules=joules,
        usd=usd,
        replicas=replicas,
        group_chips=shards,
        together=together,
        busy=busy,
        bytes=items * scan.item_bytes * replicas,
        bound=str(np.asarray(step.bound).ravel()[0]),
    )


def _wait_seconds(scan: Scan, seconds: float, replicas: int, busy: float) -> float:
    """Half a running pass that all who wait can join; before passes of one question, a queue; between, between."""
    joining = seconds * busy / 2.0
    if scan.together is None:
        return joining
    queue = float(wait_seconds(seconds, replicas, min(busy, 1.0 - 1e-9)))
    return joining + (queue - joining) / scan.together


def _seconds(scan: Scan, items: float, kept: float, shards: int, questions: float) -> float:
    return float(pass_cost(scan, items, kept, shards, questions).seconds)


def _together(coming: Callable[[float], float], most: float) -> float:
    """Questions of a pass: as many as come while it runs, from 1 to `most`. coming: during a pass of so many.

    The rule of false position (Illinois): passes take about a fixed time and one for each question.
    """
    low, above = 1.0, coming(1.0) - 1.0
    if above <= 0.0:
        return 1.0
    high, below = most, coming(most) - most
    if below >= 0.0:
        return most
    side = 0
    for _ in range(100):
        middle = (low * below - high * above) / (below - above)
        value = coming(middle) - middle
        if abs(value) <= PRECISE * middle or high - low <= PRECISE * low:
            return middle
        if value > 0.0:
            low, above, below, side = middle, value, below / 2.0 if side > 0 else below, 1
        else:
            high, below, above, side = middle, value, above / 2.0 if side < 0 else above, -1
    return high
