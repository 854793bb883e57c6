"""Why a priced configuration is not feasible: its links, its memory, its batch, or a bound of the question."""

from __future__ import annotations

from typing import Any

import numpy as np

from flashstill.hardware import Chip
from flashstill.parallel import Layout
from flashstill.plan.deployment import TWO_BATCH
from flashstill.plan.layouts import NOTHING_TO_HIDE
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.scenario import Scenario, broken_bounds
from flashstill.workload import Quantity

NO_LINKS = "the chip has no links: it stands alone"
UNFILLED = "batch does not fill every group"


def refusals(
    scenario: Scenario,
    chip: Chip,
    layout: Layout,
    batches: Quantity,
    overlap: str,
    room: Quantity,
    ttft_s: Quantity,
    tpot_s: Quantity,
    tokens_per_s: Quantity,
) -> dict[str, Any]:
    """Masks of configurations by the reason that refuses them, in the order in which reasons are counted."""
    return {
        **impossible(chip, layout, batches, overlap, room),
        **broken_bounds(scenario, ttft_s, tpot_s, tokens_per_s),
    }


def impossible(chip: Chip, layout: Layout, batches: Quantity, overlap: str, room: Quantity) -> dict[str, Any]:
    """The reasons among them that are known before anything is priced. room: sequences that fit at the same time."""
    return {
        NO_LINKS: np.asarray(layout.chips > 1) & (np.asarray(chip.topology.link_bytes_per_s) == 0.0),
        NOTHING_TO_HIDE: np.asarray(layout.dp == 1) & (overlap == TWO_BATCH),
        NOT_FITTING: room < batches,
        UNFILLED: batches < np.asarray(layout.dp),
    }
