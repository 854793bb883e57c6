"""Collectives among the chips of a layout, and the bytes they send.

Each of n chips sends, for an array of V bytes: all-reduce 2 V (n-1)/n, all-gather and reduce-scatter V (n-1)/n,
all-to-all v (n-1)/n of the v bytes that it holds, send v.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.workload import Operation, Quantity, is_any

Places = npt.NDArray[np.intp]
ROUNDS = {"all-reduce": 2.0, "all-gather": 1.0, "reduce-scatter": 1.0, "all-to-all": 1.0, "send": 1.0}
"""passes round the group per collective: an all-reduce is a reduce-scatter and an all-gather"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A collective among `group` chips.

    bytes: size of the whole array for reductions and gathers, of one chip's part for all-to-all and send.
    kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "send".
    tier: "tensor" within a tensor-parallel group, "expert" among all chips of a stage, "data" among replicas,
    "stage" to the next stage.
    stride: distance in chips between neighbouring members of the group (1: adjacent).
    slice_chips: all chips of the machine that contains the group; 0 if it has only the group and its strides.
    """

    name: str
    kind: str
    count: Quantity
    bytes: Quantity
    group: Quantity
    tier: str
    stride: Quantity = 1.0
    slice_chips: Quantity = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharded:
    """One chip's operations and exchanges.

    dense, at: of many layouts, the work apart from experts, which several of them share; and the place of each in it.
    """

    operations: tuple[Operation, ...]
    exchanges: tuple[Exchange, ...]
    dense: Sharded | None = None
    at: Places | None = None


def sent_bytes(kind: str, size: Quantity, group: Quantity) -> Quantity:
    """Bytes that each chip of `group` sends; 0 for a group of one.  size: as `Exchange.bytes`."""
    if kind == "send":
        return np.where(np.asarray(group) > 1, size, 0.0)
    return ROUNDS[kind] * size * (group - 1.0) / group


def among(group: Quantity, *candidates: Exchange) -> list[Exchange]:
    """The candidates, or an empty list if no group has more than one chip."""
    return list(candidates) if is_any(np.asarray(group) > 1) else []
