"""The batches at which moving weights stops to take most of a chip's dynamic energy, and memory most of its time.

A decode step reads all weights once, whatever the batch; each sequence adds arithmetic, cache, activations and links.
Above the crossover batch these dominate, and larger batches save little energy.  Static energy is excluded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from flashstill.cost import StepCost
from flashstill.cost.phases import batch_step
from flashstill.errors import InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.room import check_room
from flashstill.plan.scenario import Scenario
from flashstill.plan.space import SearchSpace

LARGEST_BATCH = 65536


def weights_dominate_below(resolved: Resolved) -> int | None:
    """Smallest batch at which weights take at most half of the dynamic joules; None if none up to `LARGEST_BATCH`.

    On the chips and layout of a deployment, at the mean context of its scenario.
    """
    return _first(resolved, lambda step: 2.0 * step.joules["weights"] <= step.dynamic_joules)


def arithmetic_dominates_from(resolved: Resolved) -> int | None:
    """Smallest batch at which a step spends as long on kernels bound by arithmetic as on those bound by memory.

    None if none up to `LARGEST_BATCH`: a long cache is read for each sequence, so that a larger batch does not help.
    """
    return _first(resolved, lambda step: np.asarray(step.shares_s["compute"]) >= step.shares_s["memory"])


def knees(resolved: Resolved) -> dict[str, int | None]:
    """Both batches, as `explain --json` prints them."""
    return {
        "weights_dominate_below": weights_dominate_below(resolved),
        "arithmetic_dominates_from": arithmetic_dominates_from(resolved),
    }


def crossovers(facts: Facts, scenario: Scenario, space: SearchSpace) -> dict[str, int | None]:
    """`weights_dominate_below` of each chip of a search, on the fewest that hold one request, in its first precision.

    None also where the chip holds no request or lacks the precision.
    """
    return {name: _crossover(facts, scenario, space, name) for name in space.chips}


def _crossover(facts: Facts, scenario: Scenario, space: SearchSpace, name: str) -> int | None:
    deployment = Deployment(
        chip=name, precision=space.precisions[0], kv_precision=space.kv_precisions[0], engine=space.engine
    )
    try:
        return weights_dominate_below(check_room(resolve(facts, replace(scenario, batch=1, draft=None), deployment)))
    except (MissingFact, InfeasiblePlan):
        return None


def _first(resolved: Resolved, is_reached: Callable[[StepCost], npt.ArrayLike]) -> int | None:
    """Smallest batch of which something is true; it is taken to stay true for larger ones."""

    def first(batches: npt.NDArray[np.float64]) -> int | None:
        step = batch_step(resolved.model, resolved.conditions, resolved.layout, batches, resolved.scenario.mean_tokens)
        below = np.flatnonzero(np.broadcast_to(is_reached(step), batches.shape))
        return int(below[0]) if len(below) else None

    coarse = np.unique(np.round(np.geomspace(1, LARGEST_BATCH, 120)))
    at = first(coarse)
    if at is None or at == 0:
        return None if at is None else 1
    fine = np.arange(coarse[at - 1] + 1.0, coarse[at] + 1.0)
    exact = first(fine)
    return int(fine[exact if exact is not None else -1])
