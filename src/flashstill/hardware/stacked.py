"""Many chips as one: each number that differs is an array along a leading axis, so that one call prices all of them.

    for places in alike(chips):                                    which chips can share arrays
        conditions = make_conditions(stack([chips[place] for place in places]), ...)
        figures = priced(model, conditions, candidates, ...)       plan/tables.py: each of (chips, layouts, batches)

`stack` takes chips, or whole `Conditions` whose software and formats may differ too.  Arrays have the shape (chips, 1,
1, 1, 1): a leading axis, then AXES of length 1, more than any array that the cost arm makes of layouts and batches has.
So they broadcast against all of these, and no formula knows of stacks.  A search over designs may fill such arrays
itself: `along(values)`, put into a chip with `dataclasses.replace(chip, stacked=len(values), ...)`.

Chips of one stack have one structure: formats, memory tiers, kernels with coefficients and tile sizes.  Where a formula
asks whether a number is 0 (a chip without compute units, a torus or a switch), `either` takes each chip's own answer.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from flashstill.errors import BadInput
from flashstill.hardware.calibration import Collective, Kernel, Tiling
from flashstill.hardware.chip import Chip
from flashstill.hardware.later import Later
from flashstill.hardware.memories import Memory

AXES = 4
"""axes of the arrays that the cost arm makes of layouts and batches, at the most"""
_LABELS = ("name", "title", "chip_class", "maker_class")
"""fields of a chip that only describe it"""
_COUNTED = ("shape", "prefill_tokens", "sampled")
"""values that must agree: edges of a slice, prompts of a prefill pass, and how tokens are chosen"""
_Stackable = TypeVar("_Stackable")


def along(values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One number of many chips, as an array along the axis of chips."""
    return np.asarray(values, dtype=np.float64).reshape(-1, *(1,) * AXES)


def stack(values: Sequence[_Stackable]) -> _Stackable:
    """Chips, or conditions of chips, as one; BadInput if their structures differ (see `alike`)."""
    if not values:
        raise BadInput("a stack needs at least one chip")
    result: _Stackable = _merged(tuple(values), {})
    return result


def alike(values: Sequence[Any]) -> list[list[int]]:
    """Places of chips, or of conditions, with one structure: each list can be stacked."""
    groups: dict[Hashable, list[int]] = {}
    structures: dict[int, Hashable] = {}
    for place, value in enumerate(values):
        groups.setdefault(_structure(value, structures), []).append(place)
    return list(groups.values())


def _structure(value: Any, known: dict[int, Hashable]) -> Hashable:
    """What must agree within a stack. known: structures of objects by id, as many chips share a calibration."""
    if isinstance(value, int | float):
        return float  # unlike an absent number
    if isinstance(value, tuple):
        return tuple([_structure(one, known) for one in value])
    if isinstance(value, dict):
        return tuple([(key, _structure(one, known)) for key, one in value.items()])
    if isinstance(value, Later):
        return tuple(value)
    if isinstance(value, Kernel | Collective):
        return None
    if isinstance(value, Tiling) or not is_dataclass(value):
        return value
    if id(value) not in known:
        kind: Any = type(value)
        parts = [
            each if name in _COUNTED else _structure(each, known)
            for name in _compared(kind)
            for each in (getattr(value, name),)
        ]
        known[id(value)] = (kind.__name__, *parts)
    return known[id(value)]


@functools.cache
def _compared(kind: Any) -> tuple[str, ...]:
    """The fields of a dataclass that are not only labels."""
    labels = _LABELS if kind is Chip else ("joules_per_byte",) if kind is Memory else ()
    return tuple(field.name for field in fields(kind) if field.name not in labels)


def _merged(values: tuple[Any, ...], merged: dict[tuple[int, ...], Any]) -> Any:
    """The values as one. merged: results by identity, so that one tier for weights and cache stays one object."""
    first = values[0]
    if all(value is first for value in values) and not isinstance(first, Chip) and not _has_chip(first):
        return first
    if isinstance(first, int | float):
        return first if all(value == first for value in values) else along(values)
    if isinstance(first, Later):
        _agree(tuple(tuple(value) for value in values))
        return Later(first, lambda key: _merged(tuple(value[key] for value in values), merged))
    if isinstance(first, dict):
        _agree(tuple(tuple(value) for value in values))
        return {key: _merged(tuple(value[key] for value in values), merged) for key in first}
    if isinstance(first, tuple):
        _agree(tuple(len(value) for value in values))
        return tuple(_merged(parts, merged) for parts in zip(*values, strict=True))
    if not is_dataclass(first) or isinstance(first, type):
        _agree(values)
        return first
    _agree(tuple(type(value) for value in values))
    key = tuple(id(value) for value in values)
    if key not in merged:
        merged[key] = replace(first, **_fields_merged(values, merged))
    return merged[key]


def _fields_merged(values: tuple[Any, ...], merged: dict[tuple[int, ...], Any]) -> dict[str, Any]:
    first = values[0]
    if isinstance(first, Memory) and any(
        value.joules_per_byte.keys() != first.joules_per_byte.keys() for value in values
    ):
        values = tuple(
            replace(value, joules_per_byte={"all segments": value.joules_per_byte_total}) for value in values
        )
    names = [field.name for field in fields(first) if field.init]
    if not isinstance(first, Chip):
        return {name: _merged(tuple(getattr(value, name) for value in values), merged) for name in names}
    kept = {name: f"{len(values)} chips" for name in _LABELS}
    numbers = {
        name: _merged(tuple(getattr(value, name) for value in values), merged)
        for name in names
        if name not in (*_LABELS, "stacked")
    }
    return {**kept, **numbers, "stacked": len(values)}


def _has_chip(value: Any) -> bool:
    return isinstance(getattr(value, "chip", None), Chip)


def _agree(values: Iterable[Any]) -> None:
    first, *others = values
    if any(other != first for other in others):
        raise BadInput("chips of different structure cannot share a stack: group them with `alike` first")
