"""Sharded work that the candidates of a search share from one chip, placement and set of candidates to the next."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from flashstill.parallel.exchange import Places, Sharded
from flashstill.parallel.layout import Layout
from flashstill.parallel.merged import once, with_merged_exchanges
from flashstill.parallel.sharding import shard
from flashstill.workload import Experts, Operation

_Part = TypeVar("_Part")


def remembered(layout: Layout, work: Callable[[], Iterable[Operation]], *depends: Any) -> Sharded:
    """The operations that `work` makes, split over a layout, equal ones as one; made once for a search's candidates.

    depends: all that the operations depend on besides the layout; arrays are told apart by their values.
    """
    shared = layout.shared
    if shared is None:
        return _split(work, layout)
    key = tuple((value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value for value in depends)
    try:
        hash(key)
    except TypeError:  # formats that differ within a stack of chips
        return _split(work, layout)
    if key not in shared.known:
        shared.known[key] = _settled(_split(work, shared.whole))
    found: Sharded = shared.known[key]
    return found if shared.places is None else _some(found, shared.places)


def _split(work: Callable[[], Iterable[Operation]], layout: Layout) -> Sharded:
    return with_merged_exchanges(shard(once(work()), layout))


def _settled(sharded: Sharded) -> Sharded:
    """The same, with what experts work out of their tokens worked out for all candidates."""
    for operation in sharded.operations:
        if isinstance(operation, Experts):
            _ = operation.distinct, operation.busiest
    return sharded


def _some(sharded: Sharded, places: Places) -> Sharded:
    """The work of the candidates at these places."""
    return Sharded(
        operations=tuple(at_places(operation, places) for operation in sharded.operations),
        exchanges=tuple(at_places(exchange, places) for exchange in sharded.exchanges),
        dense=sharded.dense,
        at=None if sharded.at is None else sharded.at[places],
    )


def at_places(part: _Part, places: Places, axis: int = -1) -> _Part:
    """An operation, or whatever it holds, with all of its arrays at these places of an axis; derived ones are not made
    again."""
    if isinstance(part, np.ndarray):
        return np.take(part, places, axis=axis) if part.ndim and part.shape[axis] > 1 else part  # type: ignore[return-value]
    if not is_dataclass(part):
        return part
    some = copy.copy(part)
    for field in fields(part):
        value = getattr(part, field.name)
        if not isinstance(value, float | int | str):
            object.__setattr__(some, field.name, at_places(value, places, axis))
    return some
