"""Conditions of many chips as one, so that one call prices all of them (hardware/stacked.py).

Known chips differ in formats, memory tiers and kernels that a given deployment never uses.  `essential` leaves those
out, and looks up the kernels once, so that most chips of a class share a structure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from flashstill.cost.conditions import Conditions
from flashstill.errors import MissingFact
from flashstill.hardware import BYTES_PER_VALUE, Memory
from flashstill.hardware.calibration import COLLECTIVES, KINDS, Calibration, Collective, Kernel, kernel_format
from flashstill.hardware.later import Later
from flashstill.hardware.stacked import alike, stack
from flashstill.hardware.wiring import WIRING

MAIN, WEIGHTS, CACHE, ENGINE = "main", "weights", "cache", "engine"
"""names in essential conditions: of the memory tiers of activations, weights and cache, and of the engine"""
_ROLES = ("linear", "attention", "experts", "exact")
_OF_WEIGHTS = ("matmul", "experts")
_ALWAYS = ("bf16", "fp8")
"""formats of attention and of indexers, whatever the weights' are"""


def essential(conditions: Conditions) -> Conditions:
    """Conditions that price every model alike, with only the formats, tiers and kernels that they ask for.

    Formats have the names that are asked for, whatever the chip multiplies them in; memory tiers and engines those of
    their roles (MAIN, WEIGHTS, CACHE, ENGINE), so that chips with weights in different tiers, or with different
    engines, share a stack.  Engines without kernels of their own on the chip have the same ones, so that the fastest of
    them is any.
    """
    chip, software, runs_in = conditions.chip, conditions.software, dict(formats_of_use(conditions))
    engines = [engine.name for engine in software.fastest_of]
    if any(_has_own(conditions.calibration, engine) for engine in engines):
        calibration = _looked_up(conditions, runs_in, {engine: engine for engine in engines})
    else:
        calibration = _looked_up(conditions, runs_in, {ENGINE: engines[0] if engines else software.name})
        software = replace(software, name=ENGINE, fastest_of=())
    kept = replace(
        chip,
        flops_per_s={name: chip.flops_per_s[used] for name, used in runs_in.items()},
        joules_per_mac={name: chip.joules_per_mac[used] for name, used in runs_in.items()},
        operand_joules_per_mac={name: chip.operand_joules_per_mac[used] for name, used in runs_in.items()},
        tiers=(_named(chip.memory, MAIN),),
        calibration=calibration,
        wired=None,
    )
    roles = {conditions.precisions.of(role) for role in _ROLES}
    inputs = {name: BYTES_PER_VALUE[used] for name, used in runs_in.items() if name in roles}
    return replace(
        conditions,
        chip=kept,
        calibration=calibration,
        software=software,
        input_bytes=inputs,
        weights=_named(conditions.weights, WEIGHTS),
        cache=_named(conditions.cache, CACHE),
        one_memory=conditions.is_one_memory,
    )


def _named(memory: Memory, role: str) -> Memory:
    """The tier with the name of its role; wiring, from which nothing is moved, keeps its own."""
    return memory if memory.name == WIRING else replace(memory, name=role, buffered=memory.holds_buffers)


def stacked_alike(conditions: Sequence[Conditions], most: int) -> Iterator[tuple[list[int], Conditions]]:
    """Places of essential conditions that can be priced together, at most `most` at once, and their stack."""
    for places in alike(conditions):
        for start in range(0, len(places), most):
            part = places[start : start + most]
            yield part, stack([conditions[place] for place in part])


def formats_of_use(conditions: Conditions) -> tuple[tuple[str, str], ...]:
    """The formats that a deployment asks for, each with the one that the chip multiplies in."""
    found = ((name, _precision(conditions, name)) for name in _formats(conditions))
    return tuple((name, used) for name, used in found if used)


def _formats(conditions: Conditions) -> list[str]:
    named = {conditions.precisions.of(role) for role in _ROLES} | {conditions.precisions.kv, *_ALWAYS}
    return sorted(named)


def _precision(conditions: Conditions, asked: str) -> str | None:
    try:
        return conditions.runs_in(asked)
    except MissingFact:
        return None


def _has_own(calibration: Calibration, engine: str) -> bool:
    """Whether an engine has kernels or collectives of its own on the chip."""
    kernels = any(condition.endswith(f" {engine}") for _, condition in calibration.kernels)
    return kernels or any(owner == engine for _, owner in calibration.collectives)


def _looked_up(conditions: Conditions, runs_in: Mapping[str, str], engines: Mapping[str, str]) -> Calibration:
    """The coefficients as engines look them up, by the formats that are asked for. engines: by the names that they get.

    Kernels of weights are those of the format that the chip multiplies in, those of attention of the cache's own.
    """
    calibration, software = conditions.calibration, conditions.software

    def kernel(key: tuple[str, str]) -> Kernel:
        kind, (name, _, engine) = key[0], key[1].partition(" ")
        used = runs_in.get(name, name)
        precision = kernel_format(name, used) if kind in _OF_WEIGHTS else name
        return calibration.kernel(kind, precision, engines.get(engine, engine))

    kernels = [(kind, f"{name} {engine}") for kind, name, engine in itertools.product(KINDS, runs_in, engines)] + [
        ("matmul", "bf16")
    ]  # the last of kernels that stream memory
    collectives = [(kind, "") for kind in COLLECTIVES] + [
        (kind, engine)
        for kind, engine in itertools.product(COLLECTIVES, engines)
        if engine == ENGINE or (kind, engine) in calibration.collectives
    ]

    def collective(key: tuple[str, str]) -> Collective:
        kind, engine = key
        return calibration.collective(kind, software.name if engine == ENGINE else engine)

    return replace(calibration, kernels=Later(kernels, kernel), collectives=Later(collectives, collective))
