"""Below which batch a chip spends most of the energy of its work on moving weights.

A decode step reads every weight once, whatever the batch; what each sequence adds is arithmetic, its cache, activations
and links.  Where the two sides meet, batching stops to be what saves energy.  Idling is left out: it is paid for time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost import Conditions
from flashstill.cost.footprint import smallest_count
from flashstill.cost.phases import decode_step
from flashstill.parallel import Layout, layout_reason
from flashstill.workload import weight_bytes

LARGEST_BATCH = 65536


def weights_dominate_below(model: Architecture, conditions: Conditions, context: float) -> int | None:
    """The first batch at which weights take at most half of the work's joules; None where they still do at the largest.

    On the fewest chips, split by tensors, that hold the weights; batches up to `LARGEST_BATCH`.
    """
    chips = smallest_count(
        conditions.chip, float(weight_bytes(model, conditions.precisions.widths)), conditions.weights
    )
    while layout_reason(model, chips, 1, 1, 1) and chips > 1:
        chips //= 2
    layout = Layout(tp=float(chips))

    def first(batches: npt.NDArray[np.float64]) -> int | None:
        step = decode_step(model, conditions, layout, batches, context)
        work = step.work_joules
        below = np.flatnonzero(np.broadcast_to(2.0 * step.joules["weights"] <= work, batches.shape))
        return int(below[0]) if len(below) else None

    coarse = np.unique(np.round(np.geomspace(1, LARGEST_BATCH, 120)))
    found = first(coarse)
    if found is None or found == 0:
        return None if found is None else 1
    fine = np.arange(coarse[found - 1] + 1.0, coarse[found] + 1.0)
    exact = first(fine)
    return int(fine[exact if exact is not None else -1])
