"""Below which batch a chip spends most of the energy of its work on moving weights.

A decode step reads every weight once, whatever the batch; what each sequence adds is arithmetic, its cache, activations
and links.  Where the two sides meet, batching stops to be what saves energy.  Idling is left out: it is paid for time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flashstill.cost.phases import batch_step
from flashstill.plan.resolve import Resolved

LARGEST_BATCH = 65536


def weights_dominate_below(resolved: Resolved) -> int | None:
    """The first batch at which weights take at most half of the work's joules; None where they still do at the largest.

    On the chips and layout of a deployment, at the mean context of its scenario; batches up to `LARGEST_BATCH`.
    """

    def first(batches: npt.NDArray[np.float64]) -> int | None:
        step = batch_step(resolved.model, resolved.conditions, resolved.layout, batches, resolved.scenario.mean_tokens)
        is_below = 2.0 * step.joules["weights"] <= step.work_joules
        below = np.flatnonzero(np.broadcast_to(is_below, batches.shape))
        return int(below[0]) if len(below) else None

    coarse = np.unique(np.round(np.geomspace(1, LARGEST_BATCH, 120)))
    at = first(coarse)
    if at is None or at == 0:
        return None if at is None else 1
    fine = np.arange(coarse[at - 1] + 1.0, coarse[at] + 1.0)
    exact = first(fine)
    return int(fine[exact if exact is not None else -1])
