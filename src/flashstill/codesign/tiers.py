"""Where bytes can be kept beside a chip: its own SRAM, HBM and host DRAM, drives of flash, and high-bandwidth flash.

    flash   drives x (bytes, bytes/s, accesses/s), over the link to the host; energy: drive + link + the chip's path
    hbf     stacks of flash on the package in place of the chip's DRAM, over the same path; announced, not built

A byte is kept in the faster of two tiers, or fetched from the slower when it is wanted (Gray and Putzolu 1987):

    kept      a share of the faster tier's bytes costs the same share of the machine:  bytes / B_fast  x  $/s
    fetched   the machine waits for it:  bytes / w_slow  x  $/s  each time
    equal     at one use in  B_fast / w_slow  seconds, whatever its size and the machine's price
"""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.errors import BadInput, MissingFact, unknown
from flashstill.facts import Facts
from flashstill.hardware import Chip, Memory
from flashstill.units import BITS_PER_BYTE, PICO

FLASH, HBF = "flash", "hbf"
TIERS = ("sram", "memory", "host", FLASH, HBF)
"""names that a plan may use; which of them a chip has is another matter"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """A tier beside one chip. accesses_per_s: reads at random places, each of `access_bytes`; None: any byte alike."""

    memory: Memory
    accesses_per_s: float | None = None
    access_bytes: float = 1.0
    note: str = ""

    @property
    def name(self) -> str:
        """sram, memory, host, flash or hbf."""
        return self.memory.name


def store_of(facts: Facts, chip: Chip, name: str) -> Store:
    """A tier of a chip by name; BadInput for an unknown one, MissingFact where the chip has nothing of the kind."""
    if name not in TIERS:
        raise BadInput(unknown("tier", name, TIERS))
    if name not in (FLASH, HBF):
        return Store(memory=chip.tier(name))
    count = facts.value(name, "drives_per_chip")
    cells = {f"{name} cells": facts.value(name, "pj_per_bit") * BITS_PER_BYTE * PICO}
    inside = {segment: joules for segment, joules in chip.memory.joules_per_byte.items() if "cells" not in segment}
    rate = count * facts.value(name, "drive_bytes_per_s")
    if name == FLASH:
        rate, cells = _over_the_host(facts, chip, rate, cells)
    size = count * facts.value(name, "drive_bytes")
    return Store(
        memory=Memory(name=name, bytes=size, visible_bytes=size, bytes_per_s=rate, joules_per_byte=cells | inside),
        accesses_per_s=min(count * facts.value(name, "accesses_per_s"), rate / facts.value(name, "access_bytes")),
        access_bytes=facts.value(name, "access_bytes"),
        note=f"{chip.name} with {count:g} stacks of high-bandwidth flash in place of its DRAM is not built"
        if name == HBF
        else "",
    )


def stores_of(facts: Facts, chip: Chip) -> list[Store]:
    """All tiers that a chip has or could have, the fastest first."""
    found = []
    for name in TIERS:
        try:
            found.append(store_of(facts, chip, name))
        except MissingFact:
            continue
    return sorted(found, key=lambda store: -store.memory.bytes_per_s)


def break_even_seconds(fast: Store, slow: Store) -> float:
    """Seconds between two uses of a byte at which keeping it in the faster tier costs what fetching it does."""
    return fast.memory.visible_bytes / slow.memory.bytes_per_s


def _over_the_host(facts: Facts, chip: Chip, rate: float, cells: dict[str, float]) -> tuple[float, dict[str, float]]:
    link = facts.find(chip.name, "host_link_bytes_per_s")
    if link is None:
        raise MissingFact(f"{chip.name} has no row host_link_bytes_per_s, over which it would read drives of flash")
    energy = facts.find(chip.name, "host_link_pj_per_bit") or facts.find(chip.chip_class, "host_link_pj_per_bit")
    if energy is None:
        raise MissingFact(f"{chip.name} has no row host_link_pj_per_bit, over which it would read drives of flash")
    return min(rate, link.value), cells | {"link to the host": energy.value * BITS_PER_BYTE * PICO}
