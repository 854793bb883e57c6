"""What crosses links: collectives among the chips of a layout.

One chip of n sends, of an array of V bytes: all-reduce 2 V (n-1)/n, all-gather and reduce-scatter V (n-1)/n, all-to-all
v (n-1)/n of the v bytes that it holds, send v.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.workload import Operation, Quantity

ROUNDS = {"all-reduce": 2.0, "all-gather": 1.0, "reduce-scatter": 1.0, "all-to-all": 1.0, "send": 1.0}
"""how often a collective goes round its group: an all-reduce is a reduce-scatter and an all-gather"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A collective among `group` chips.

    bytes: of the whole array for reductions and gathers, held by one chip otherwise.
    kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "send".
    tier: "tensor" within a tensor-parallel group, "expert" among all chips of a stage, "data" among replicas,
    "stage" to the next stage.
    stride: chips from one member of the group to the next, where other groups lie in between.
    slice_chips: all chips of the machine that the group is cut from; 0 for the group (and its strides) alone.
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
    """What one chip computes and what it exchanges."""

    operations: tuple[Operation, ...]
    exchanges: tuple[Exchange, ...]


def sent_bytes(kind: str, size: Quantity, group: Quantity) -> Quantity:
    """Bytes that one chip of `group` sends; nothing for a group of one.  size: `Exchange.bytes`."""
    if kind == "send":
        return np.where(np.asarray(group) > 1, size, 0.0)
    return ROUNDS[kind] * size * (group - 1.0) / group


def among(group: Quantity, *candidates: Exchange) -> list[Exchange]:
    """The exchanges, or none where no candidate has more than one chip in the group."""
    return list(candidates) if np.any(np.asarray(group) > 1) else []
