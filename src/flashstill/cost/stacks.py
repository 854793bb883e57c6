"""Conditions of many chips as one, so that one call prices all of them (hardware/stacked.py).

Known chips differ in formats, memory tiers and kernels that a given deployment never uses.  `essential` leaves those
out, and looks up the kernels once, so that most chips of a class share a structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flashstill.cost.conditions import Conditions
from flashstill.cost.operations import kernel_precision
from flashstill.errors import MissingFact
from flashstill.hardware import Chip
from flashstill.hardware.calibration import COLLECTIVES, KINDS, Calibration
from flashstill.hardware.stacked import alike, stack

_ROLES = ("linear", "attention", "experts", "exact")
_ALWAYS = ("bf16", "fp8")
"""formats of attention and of indexers, whatever the weights' are"""


def essential(conditions: Conditions) -> Conditions:
    """Conditions that price every model alike, with only the formats, tiers and kernels that they ask for."""
    chip, engines = conditions.chip, [engine.name for engine in conditions.software.fastest_of]
    used = sorted({runs_in for name in _formats(conditions) if (runs_in := _precision(chip, name))})
    named = {kernel_precision(conditions, role) for role in _ROLES} | {"bf16", conditions.precisions.kv}
    calibration = _looked_up(conditions.calibration, sorted(named), engines or [conditions.software.name])
    rates = {name: chip.flops_per_s[name] for name in used}
    kept = replace(
        chip,
        flops_per_s=rates,
        joules_per_mac={name: chip.joules_per_mac[name] for name in used},
        operand_joules_per_mac={name: chip.operand_joules_per_mac[name] for name in used},
        tiers=chip.tiers[:1],
        calibration=calibration,
        wired=None,
    )
    return replace(conditions, chip=kept, calibration=calibration)


def stacked_alike(conditions: Sequence[Conditions], most: int) -> Iterator[tuple[list[int], Conditions]]:
    """Places of essential conditions that can be priced together, at most `most` at once, and their stack."""
    for places in alike(conditions):
        for start in range(0, len(places), most):
            part = places[start : start + most]
            yield part, stack([conditions[place] for place in part])


def _formats(conditions: Conditions) -> set[str]:
    return {conditions.precisions.of(role) for role in _ROLES} | {conditions.precisions.kv, *_ALWAYS}


def _precision(chip: Chip, asked: str) -> str | None:
    try:
        return chip.precision(asked)
    except MissingFact:
        return None


def _looked_up(calibration: Calibration, precisions: Sequence[str], engines: Sequence[str]) -> Calibration:
    """The coefficients as `engines` look them up, for these precisions."""
    kernels = {
        (kind, f"{precision} {engine}"): calibration.kernel(kind, precision, engine)
        for kind in KINDS
        for precision in precisions
        for engine in engines
    }
    kernels |= {("matmul", "bf16"): calibration.kernel("matmul", "bf16")}  # of kernels that stream memory
    collectives = {(kind, ""): calibration.collective(kind) for kind in COLLECTIVES}
    collectives |= {
        (kind, engine): calibration.collectives[kind, engine]
        for kind in COLLECTIVES
        for engine in engines
        if (kind, engine) in calibration.collectives
    }
    return replace(calibration, kernels=kernels, collectives=collectives)
