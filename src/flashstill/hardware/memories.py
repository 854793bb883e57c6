"""The memory tiers of a chip, and the energy to move one byte from each.

Energy from a tier to the multiplier, in pJ per bit:

    from memory:  device + PHY, controller and caches + wire x crossing x die edge
    from SRAM:    large array x logic ratio of the node / 8 + wire x crossing x die edge
    from host:    device + link to the host + PHY, controller and caches + wire x crossing x die edge

Wire energy does not scale with the process node, array energy does (Keckler et al. 2011; Jouppi et al. 2021, table 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from flashstill.errors import MissingFact
from flashstill.hardware.needs import Needs
from flashstill.units import BITS_PER_BYTE, PICO

DRAM = "memory"
"""the memory tier in which an engine keeps its own buffers"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """A memory tier of one chip. joules_per_byte: energy from its cells to the multiplier, by segment of the path.

    bytes: nominal capacity.  visible_bytes: capacity reported by the driver and usable by programs; nominal if no row.
    buffered: 1 for the memory in which an engine keeps its own buffers, 0 for others; None: as the name says.
    """

    name: str
    bytes: float
    visible_bytes: float
    bytes_per_s: float
    joules_per_byte: dict[str, float]
    buffered: float | None = None
    joules_per_byte_total: float = field(init=False, repr=False, compare=False)
    """energy over all segments, J/byte"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "joules_per_byte_total", sum(self.joules_per_byte.values()))

    @property
    def holds_buffers(self) -> float:
        """1 for the memory in which an engine keeps its own buffers, else 0."""
        return float(self.name == DRAM) if self.buffered is None else self.buffered

    @property
    def finite_bytes_per_s(self) -> float | None:
        """The bandwidth; None for wiring, from which nothing is moved (wiring.py)."""
        return None if self.bytes_per_s == inf else self.bytes_per_s


def memory_tiers(needs: Needs, node_ratio: float, wire: float) -> tuple[Memory, ...]:
    """DRAM, SRAM and host memory, those that have rows; the first is the default tier."""
    across, path = {"wires across the die": wire}, needs.number("memory_path_pj_per_bit")
    candidates = [_dram(needs, path, across), _sram(needs, node_ratio, across), _host(needs, path, across)]
    tiers = tuple(tier for tier in candidates if tier is not None)
    if not tiers or tiers[0].name == "host":
        needs.missing.append("memory_bytes and memory_bytes_per_s, or sram_bytes and sram_bytes_per_s")
    return tiers


def _dram(needs: Needs, path_pj_per_bit: float, across: dict[str, float]) -> Memory | None:
    facts, name = needs.facts, needs.name
    size, rate = facts.find(name, "memory_bytes"), facts.find(name, "memory_bytes_per_s")
    if size is None:
        if rate is not None:
            needs.missing.append("memory_bytes")
        return None
    if not size.condition:
        raise MissingFact(f"the condition of memory_bytes of {name} must name the memory, as in HBM3e")
    visible = facts.find(name, "memory_visible_bytes")
    segments = {
        f"{size.condition} cells": _per_byte(needs.of(size.condition.lower(), "pj_per_bit")),
        "PHY, controller, caches": _per_byte(path_pj_per_bit),
    }
    return Memory(
        name=DRAM,
        bytes=size.value,
        # A what-if edit of memory_bytes sets both capacities.
        visible_bytes=visible.value if visible is not None and size.kind != "what-if" else size.value,
        bytes_per_s=needs.number("memory_bytes_per_s"),
        joules_per_byte=segments | across,
    )


def _sram(needs: Needs, node_ratio: float, across: dict[str, float]) -> Memory | None:
    near, rate = needs.facts.find(needs.name, "sram_bytes"), needs.facts.find(needs.name, "sram_bytes_per_s")
    if near is None or rate is None:
        return None
    segments = {"SRAM array": needs.of("sram-far", "pj_per_byte") * node_ratio * PICO}
    return Memory(
        name="sram",
        bytes=near.value,
        visible_bytes=near.value,
        bytes_per_s=rate.value,
        joules_per_byte=segments | across,
    )


def _host(needs: Needs, path_pj_per_bit: float, across: dict[str, float]) -> Memory | None:
    """Host DRAM reached over the host link, or a third memory tier of the chip; needs host_bytes_per_s."""
    facts, name, kind = needs.facts, needs.name, needs.kind
    own = facts.find(name, "host_bytes_per_s")
    size = facts.find(name, "host_bytes") or facts.find(kind, "host_bytes")
    rate = own or facts.find(name, "host_link_bytes_per_s")
    link = facts.find(name, "host_link_pj_per_bit") or facts.find(kind, "host_link_pj_per_bit")
    if size is None or rate is None or (own is None and link is None):
        return None
    segments = {
        f"{size.condition} cells": _per_byte(needs.of(size.condition.lower(), "pj_per_bit")),
        "link to the host": 0.0 if own or link is None else _per_byte(link.value),
        "PHY, controller, caches": _per_byte(path_pj_per_bit),
    }
    return Memory(
        name="host",
        bytes=size.value,
        visible_bytes=size.value,
        bytes_per_s=rate.value,
        joules_per_byte=segments | across,
    )


def _per_byte(pj_per_bit: float) -> float:
    return pj_per_bit * BITS_PER_BYTE * PICO
