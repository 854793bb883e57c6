"""Designs as chips: one archetype from fact rows for each structure, then arrays of numbers for many designs.

An archetype is a chip that `chip_from_facts` builds from rows as those of `asic` (asic/rows.py): class npu with memory,
class sram without, made by "own".  Its energies, calibration and software are those of the class.  For many designs
its peaks, memory, links, watts and wires are replaced by arrays (hardware/stacked.py), as their rows would have them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from flashstill.codesign.block_facts import Draw
from flashstill.codesign.design_rows import link_joules, with_design
from flashstill.codesign.designs import AXES_OF, FORMATS, Block, DesignSpace, Links, Memory, Values
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts
from flashstill.hardware import Memory as Tier
from flashstill.hardware.stacked import along
from flashstill.units import BITS_PER_BYTE, PICO

NAME = "design"
WIRES = "wires across the die"
"""the segment of a byte's way that grows with the die (hardware/memories.py)"""
_MM2, _BYTES, _RATE, _WATTS = 100.0, 2.0**30, 1e12, 1000.0
"""of an archetype; what depends on them is replaced"""
_Some = TypeVar("_Some")


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Numbers of many designs, one value each. flops_per_s: by format.  edge: of their arrays, 0 to leave rounding out.

    memory_bytes, memory_bytes_per_s: of the tier that holds the cache.  weights_: of one for weights alone, or 0.
    cells, weights_cells: joules of a byte at the cells of each.
    axes, wrap_edge: of a torus where links differ in them, 0 axes for a switch; None: all as their archetype.
    """

    edge: Values
    flops_per_s: dict[str, Values]
    sram_bytes: Values
    sram_bytes_per_s: Values
    memory_bytes: Values
    memory_bytes_per_s: Values
    weights_bytes: Values
    weights_bytes_per_s: Values
    cells: Values
    weights_cells: Values
    link_bytes_per_s: Values
    link_joules: Values
    domain_chips: Values
    package_mm2: Values
    limit_w: Values
    idle_w: Values
    axes: Values | None = None
    wrap_edge: Values | None = None


def archetype(facts: Facts, block: Block, memory: Memory, links: Links) -> Chip:
    """A chip of the structure that a block's designs with this memory and these links share."""
    kept = (block.on_sram, block.node_nm, block.narrowest, block.edge, memory.kind, memory.weights_kind)
    key = ("archetype", *kept, AXES_OF[links.wiring], bool(links.lanes))
    return facts.derived(key, lambda: _archetype(facts, block, memory, links))


def _archetype(facts: Facts, block: Block, memory: Memory, links: Links) -> Chip:
    formats = FORMATS[: FORMATS.index(block.narrowest) + 1]
    rates = dict.fromkeys((f"flops_per_s.{name}" for name in formats), _RATE)
    sizes = {"sram_bytes": _BYTES, "sram_bytes_per_s": _RATE, "memory_bytes": _BYTES, "memory_bytes_per_s": _RATE}
    others = {"link_bytes_per_s": _RATE, "power_limit_w": _WATTS, "idle_w": 1.0, "die_mm2": _MM2}
    chip = chip_from_facts(with_design(facts, NAME, block, memory, links, {**rates, **sizes, **others}), NAME)
    if memory.weights_kind:
        own = Tier(
            name=memory.weights_kind,
            bytes=_BYTES,
            visible_bytes=_BYTES,
            bytes_per_s=_RATE,
            joules_per_byte={**chip.memory.joules_per_byte},
        )
        chip = replace(chip, tiers=(*chip.tiers, own))
    return chip


def cells_joules(facts: Facts, kind: str) -> float:
    """Joules of a byte at the cells of a kind of memory; 0 for none."""
    return facts.value(kind, "pj_per_bit") * BITS_PER_BYTE * PICO if facts.find(kind, "pj_per_bit") else 0.0


