"""Energy to bring one byte to a multiplier, from each place where a byte can be, by segment of the way.

These are the energies that the cost arm charges:

near SRAM    registers and nearest SRAM that feed a multiplier: their energy of one multiply-accumulate over the bytes
             of its two operands
across       SRAM on the other side of the die, in which activations lie
tiers        memory, SRAM or host memory that weights and cache are read from (memories.py)
links        one hop to another chip, and the network beyond the domain of fast links
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flashstill.hardware.chip import Chip
from flashstill.hardware.formats import BYTES_PER_VALUE
from flashstill.hardware.wiring import WIRING
from flashstill.units import PICO

NEAR, ACROSS, LINK, NETWORK = "near SRAM and registers", "SRAM across the die", "link to a chip", "network"
OPERANDS = 2.0
"""of a multiply-accumulate"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteEnergy:
    """A place: its name, whether it is on the die, and picojoules per byte by segment of the way."""

    place: str
    on_die: bool
    segments: Mapping[str, float]

    @property
    def pj_per_byte(self) -> float:
        """Over all segments."""
        return sum(self.segments.values())


def byte_energies(chip: Chip, precision: str) -> tuple[ByteEnergy, ...]:
    """From the nearest place to the farthest kind. precision: in which the chip multiplies (of `chip.flops_per_s`)."""
    width = BYTES_PER_VALUE.get(precision)
    near = None if width is None else chip.operand_joules_per_mac[precision] / (OPERANDS * width)
    places = []
    if near:  # 0: the rows of a multiply hold it, and nothing is charged beside them
        places.append(ByteEnergy(place=NEAR, on_die=True, segments={f"operands in {precision}": near / PICO}))
    places.append(ByteEnergy(place=ACROSS, on_die=True, segments={ACROSS: chip.on_chip_joules_per_byte / PICO}))
    for tier in chip.tiers:
        if tier.name != WIRING:
            segments = {name: joules / PICO for name, joules in tier.joules_per_byte.items()}
            places.append(ByteEnergy(place=tier.name, on_die=tier.name == "sram", segments=segments))
    if chip.topology.link_bytes_per_s:
        places.append(ByteEnergy(place=LINK, on_die=False, segments={LINK: chip.topology.link_joules_per_byte / PICO}))
        joules = chip.system.scale_out_joules_per_byte
        places.append(ByteEnergy(place=NETWORK, on_die=False, segments={NETWORK: joules / PICO}))
    return tuple(places)


def energies_document(chip: Chip) -> dict[str, dict[str, float]]:
    """Picojoules per byte by place and segment, as `chips NAME --json` prints them; operands in every precision."""
    document: dict[str, dict[str, float]] = {}
    for precision in chip.flops_per_s:
        for each in byte_energies(chip, precision):
            document.setdefault(each.place, {}).update(each.segments)
    return document
