"""Equal operations of different blocks, and equal collectives, as one with their counts added.

A model with two kinds of blocks projects, normalises or routes alike in both, and the reductions after a mixer and
after its FFN send the same bytes.  Each costs the same, so that it is priced once.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from flashstill.parallel.exchange import Exchange, Sharded
from flashstill.workload import Operation

_Part = TypeVar("_Part", Operation, Exchange)


def merged(sharded: Sharded) -> Sharded:
    """The same work, each operation and each exchange once."""
    return replace(
        sharded,
        operations=_summed(sharded.operations, "name"),
        exchanges=_summed(sharded.exchanges, "kind"),
        dense=None if sharded.dense is None else merged(sharded.dense),
    )


def _summed(parts: Iterable[_Part], told_by: str) -> tuple[_Part, ...]:
    """Parts in order, without those that differ from an earlier one in their count only. told_by: a field in which
    equal parts agree, so that few are compared."""
    found: dict[tuple[type[_Part], str], list[_Part]] = {}
    for part in parts:
        alike = found.setdefault((type(part), getattr(part, told_by)), [])
        for place, other in enumerate(alike):
            if _equal(part, other):
                alike[place] = copy.copy(other)
                object.__setattr__(alike[place], "count", other.count + part.count)
                break
        else:
            alike.append(part)
    return tuple(part for alike in found.values() for part in alike)


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.shape(one) == np.shape(other) and bool(np.all(one == other))
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
