"""A chip, built from fact rows.  No number about a chip stands in this file.

Energy of a byte on its way to the multiplier, in pJ per bit:

    from memory:  device + PHY, controller and caches + wire x crossing x die edge
    from SRAM:    large array x logic ratio of the node / 8 + wire x crossing x die edge

Wires do not scale with the node, only the arrays do (Keckler et al. 2011; Jouppi et al. 2021, table 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flashstill.errors import MissingFact
from flashstill.facts import Facts
from flashstill.units import BITS_PER_BYTE, PICO


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """A memory tier of one chip. joules_per_byte: from its cells to the multiplier, by part of the way."""

    name: str
    bytes: float
    bytes_per_s: float
    joules_per_byte: dict[str, float]

    @property
    def joules_per_byte_total(self) -> float:
        """The whole way."""
        return sum(self.joules_per_byte.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How close a class of chips comes to its peaks, and what every operation costs at least."""

    matmul_efficiency: float
    memory_efficiency: float
    operation_floor_s: float
    link_efficiency: float
    hop_s: float


PERFECT = Calibration(
    matmul_efficiency=1.0, memory_efficiency=1.0, operation_floor_s=0.0, link_efficiency=1.0, hop_s=0.0
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """An accelerator. flops_per_s and joules_per_mac by precision; tiers from the largest memory to the nearest."""

    name: str
    title: str
    chip_class: str
    flops_per_s: dict[str, float]
    joules_per_mac: dict[str, float]
    tiers: tuple[Memory, ...]
    link_bytes_per_s: float
    link_joules_per_byte: float
    torus_axes: int
    power_limit_w: float
    idle_w: float
    server_power_ratio: float
    calibration: Calibration

    @property
    def memory(self) -> Memory:
        """The tier that holds weights and KV cache unless placement says otherwise: DRAM if there is any."""
        return self.tiers[0]

    def tier(self, name: str) -> Memory:
        """A tier by name; MissingFact lists those that the chip has."""
        for memory in self.tiers:
            if memory.name == name:
                return memory
        held = ", ".join(memory.name for memory in self.tiers)
        raise MissingFact(f"{self.name} has no memory called {name!r} with a bandwidth; it has {held}")

    def precision(self, wanted: str) -> str:
        """The precision in which the multipliers run: `wanted`, or the next wider one that the chip has."""
        if wanted in self.flops_per_s:
            return wanted
        for wider in _WIDER.get(wanted, ()):
            if wider in self.flops_per_s:
                return wider
        held = ", ".join(sorted(self.flops_per_s))
        raise MissingFact(f"{self.name} has no multiply rate for {wanted} or anything wider; it has {held}")


_WIDER = {
    "fp4": ("fp8", "int8", "bf16", "fp16", "fp32"),
    "int4": ("int8", "bf16", "fp16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"),
    "int8": ("bf16", "fp16", "fp32"),
    "bf16": ("fp16", "fp32"),
    "fp16": ("bf16", "fp32"),
}
BYTES_PER_VALUE = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5}


def known_chips(facts: Facts) -> list[str]:
    """Every machine that has enough rows to be priced."""
    return [name for name in facts.machines if facts.find(name, "flops_per_s") is not None]


def chip_from_facts(facts: Facts, name: str) -> Chip:
    """The chip called `name` in any case; MissingFact where it is unknown or a number is missing."""
    machine = facts.machine(name)
    name, kind = machine.name, machine.chip_class

    def number(quantity: str) -> float:
        """The chip's own row where it has one, else that of its class."""
        own = facts.find(name, quantity)
        return own.value if own else facts.value(kind, quantity)

    node = int(number("process_nm"))
    ratio = facts.value(f"node-{node}", "logic_energy_ratio")
    flops = {fact.condition.split()[0]: fact.value for fact in facts.rows.get((name, "flops_per_s"), ())}
    if not flops:
        raise MissingFact(
            f"no fact row gives flops_per_s of {name}; run `flashstill measure` or add one with --facts DIR"
        )
    macs = {precision: facts.value("mac", "pj_per_mac", precision) * ratio * PICO for precision in flops}
    crossing_mm = facts.value(kind, "crossing_ratio") * math.sqrt(number("die_mm2"))
    wire = facts.value("wire", "pj_per_bit_mm") * crossing_mm * BITS_PER_BYTE * PICO
    idle = facts.find(name, "idle_w")
    link = facts.find(name, "link_bytes_per_s")
    axes = int(facts.value(name, "torus_axes")) if facts.find(name, "torus_axes") else 0
    wiring = "host-network" if kind in ("sram", "cpu") else ("ici" if axes else "nvlink")
    return Chip(
        name=name,
        title=machine.title,
        chip_class=kind,
        flops_per_s=flops,
        joules_per_mac=macs,
        tiers=_tiers(facts, name, ratio, wire, facts.value(kind, "memory_path_pj_per_bit")),
        link_bytes_per_s=link.value if link else 0.0,
        link_joules_per_byte=facts.value(wiring, "pj_per_bit") * BITS_PER_BYTE * PICO,
        torus_axes=axes,
        power_limit_w=number("power_limit_w"),
        idle_w=idle.value if idle else 0.0,
        server_power_ratio=facts.value(kind, "server_power_ratio"),
        calibration=Calibration(
            matmul_efficiency=number("matmul_efficiency"),
            memory_efficiency=number("memory_efficiency"),
            operation_floor_s=number("operation_floor_s"),
            link_efficiency=number("link_efficiency"),
            hop_s=number("hop_s"),
        ),
    )


def _tiers(facts: Facts, name: str, node_ratio: float, wire: float, path_pj_per_bit: float) -> tuple[Memory, ...]:
    tiers = []
    memory = facts.find(name, "memory_bytes")
    if memory is not None:
        device = facts.value(memory.condition.lower(), "pj_per_bit") * BITS_PER_BYTE * PICO
        path = path_pj_per_bit * BITS_PER_BYTE * PICO
        tiers.append(
            Memory(
                name="memory",
                bytes=memory.value,
                bytes_per_s=facts.value(name, "memory_bytes_per_s"),
                joules_per_byte={
                    f"{memory.condition} cells": device,
                    "PHY, controller, caches": path,
                    "wires across the die": wire,
                },
            )
        )
    near, rate = facts.find(name, "sram_bytes"), facts.find(name, "sram_bytes_per_s")
    if near is not None and rate is not None:
        array = facts.value("sram-far", "pj_per_byte") * node_ratio * PICO
        tiers.append(
            Memory(
                name="sram",
                bytes=near.value,
                bytes_per_s=rate.value,
                joules_per_byte={"SRAM array": array, "wires across the die": wire},
            )
        )
    if not tiers:
        raise MissingFact(f"no fact row gives the memory of {name}; add memory_bytes or sram_bytes with --facts DIR")
    return tuple(tiers)
