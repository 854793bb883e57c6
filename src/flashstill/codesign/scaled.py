"""Conditions whose numbers are multiplied: what a chip with other numbers makes of the same deployment.

The same result as fact rows edited with `--set`, without building each chip anew; ratios may be arrays along the axis
of chips, so that one call of the cost arm prices all changes at once.
"""

from __future__ import annotations

import functools
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.codesign.parameters import COLLECTIVE_FLOORS, ENGINE_SECONDS, KERNEL_FLOORS, UNIT_LOADS, Ratios
from flashstill.cost import Conditions
from flashstill.hardware import Chip, Memory, Software
from flashstill.hardware.calibration import Calibration, Collective
from flashstill.hardware.later import Later
from flashstill.hardware.present import present

_KERNEL_SECONDS = ("floor_s", "split_s", "block_s", "doubling_s", "chunk_s", "expert_s", "spread_s", "quantise_floor_s")
_COLLECTIVE_SECONDS = ("floor_s", "rank_s", "one_shot_floor_s", "one_shot_doubling_s")
_PLAIN = (float, int, str, type(None))
_ENGINE_SECONDS = ("step_s", "layer_s", "sequence_s", "logit_s", "first_s", "first_block_s")


def scaled(conditions: Conditions, ratios: Ratios, stacked: int = 0) -> Conditions:
    """The conditions with the numbers of these places multiplied. stacked: length of ratios that are arrays."""
    tiers: dict[int, Memory] = {}
    chip = _chip(conditions.chip, ratios, tiers, stacked)
    is_own = conditions.calibration is conditions.chip.calibration  # not so where the machine is a perfect one
    return replace(
        conditions,
        chip=chip,
        calibration=chip.calibration if is_own else _calibration(conditions.calibration, ratios),
        weights=_memory(conditions.weights, ratios, tiers),
        cache=_memory(conditions.cache, ratios, tiers),
        software=_software(conditions.software, ratios),
    )


def _chip(chip: Chip, ratios: Ratios, tiers: dict[int, Memory], stacked: int) -> Chip:
    numbers: dict[str, Any] = {
        "on_chip_bytes": _times(chip.on_chip_bytes, ratios, "on_chip"),
        "power_limit_w": _times(chip.power_limit_w, ratios, "limit"),
        "active_w": _times(chip.active_w, ratios, "active"),
        "idle_w": _times(chip.idle_w, ratios, "idle"),
        "flops_per_s": {name: _times(rate, ratios, f"flops.{name}") for name, rate in chip.flops_per_s.items()},
        "vector_flops_per_s": _times(chip.vector_flops_per_s, ratios, "vectors"),
        "tiers": tuple(_memory(tier, ratios, tiers) for tier in chip.tiers),
        "calibration": _calibration(chip.calibration, ratios),
        "stacked": stacked or chip.stacked,
    }
    links: Any = {"link_bytes_per_s": _times(chip.topology.link_bytes_per_s, ratios, "link")}
    system: Any = {
        "domain_chips": _times(chip.system.domain_chips, ratios, "domain"),
        "scale_out_bytes_per_s": _times(chip.system.scale_out_bytes_per_s, ratios, "scale_out"),
    }
    return replace(chip, topology=replace(chip.topology, **links), system=replace(chip.system, **system), **numbers)


def _memory(tier: Memory, ratios: Ratios, made: dict[int, Memory]) -> Memory:
    """The tier scaled; the same object for the same tier."""
    if id(tier) not in made:
        numbers: Any = {
            "bytes": _times(tier.bytes, ratios, f"{tier.name}.bytes"),
            "visible_bytes": _times(tier.visible_bytes, ratios, f"{tier.name}.bytes"),
            "bytes_per_s": _times(tier.bytes_per_s, ratios, f"{tier.name}.rate"),
        }
        made[id(tier)] = replace(tier, **numbers)
    return made[id(tier)]


