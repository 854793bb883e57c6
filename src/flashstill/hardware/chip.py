"""A chip, built from fact rows.  No number about a chip stands in this file.

Energy of a byte on its way to the multiplier, in pJ per bit:

    from memory:  device + PHY, controller and caches + wire x crossing x die edge
    from SRAM:    large array x logic ratio of the node / 8 + wire x crossing x die edge
    from host:    device + link to the host + PHY, controller and caches + wire x crossing x die edge

Wires do not scale with the node, only the arrays do (Keckler et al. 2011; Jouppi et al. 2021, table 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flashstill.errors import BadInput, MissingFact
from flashstill.facts import Facts
from flashstill.facts.table import Machine
from flashstill.hardware.calibration import Calibration, calibration_of
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
class Chip:
    """An accelerator. flops_per_s and joules_per_mac by precision; tiers: the chip's DRAM if any, its SRAM,
    the host's memory.

    compute_units: processors among which a GPU deals its tiles, 0 where tiles are no matter.
    matrix_edge: side of the systolic array, 0 without one.
    operand_joules_per_mac: registers and nearest SRAM that feed a multiplier.
    on_chip_bytes: cache or SRAM for activations.
    active_w: clocks and leakage of a working chip, beyond idle_w.
    torus_axes: 0 for a switch.  wrap_edge: shortest axis that closes into a ring.  torus_shape: edges of the slice,
    longest first; empty for those of `slice_edges`.  domain: chips that the fast links join; beyond it
    scale_out_bytes_per_s holds.
    """

    name: str
    title: str
    chip_class: str
    flops_per_s: dict[str, float]
    joules_per_mac: dict[str, float]
    operand_joules_per_mac: dict[str, float]
    tiers: tuple[Memory, ...]
    on_chip_bytes: float
    on_chip_joules_per_byte: float
    compute_units: int
    matrix_edge: int
    link_bytes_per_s: float
    link_joules_per_byte: float
    torus_axes: int
    wrap_edge: int
    domain: int
    scale_out_bytes_per_s: float
    scale_out_joules_per_byte: float
    power_limit_w: float
    idle_w: float
    active_w: float
    server_power_ratio: float
    calibration: Calibration
    torus_shape: tuple[int, ...] = ()

    @property
    def static_w(self) -> float:
        """Drawn while it works, whatever it works on: leakage and running clocks."""
        return self.idle_w + self.active_w

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


# A chip without multipliers for a narrow format widens such weights to 16 bits on the way, as engines do; the other
# formats of the same width come last, as the values would have to be rounded anew.
_WIDER = {
    "fp4": ("bf16", "fp16", "fp8", "fp32", "int8"),
    "int4": ("bf16", "fp16", "int8", "fp8", "fp32"),
    "int2": ("bf16", "fp16", "int8", "fp8", "fp32"),
    "fp8": ("bf16", "fp16", "fp32", "int8"),
    "fp8-block": ("fp8", "bf16", "fp16", "fp32", "int8"),
    "int8": ("bf16", "fp16", "fp32", "fp8"),
    "bf16": ("fp16", "fp32", "fp8", "int8"),
    "fp16": ("bf16", "fp32", "fp8", "int8"),
    "fp32": ("bf16", "fp16"),
}
BYTES_PER_VALUE = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "fp8-block": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "int4": 0.5,
    "int2": 0.25,
}


def known_chips(facts: Facts) -> list[str]:
    """Every machine that has enough rows to be priced."""
    return [name for name in facts.machines if facts.find(name, "flops_per_s") is not None]


def chip_from_facts(facts: Facts, name: str) -> Chip:
    """The chip called `name` in any case; MissingFact where it is unknown or a number is missing."""
    machine = facts.machine(name)
    return facts.derived(("chip", machine.name), lambda: _chip(facts, machine))


def _chip(facts: Facts, machine: Machine) -> Chip:
    name, kind = machine.name, machine.chip_class

    def number(quantity: str) -> float:
        """The chip's own row where it has one, else that of its class."""
        own = facts.find(name, quantity)
        return own.value if own else facts.value(kind, quantity)

    def optional(quantity: str, default: float = 0.0) -> float:
        found = facts.find(name, quantity) or facts.find(kind, quantity)
        return found.value if found else default

    node = int(number("process_nm"))
    ratio = facts.value(f"node-{node}", "logic_energy_ratio")
    flops = {fact.condition.split()[0]: fact.value for fact in facts.rows.get((name, "flops_per_s"), ())}
    if not flops and facts.find(name, "hardwired_tokens_per_s"):
        raise BadInput(f"{name} has one model in its wiring: `flashstill predict` answers for it, nothing else can")
    if not flops:
        raise MissingFact(
            f"no fact row gives flops_per_s of {name}; run `flashstill measure` or add one with --facts DIR"
        )
    per_mac = ratio * optional("mac_energy_ratio", 1.0) * PICO
    macs = {precision: facts.value("mac", "pj_per_mac", precision) * per_mac for precision in flops}
    operand = optional("operand_energy_ratio")
    crossing_mm = facts.value(kind, "crossing_ratio") * math.sqrt(number("die_mm2"))
    wire = facts.value("wire", "pj_per_bit_mm") * crossing_mm * BITS_PER_BYTE * PICO
    axes = int(optional("torus_axes"))
    wiring = "host-network" if kind in ("sram", "cpu") else ("ici" if axes else "nvlink")
    return Chip(
        name=name,
        title=machine.title,
        chip_class=kind,
        flops_per_s=flops,
        joules_per_mac=macs,
        operand_joules_per_mac={precision: joules * operand for precision, joules in macs.items()},
        tiers=_tiers(facts, name, kind, ratio, wire),
        on_chip_bytes=optional("cache_bytes") or optional("sram_bytes"),
        on_chip_joules_per_byte=facts.value("sram-far", "pj_per_byte") * ratio * PICO + wire,
        compute_units=int(optional("compute_units")) if kind == "gpu" else 0,
        matrix_edge=int(optional("matrix_edge")),
        link_bytes_per_s=optional("link_bytes_per_s"),
        link_joules_per_byte=facts.value(wiring, "pj_per_bit") * BITS_PER_BYTE * PICO,
        torus_axes=axes,
        wrap_edge=int(optional("wrap_edge", 1.0)),
        domain=int(optional("link_domain_chips", 1.0)),
        scale_out_bytes_per_s=optional("scale_out_bytes_per_s"),
        scale_out_joules_per_byte=facts.value("host-network", "pj_per_bit") * BITS_PER_BYTE * PICO,
        power_limit_w=number("power_limit_w"),
        active_w=optional("active_power_ratio") * number("power_limit_w"),
        idle_w=optional("idle_w") if facts.find(name, "idle_w") else 0.0,
        server_power_ratio=facts.value(kind, "server_power_ratio"),
        calibration=calibration_of(facts, (name, kind)),
    )