def draw_of(facts: Facts, space: DesignSpace, block: Block) -> Draw:
    """What decides the watts of a block's designs."""
    choices = space.memories_of(block)
    chip = archetype(facts, block, choices[0], space.links[0])
    fixed = _fixed_joules(chip)
    wire = chip.memory.joules_per_byte[WIRES]
    mine = [cells_joules(facts, one.kind) for one in choices]
    own = [cells_joules(facts, one.weights_kind) for one in choices]
    return Draw(
        mac_joules={name: chip.joules_per_mac[name] + chip.operand_joules_per_mac[name] for name in chip.flops_per_s},
        byte_joules=np.array(mine) + fixed,
        weights_byte_joules=np.array(own) + fixed,
        byte_wire=wire / math.sqrt(_MM2),
        link_joules=np.array([link_joules(facts, one) for one in space.links]),
        active_ratio=chip.active_w / chip.power_limit_w,
    )


def _fixed_joules(chip: Chip) -> float:
    """Joules of a byte between cells and wires: interface, controller; of SRAM the array itself."""
    parts = chip.memory.joules_per_byte
    return sum(value for name, value in parts.items() if name != WIRES and not name.endswith(" cells"))


def stacked_chip(chip: Chip, columns: Columns) -> Chip:
    """The designs of `columns` as one stacked chip. chip: their archetype."""
    wire = chip.memory.joules_per_byte[WIRES] * np.sqrt(columns.package_mm2 / _MM2)
    fixed = _fixed_joules(chip)

    def tier(old: Tier, size: Values, rate: Values, cells: Values) -> Tier:
        joules = {"cells, interface, controller": along(cells + fixed), WIRES: along(wire)}
        held = {"bytes": along(size), "visible_bytes": along(size), "bytes_per_s": along(rate)}
        return _replaced(old, **held, joules_per_byte=joules)

    first = chip.memory
    if first.name == "sram":
        tiers = [tier(first, columns.sram_bytes, columns.sram_bytes_per_s, columns.cells)]
    else:
        tiers = [tier(first, columns.memory_bytes, columns.memory_bytes_per_s, columns.cells)]
        tiers += [tier(own, columns.weights_bytes, columns.weights_bytes_per_s, columns.weights_cells)
                  for own in chip.tiers[1:]]  # fmt: skip
    near = chip.on_chip_joules_per_byte - first.joules_per_byte[WIRES]
    linked = bool(chip.topology.link_bytes_per_s)
    sent = {"link_bytes_per_s": along(columns.link_bytes_per_s)} if linked else {}
    if columns.axes is not None and columns.wrap_edge is not None:
        sent |= {"axes": along(columns.axes), "wrap_edge": along(columns.wrap_edge)}
    domain = {"domain_chips": along(columns.domain_chips)} if linked else {}
    return _replaced(
        chip,
        flops_per_s={name: along(rate) for name, rate in columns.flops_per_s.items()},
        tiers=tuple(tiers),
        matrix_edge=along(columns.edge),
        on_chip_bytes=along(columns.sram_bytes),
        on_chip_joules_per_byte=along(near + wire),
        topology=_replaced(chip.topology, link_joules_per_byte=along(columns.link_joules), **sent),
        system=_replaced(chip.system, **domain),
        power_limit_w=along(columns.limit_w),
        idle_w=along(columns.idle_w),
        active_w=along(columns.limit_w * (chip.active_w / chip.power_limit_w)),
        stacked=len(columns.sram_bytes),
    )


def _replaced(value: _Some, **arrays: Any) -> _Some:
    """The value with arrays for numbers: what a stack of chips is (hardware/stacked.py)."""
    return replace(value, **arrays)  # type: ignore[type-var]


def weights_tier(memory: Memory) -> str | None:
    """Name of the tier that holds the weights; None for the main one."""
    return memory.weights_kind or None


def sram_rate(facts: Facts, block: Block, sram_bytes: Values) -> Values:
    """Bytes a second of all arrays together."""
    clock = facts.value(f"node-{block.node_nm}", "clock_hz")
    return sram_bytes * facts.value("sram-macro", "bytes_per_cycle_ratio") * clock


def kinds_of(memories: Sequence[Memory]) -> dict[str, list[int]]:
    """Places of the choices by structure: with a tier of weights of their own, or without."""
    groups: dict[str, list[int]] = {}
    for place, one in enumerate(memories):
        groups.setdefault("apart" if one.weights_kind else "together", []).append(place)
    return groups
