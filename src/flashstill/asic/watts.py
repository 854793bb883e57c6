"""Watts of a chip whose multipliers, memory and links are all at their peaks: more than that no power supply needs.

    (idle + FLOP/s / 2 x joules of a MAC + bytes/s x joules of a byte, of memory and of links) / (1 - active)

active: static power of a busy chip beyond its idle power, as a share of the limit (hardware/chip.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import numpy as np

from flashstill.units import FLOPS_PER_MAC
from flashstill.workload import Quantity


def peak_watts(
    idle_w: Quantity,
    flops_per_s: Mapping[str, Quantity],
    mac_joules: Mapping[str, float],
    moved_w: Quantity,
    sent_w: Quantity,
    active_ratio: float,
) -> Quantity:
    """The watts; quantities broadcast.

    flops_per_s, mac_joules: by format, of which the one that draws most counts.  moved_w, sent_w: of memory and links.
    """
    multiplying = [rate / FLOPS_PER_MAC * mac_joules[name] for name, rate in flops_per_s.items()]
    return (idle_w + reduce(np.maximum, multiplying) + moved_w + sent_w) / (1.0 - active_ratio)