def _tiers(facts: Facts, name: str, kind: str, node_ratio: float, wire: float) -> tuple[Memory, ...]:
    """DRAM, SRAM and the host's memory, as far as the rows know them."""
    across, path = {"wires across the die": wire}, facts.value(kind, "memory_path_pj_per_bit")
    found = [
        _dram(facts, name, path, across),
        _sram(facts, name, node_ratio, across),
        _host(facts, name, kind, path, across),
    ]
    tiers = tuple(tier for tier in found if tier is not None)
    if not tiers or tiers[0].name == "host":
        raise MissingFact(f"no fact row gives the memory of {name}; add memory_bytes or sram_bytes with --facts DIR")
    return tiers


def _dram(facts: Facts, name: str, path_pj_per_bit: float, across: dict[str, float]) -> Memory | None:
    memory = facts.find(name, "memory_bytes")
    if memory is None:
        return None
    way = {
        f"{memory.condition} cells": _per_byte(facts.value(memory.condition.lower(), "pj_per_bit")),
        "PHY, controller, caches": _per_byte(path_pj_per_bit),
    }
    rate = facts.value(name, "memory_bytes_per_s")
    return Memory(name="memory", bytes=memory.value, bytes_per_s=rate, joules_per_byte=way | across)


def _sram(facts: Facts, name: str, node_ratio: float, across: dict[str, float]) -> Memory | None:
    near, rate = facts.find(name, "sram_bytes"), facts.find(name, "sram_bytes_per_s")
    if near is None or rate is None:
        return None
    way = {"SRAM array": facts.value("sram-far", "pj_per_byte") * node_ratio * PICO}
    return Memory(name="sram", bytes=near.value, bytes_per_s=rate.value, joules_per_byte=way | across)


def _host(facts: Facts, name: str, kind: str, path_pj_per_bit: float, across: dict[str, float]) -> Memory | None:
    """DRAM behind the host's link, or a third tier of the chip's own, which has host_bytes_per_s."""
    own = facts.find(name, "host_bytes_per_s")
    held = facts.find(name, "host_bytes") or facts.find(kind, "host_bytes")
    rate = own or facts.find(name, "host_link_bytes_per_s")
    link = facts.find(name, "host_link_pj_per_bit") or facts.find(kind, "host_link_pj_per_bit")
    if held is None or rate is None or (own is None and link is None):
        return None
    way = {
        f"{held.condition} cells": _per_byte(facts.value(held.condition.lower(), "pj_per_bit")),
        "link to the host": 0.0 if own or link is None else _per_byte(link.value),
        "PHY, controller, caches": _per_byte(path_pj_per_bit),
    }
    return Memory(name="host", bytes=held.value, bytes_per_s=rate.value, joules_per_byte=way | across)


def _per_byte(pj_per_bit: float) -> float:
    return pj_per_bit * BITS_PER_BYTE * PICO
