"""How many chips hold a model and its KV cache."""

from __future__ import annotations

from flashstill.errors import InfeasiblePlan
from flashstill.hardware import Chip, Memory

USABLE_SHARE = 0.9
"""an allowance for activations, buffers and fragmentation; serving engines default to it"""
LARGEST_COUNT = 16384


def smallest_count(chip: Chip, needed_bytes: float, tier: Memory | None = None) -> int:
    """The smallest power of two of chips whose memory (or `tier`) holds `needed_bytes`, each using 90 % of it."""
    memory = tier or chip.memory
    count = 1
    while count * memory.bytes * USABLE_SHARE < needed_bytes:
        count *= 2
        if count > LARGEST_COUNT:
            raise InfeasiblePlan(
                f"{needed_bytes:.3g} bytes do not fit on {LARGEST_COUNT} {chip.name}", {"does not fit in memory": 1}
            )
    return count
