"""The batch below which moving weights takes most of a chip's dynamic energy.

A decode step reads all weights once, whatever the batch; each sequence adds arithmetic, cache, activations and links.
Above the crossover batch these dominate, and larger batches save little energy.  Static energy is excluded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flashstill.cost.phases import batch_step
from flashstill.plan.resolve import Resolved

LARGEST_BATCH = 65536


def weights_dominate_below(resolved: Resolved) -> int | None:
    """Smallest batch at which weights take at most half of the dynamic joules; None if none up to `LARGEST_BATCH`.

    On the chips and layout of a deployment, at the mean context of its scenario.
    """

    def first(batches: npt.NDArray[np.float64]) -> int | None:
        step = batch_step(resolved.model, resolved.conditions, resolved.layout, batches, resolved.scenario.mean_tokens)
        is_below = 2.0 * step.joules["weights"] <= step.dynamic_joules
        below = np.flatnonzero(np.broadcast_to(is_below, batches.shape))
        return int(below[0]) if len(below) else None

    coarse = np.unique(np.round(np.geomspace(1, LARGEST_BATCH, 120)))
    at = first(coarse)
    if at is None or at == 0:
        return None if at is None else 1
    fine = np.arange(coarse[at - 1] + 1.0, coarse[at] + 1.0)
    exact = first(fine)
    return int(fine[exact if exact is not None else -1])
