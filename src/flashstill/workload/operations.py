"""One operation of a step: how much it multiplies, and how many bytes of what kind it moves.

Every field may be a number or a NumPy array; arrays broadcast, so that one call prices a grid of batches and contexts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Quantity = float | npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Widths:
    """Bytes that one value takes."""

    weight: float = 2.0
    kv: float = 2.0
    activation: float = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """`count` equal operations; the numbers are of one of them.

    flops: 2 for each multiply-accumulate.  weight_bytes, kv_bytes, activation_bytes: read or written in main memory.
    reduce_bytes: size of the activation that all shards must sum when the operation is split over chips.
    """

    name: str
    count: int
    flops: Quantity
    weight_bytes: Quantity = 0.0
    kv_bytes: Quantity = 0.0
    activation_bytes: Quantity = 0.0
    reduce_bytes: Quantity = 0.0
