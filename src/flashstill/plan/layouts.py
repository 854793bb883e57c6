"""Default layout: tensor parallelism as far as the heads divide, a pipeline over the rest.

If the number of chips is not given either, it is the smallest that holds the load: powers of two, or the next number
over which heads and layers can be split.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost import Conditions
from flashstill.cost.footprint import holds
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.hardware import Chip
from flashstill.hardware.software import ENGINES
from flashstill.parallel import Layout, layout_reason, least_redundant
from flashstill.plan.deployment import NO_TWO_BATCH, Deployment
from flashstill.plan.scenario import Occupancy
from flashstill.workload import Quantity

MOST_CHIPS = 131072
"""most chips of one deployment: more than any known network connects"""
MOST_BY_ITSELF = 16384
"""most chips chosen when the number is not given"""
MOST_HEADS = 256
NOTHING_TO_HIDE = "no all-to-all for two-batch overlap to hide"


class Degrees(NamedTuple):
    """A layout in whole numbers."""

    tp: int
    pp: int
    ep: int
    dp: int
    redundant_experts: int = 0

    @property
    def chips(self) -> int:
        """Number of chips."""
        return self.tp * self.pp * self.dp

    @property
    def layout(self) -> Layout:
        """The same degrees as a `Layout` for the cost model."""
        return layout_of(float(degree) for degree in self)


def layout_of(degrees: Iterable[Quantity]) -> Layout:
    """tp, pp, ep, dp and redundant experts, numbers or arrays of candidates, as a `Layout`."""
    tp, pp, ep, dp, redundant = degrees
    return Layout(tp=tp, pp=pp, ep=ep, dp=dp, redundant=redundant)


def degrees_of(model: Architecture, conditions: Conditions, deployment: Deployment, occupancy: Occupancy) -> Degrees:
    """tp, pp, ep and dp of a deployment, open ones filled in; BadInput if they contradict each other.

    InfeasiblePlan if the layout needs links that the chip does not have.
    Open degrees: the fewest chips that hold all sequences at the same time, else the fewest that hold one, else one
    minimal layout, which the caller's memory check then rejects.
    """
    chip = conditions.chip
    slice_chips = math.prod(chip.topology.shape) if chip.topology.shape else None
    given = _given(model, deployment, slice_chips)
    degrees = given or fewest_chips(model, conditions, deployment, occupancy)
    degrees = degrees or _with_experts(model, deployment, 1, deployment.pp or 1)
    check_overlap(model, conditions, degrees)
    reason = layout_reason(model, *degrees)
    if reason:
        raise BadInput(reason + (_nearest_tp(model, degrees.tp) if reason.startswith("tp ") else ""))
    if degrees.chips > MOST_CHIPS:
        raise BadInput(f"{degrees.chips:,} chips are more than any network connects; ask for at most {MOST_CHIPS:,}")
    _check_links(model, chip, degrees)
    return degrees


def _nearest_tp(model: Architecture, asked: int) -> str:
    """What to add to the reason against a tensor parallelism that does not fit: the nearest that does."""
    fitting = (tp for tp in range(1, MOST_HEADS + 1) if layout_reason(model, tp, 1, 1, 1) is None)
    return f"; the nearest that does is {min(fitting, key=lambda tp: (abs(tp - asked), -tp))}"


def check_overlap(model: Architecture, conditions: Conditions, degrees: Degrees) -> None:
    """BadInput if two-batch overlap is asked for where nothing is sent to experts, or the engine does not have it."""
    if conditions.overlap_units_ratio is None:
        return
    if not model.routed:
        raise BadInput(f"{NOTHING_TO_HIDE}: {model.name} has no routed experts; leave overlap out")
    if degrees.dp == 1:
        raise BadInput(
            f"{NOTHING_TO_HIDE}: dp is 1, so that no token is sent to experts; take dp 2, or leave overlap out"
        )
    engine = conditions.software.name
    if engine in NO_TWO_BATCH:
        able = ", ".join(name for name in ENGINES if name not in NO_TWO_BATCH)
        raise BadInput(f"{engine} cannot run two micro-batches at a time; engines that can: {able}")


def _check_links(model: Architecture, chip: Chip, degrees: Degrees) -> None:
    """InfeasiblePlan if the layout needs links the chip does not have; replicas of a dense model need none."""
    together = degrees.tp * degrees.pp * (degrees.dp if model.routed else 1)
    if together > 1 and not chip.topology.link_bytes_per_s:
        raise InfeasiblePlan(
            f"{model.name} needs {together} x {chip.name}, which have no links between them", {"no links": 1}
        )
    if together > chip.system.domain_chips and not chip.system.scale_out_bytes_per_s:
        raise InfeasiblePlan(
            f"{model.name} needs {together} x {chip.name}, of which at most {chip.system.domain_chips} have links"
            " between them",
            {"no links": 1},
        )


def fewest_chips(
    model: Architecture, conditions: Conditions, deployment: Deployment, occupancy: Occupancy
) -> Degrees | None:
    """The smallest layout that holds all sequences, else the smallest that holds one, else None."""
    chip = conditions.chip
    joined = MOST_BY_ITSELF if chip.system.scale_out_bytes_per_s else chip.system.domain_chips
    most = joined if chip.topology.link_bytes_per_s else 1
    possible = [
        degrees
        for tp, pp in _splits(model, deployment.pp)
        if (degrees := _with_experts(model, deployment, tp, pp)).chips <= most
        and layout_reason(model, *degrees) is None
    ]
    if not possible:
        return None
    fitting = holds(model, conditions, layout_of(np.array(possible, dtype=np.float64).T), *occupancy)
    for enough in fitting:
        if enough.any():
            return possible[int(np.argmax(enough))]
    return None


@lru_cache(maxsize=1024)
def _splits(model: Architecture, stages: int | None) -> tuple[tuple[int, int], ...]:
    """Pairs (tp, pp) for growing numbers of chips: each power of two, or the next number that can be split."""
    depths = range(1, model.depth + 1) if stages is None else (stages,)
    heads = [tp for tp in range(1, MOST_HEADS + 1) if layout_reason(model, tp, 1, 1, 1) is None]
    largest = max(heads, default=0)
    splits: dict[tuple[int, int], None] = {}
    for power in range(MOST_BY_ITSELF.bit_length()):
        exact = split(model, 2**power, stages)
        if exact is None and 2**power > largest * max(depths):
            break
        if exact is None:
            beyond = [(tp * pp, pp) for tp in heads for pp in depths if tp * pp > 2**power]
            if not beyond:  # more stages than the model has blocks
                break
            count, pp = min(beyond)
            exact = (count // pp, pp)
        splits[exact] = None
    return tuple(splits)


@lru_cache(maxsize=4096)
def split(model: Architecture, chips: int, stages: int | None = None) -> tuple[int, int] | None:
    """(tp, pp) of exactly `chips`: as few stages as the heads allow, or the number of stages given."""
    for pp in range(1, model.depth + 1) if stages is None else (stages,):
        if chips % pp == 0 and layout_reason(model, chips // pp, pp, 1, 1) is None:
            return chips // pp, pp
    return None


def _with_experts(model: Architecture, deployment: Deployment, tp: int, pp: int, dp: int | None = None) -> Degrees:
    """Fills in ep: tp x dp (whole experts per chip) if the attention is data-parallel, else 1 (experts split).

    And redundant experts: the fewest that let ep divide the experts.
    """
    dp = deployment.dp or dp or 1
    spread = tp * dp if model.routed and dp > 1 else 1
    ep, redundant = deployment.ep or spread, deployment.redundant_experts
    if redundant is None:
        redundant = least_redundant(model, ep)
    return Degrees(tp=tp, pp=pp, ep=ep, dp=dp, redundant_experts=redundant)


def _given(model: Architecture, deployment: Deployment, slice_chips: int | None) -> Degrees | None:
    """The layout if the number of chips or tp is given, else None."""
    pp, dp = deployment.pp or 1, deployment.dp or 1
    chips = slice_chips if deployment.chips is None else deployment.chips
    if slice_chips is not None and chips != slice_chips:
        raise BadInput(f"a topology of {deployment.topology} has {slice_chips} chips, but {chips} are asked for")
    if deployment.tp is not None:
        tp = deployment.tp
        if chips is not None and deployment.dp is None and chips % (tp * pp) == 0:
            dp = chips // (tp * pp)
        if chips is not None and tp * pp * dp != chips:
            raise BadInput(f"tp x pp x dp = {tp * pp * dp} chips, but chips is {chips}")
        return _with_experts(model, deployment, tp, pp, dp)
    if chips is None:
        return None
    if chips % (dp * pp):
        raise BadInput(f"pp x dp = {pp * dp} does not divide {chips} chips")
    tp, pp = split(model, chips // dp, deployment.pp) or (chips // (dp * pp), pp)
    return _with_experts(model, deployment, tp, pp)


def torus_shape(chip: Chip, topology: str | None) -> tuple[int, ...]:
    """Edges of a torus slice, longest first, one per torus axis; empty if none were given."""
    if topology is None:
        return ()
    parts = topology.lower().split("x")
    if not all(re.fullmatch(r"[1-9][0-9]{0,8}", part) for part in parts):
        raise BadInput(f"topology is {topology!r}, not edges such as 4x4x8")
    if not chip.topology.axes:
        raise BadInput(f"{chip.name} is switch-connected and has no topology to choose")
    if len(parts) > chip.topology.axes:
        raise BadInput(f"{topology} has {len(parts)} axes, but {chip.name} is a torus of {chip.topology.axes}")
    edges = [int(part) for part in parts] + [1] * (chip.topology.axes - len(parts))
    whole = math.prod(edges)
    if whole > chip.system.domain_chips:
        raise BadInput(
            f"a topology of {topology} has {whole} chips, but {chip.name} joins at most {chip.system.domain_chips}"
        )
    return tuple(sorted(edges, reverse=True))
