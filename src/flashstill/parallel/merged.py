"""Equal operations of different blocks, and equal collectives, as one with their counts added.

A model with two kinds of blocks projects, normalises or routes alike in both, and the reductions after a mixer and
after its FFN send the same bytes.  Each costs the same, so that it is priced once.

Sums must not depend on how many layouts are priced at once, to the last bit.  So operations are compared before they
are split, as shares of different ones may agree in one layout; attention with a window and without stay two where the
context is shorter than the window (`Attention.limit`); all stay in the order in which they came first; and collectives
of experts, which come last in a sum, stay apart from the others.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from flashstill.parallel.exchange import Exchange, Sharded
from flashstill.workload import Experts, Operation

_Part = TypeVar("_Part", Operation, Exchange)


def once(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """The same work, each operation once; before it is split over chips."""
    return _summed(operations, lambda operation: operation.name)


def with_merged_exchanges(sharded: Sharded) -> Sharded:
    """The same work, each collective once."""
    routed = {operation.name for operation in sharded.operations if isinstance(operation, Experts)}

    def group(exchange: Exchange) -> Hashable:
        return exchange.kind, exchange.tier == "expert" or exchange.name in routed

    return replace(
        sharded,
        exchanges=_summed(sharded.exchanges, group),
        dense=None if sharded.dense is None else with_merged_exchanges(sharded.dense),
    )


def _summed(parts: Iterable[_Part], group: Callable[[_Part], Hashable]) -> tuple[_Part, ...]:
    """Parts in order, without those that differ from an earlier one of their group in their count only."""
    kept: list[_Part] = []
    places: dict[tuple[type[_Part], Hashable], list[int]] = {}
    for part in parts:
        alike = places.setdefault((type(part), group(part)), [])
        place = next((place for place in alike if _equal(part, kept[place])), None)
        if place is None:
            alike.append(len(kept))
            kept.append(part)
        else:
            both = copy.copy(kept[place])
            object.__setattr__(both, "count", both.count + part.count)
            kept[place] = both
    return tuple(kept)


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.shape(one) == np.shape(other) and bool((one == other).all())
    if not is_dataclass(one):
        return bool(one == other)
    if type(one) is not type(other):
        return False
    kind: Any = type(one)
    return all(_equal(getattr(one, name), getattr(other, name)) for name in _compared(kind))


@functools.cache
def _compared(kind: Any) -> tuple[str, ...]:
    """The fields on which the cost of one depends; those that follow from others are left out."""
    apart = ("count", "name") if issubclass(kind, Exchange) else ("count",)
    return tuple(field.name for field in fields(kind) if field.init and field.name not in apart)
