"""What operations take, summed in their order: seconds by bound, clocked seconds, joules by level, MACs.

In one case arrays have a few numbers each, and the time goes into calls.  So operations that one kernel computes with
the same coefficients are priced in one call, as one operation whose numbers are arrays along an axis of operations:

    (operations, steps, layouts, batches ...)    before the axes of together.py

and what each of them takes is a row of one table.  Over many layouts every operation is priced by itself, as its arrays
differ in shape and are large.  Both add the operations in their order, so that sums agree to the last bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from flashstill.cost.conditions import Conditions
from flashstill.cost.operations import operation_joules, operation_seconds
from flashstill.cost.throttle import clocked_seconds
from flashstill.hardware import Software
from flashstill.workload import Attention, Matmul, Operation, Quantity

TERMS = (
    "compute", "memory", "overhead", "clocked", "macs", "arithmetic", "near_sram", "far_sram", "weights", "kv",
    "activations",
)  # fmt: skip
"""seconds by bound; seconds that follow the clock; MACs; joules by level"""
_PLACES = {name: place for place, name in enumerate(TERMS)}
FEW = 64
"""numbers in an array up to which a call on it costs more than they do"""


def operation_sums(
    conditions: Conditions, operations: Sequence[Operation], before: dict[str, Quantity]
) -> dict[str, Quantity]:
    """The TERMS of all operations, added one after another to those of the work before them."""
    many = conditions.chip.stacked or any(isinstance(ratio, np.ndarray) for ratio in _ratios(conditions.software))
    shape = () if many or len(operations) < 2 else _shape(operations)
    if shape and math.prod(shape) <= FEW:
        return _in_a_table(conditions, operations, before, shape)
    sums = dict(before)
    for operation in operations:
        for name, term in _terms(conditions, operation).items():
            sums[name] = sums[name] + term
    return sums


def _ratios(software: Software) -> tuple[Quantity, ...]:
    """Those that seconds of operations depend on; arrays while an engine is fitted (calibration/trials.py)."""
    return software.matmul_ratio, software.experts_ratio, software.quantise_ratio, software.scales_ratio


def _terms(conditions: Conditions, operation: Operation) -> dict[str, Quantity]:
    """The TERMS of one operation, all `count` of it; without those that are 0 whatever its numbers are."""
    timing = operation_seconds(conditions, operation)
    count, work_s = operation.count, timing.seconds - timing.floor_s
    computes, all_s = np.asarray(timing.compute_s) >= timing.memory_s, count * work_s
    joules = operation_joules(conditions, operation)
    return {
        "compute": np.where(computes, all_s, 0.0),
        "memory": np.where(computes, 0.0, all_s),
        "overhead": count * timing.floor_s,
        "clocked": count * clocked_seconds(conditions.chip, work_s, timing.compute_s),
        "macs": count * operation.flops / 2.0,
        **{level: count * spent for level, spent in joules.items() if isinstance(spent, np.ndarray) or spent},
    }


def _in_a_table(
    conditions: Conditions, operations: Sequence[Operation], before: dict[str, Quantity], shape: tuple[int, ...]
) -> dict[str, Quantity]:
    """The sums by a table of operations and TERMS, whose rows have the operations of one kernel side by side."""
    groups: dict[Hashable, list[int]] = {}
    for place, operation in enumerate(operations):
        groups.setdefault(_kernel_of(conditions, operation) or place, []).append(place)
    table, rows, start = np.zeros((len(operations), len(TERMS), *shape)), [0] * len(operations), 0
    for places in groups.values():
        end = start + len(places)
        for name, term in _terms(conditions, _side_by_side([operations[place] for place in places], shape)).items():
            table[start:end, _PLACES[name]] = term
        for place, row in zip(places, range(start, end), strict=True):
            rows[place] = row
        start = end
    sums = np.zeros_like(table[0])
    for name, place in _PLACES.items():
        if isinstance(before[name], np.ndarray) or before[name]:
            sums[place] = before[name]
    for row in rows:
        sums = sums + table[row]
    return dict(zip(TERMS, sums, strict=True))


def _kernel_of(conditions: Conditions, operation: Operation) -> Hashable:
    """What operations that can be priced side by side agree in; None for one that is priced by itself."""
    if isinstance(operation, Matmul):
        return Matmul, conditions.precisions.of(operation.role)
    if isinstance(operation, Attention):
        kind = operation.prompt, operation.latent, operation.expanded
        return (Attention, *kind) if operation.slots is None else None
    return Operation if type(operation) is Operation else None


def _side_by_side(operations: Sequence[Operation], shape: tuple[int, ...]) -> Operation:
    """Operations of one kernel as one, along an axis before those of `shape`."""
    first = operations[0]
    if len(operations) == 1:
        return first
    numbers: dict[str, Any] = {}
    for name in _numbers(first):
        values = [getattr(operation, name) for operation in operations]
        if any(isinstance(value, np.ndarray) for value in values):
            numbers[name] = np.empty((len(values), *shape))
            for place, value in enumerate(values):
                numbers[name][place] = value
        elif any(value != values[0] for value in values):
            numbers[name] = np.array(values, dtype=np.float64).reshape(-1, *(1,) * len(shape))
    return replace(first, **numbers)


def _shape(operations: Sequence[Operation]) -> tuple[int, ...]:
    """That of all arrays of the operations together; () if all are single numbers."""
    numbers = [getattr(operation, name) for operation in operations for name in _numbers(operation)]
    return np.broadcast_shapes(*{number.shape for number in numbers if isinstance(number, np.ndarray)})


def _numbers(operation: Operation) -> tuple[str, ...]:
    """The fields of an operation that are given as numbers and that its cost depends on."""
    kind: Any = type(operation)
    return _numbers_of(kind)


@functools.cache
def _numbers_of(kind: Any) -> tuple[str, ...]:
    beside = ("name", "role", "split", "reduce_bytes", "prompt", "latent", "expanded", "slots", "limit")
    return tuple(field.name for field in fields(kind) if field.init and field.name not in beside)
