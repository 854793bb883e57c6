"""Two-batch overlap: one half of a batch computes while the tokens of the other half travel to their experts and back.

Symbols of one half: C seconds of kernels, other collectives and gaps; A seconds of all-to-alls.

    t = max(2 C, 2 A)          against C(whole) + A(whole) without overlap

Both halves read all weights, and their kernels have half the rows, so 2 C exceeds C(whole): overlap pays where C grows
with the batch (prefill, large decode batches), and costs where weights or launch floors take most of C.  In prefill the
exchanging kernels occupy a share u of the compute units: computing takes 1/(1 - u) times as long (DeepSeek-V3 2024,
section 3.2.2); in decode they occupy none (section 3.4.2).  The filling of the first and last block is left out, 1/(2
depth) of a step at most.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flashstill.cost.chip_work import chip_work, sharded_work
from flashstill.cost.conditions import Conditions
from flashstill.cost.step import StepCost, on_chips
from flashstill.hardware.present import either
from flashstill.parallel import Sharded
from flashstill.workload import Quantity


def two_batches(
    conditions: Conditions,
    half: Sharded,
    chips: Quantity,
    overhead_s: Quantity,
    pue: float = 1.0,
    units_ratio: Quantity = 0.0,
) -> StepCost:
    """The cost of two halves of a step on `chips` chips.

    half: operations and collectives of one half.  overhead_s: software seconds of both.
    units_ratio: share of the compute units that exchange tokens, on chips that have such units.
    """
    sent = [exchange for exchange in half.exchanges if exchange.tier == "expert"]
    others = replace(half, exchanges=tuple(exchange for exchange in half.exchanges if exchange.tier != "expert"))
    computing = sharded_work(conditions, others).times(2.0).lasting("overhead", overhead_s)
    sending = chip_work(conditions, (), sent).times(2.0)
    if np.any(units_ratio):
        slower = computing.shares_s["compute"] * units_ratio / (1.0 - units_ratio)
        more_s = either(conditions.chip.compute_units, lambda: slower, lambda: 0.0)
        computing = replace(computing.lasting("compute", more_s), clocked_s=computing.clocked_s + more_s)
    exposed_s = np.maximum(sending.seconds - computing.seconds, 0.0)
    hidden = replace(sending, shares_s={**sending.shares_s, "links": exposed_s})
    return on_chips(conditions, computing.plus(hidden), chips, pue)