def _calibration(calibration: Calibration, ratios: Ratios) -> Calibration:
    numbers: Any = {
        "hop_s": _times(calibration.hop_s, ratios, "hop"),
        "scale_out_hop_s": _times(calibration.scale_out_hop_s, ratios, "scale_out_hop"),
        "operation_floor_s": _times(calibration.operation_floor_s, ratios, KERNEL_FLOORS),
    }
    if KERNEL_FLOORS in ratios or UNIT_LOADS in ratios:
        places = {**dict.fromkeys(_KERNEL_SECONDS, KERNEL_FLOORS), "unit_bytes_per_s": UNIT_LOADS}
        kernels = calibration.kernels
        numbers["kernels"] = Later(kernels, lambda key: _scaled_fields(kernels[key], places, ratios))
    if COLLECTIVE_FLOORS in ratios or "hop" in ratios:
        collectives = calibration.collectives
        numbers["collectives"] = Later(collectives, lambda key: _collective(collectives[key], ratios))
    return replace(calibration, **numbers)


def _collective(one: Collective, ratios: Ratios) -> Collective:
    """A collective scaled: its own rows as such; without any, its floor is of two hops."""
    if np.ndim(one.measured) == 0:
        place = COLLECTIVE_FLOORS if one.measured else "hop"
        scaled_one: Collective = _scaled_fields(one, dict.fromkeys(_COLLECTIVE_SECONDS, place), ratios)
        return scaled_one
    own, hop = (ratios.get(name, 1.0) for name in (COLLECTIVE_FLOORS, "hop"))
    both = {"": np.where(np.asarray(one.measured) != 0.0, own, hop)}
    mixed: Collective = _scaled_fields(one, dict.fromkeys(_COLLECTIVE_SECONDS, ""), both)
    return mixed


def has_engine_seconds(software: Software) -> bool:
    """Whether the engine adds any seconds of its own."""
    return any(present(getattr(software, name)) for name in _ENGINE_SECONDS)


def _software(software: Software, ratios: Ratios) -> Software:
    if ENGINE_SECONDS not in ratios:
        return software
    changed: Software = _scaled_fields(software, dict.fromkeys(_ENGINE_SECONDS, ENGINE_SECONDS), ratios)
    return changed


def _scaled_fields(value: Any, places: dict[str, str], ratios: Ratios) -> Any:
    """A dataclass with these fields multiplied, each by the ratio of its place; zeros stay what they are."""
    changes = {
        name: number * ratios[place]
        for name, place in places.items()
        if place in ratios and np.any(number := getattr(value, name))
    }
    return replace(value, **changes) if changes else value


def _times(number: Any, ratios: Ratios, place: str) -> Any:
    return number * ratios[place] if place in ratios else number


def taken(conditions: Conditions, places: npt.NDArray[np.intp]) -> Conditions:
    """A stack with its chips taken at these places, which may repeat."""
    result: Conditions = _taken(conditions, places, {})
    return result


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    """The fields that a dataclass is made of."""
    return tuple(field.name for field in fields(kind) if field.init)


def _taken(value: Any, places: npt.NDArray[np.intp], made: dict[int, Any]) -> Any:
    """As `taken`; the same object for the same object, and the object itself if it holds no array."""
    if isinstance(value, np.ndarray):
        return value[places]
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Later):
        return Later(value, lambda key: _taken(value[key], places, made))
    if isinstance(value, dict):
        parts = {key: _taken(one, places, made) for key, one in value.items()}
        return parts if any(parts[key] is not value[key] for key in parts) else value
    if isinstance(value, tuple):
        items = tuple(_taken(one, places, made) for one in value)
        return items if any(one is not other for one, other in zip(items, value, strict=True)) else value
    if not is_dataclass(value) or isinstance(value, type):
        return value
    if id(value) not in made:
        changed = {
            name: after
            for name in _names(type(value))
            if (after := _taken(before := getattr(value, name), places, made)) is not before
        }
        if isinstance(value, Chip) and value.stacked:
            changed["stacked"] = len(places)
        made[id(value)] = replace(value, **changed) if changed else value
    return made[id(value)]
