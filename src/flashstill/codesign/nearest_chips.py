"""How a design differs from chips that exist: the nearest in log space, and the ratio of each number.

distance = root mean square of ln(design / chip) over the numbers that both have, at least four of them
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flashstill.facts import Facts
from flashstill.hardware import known_chips

_LEAST = 4
"""numbers that a chip must share with a design to be compared"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Near:
    """A chip that exists. ratios: of the design's numbers over its own.  distance: in ln."""

    chip: str
    title: str
    year: int
    distance: float
    ratios: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The comparison as a JSON document."""
        return {"chip": self.chip, "title": self.title, "year": self.year, "distance": self.distance,
                "ratios": self.ratios}  # fmt: skip


def numbers_of(facts: Facts, chip: str) -> dict[str, float]:
    """The numbers of a chip that exists, by the names that designs have: peaks by format, memory, links, watts, die."""
    found = {f"flops_per_s.{row.condition.split()[0]}": row.value for row in facts.rows.get((chip, "flops_per_s"), ())}
    if "flops_per_s.bf16" not in found and "flops_per_s.fp16" in found:
        found["flops_per_s.bf16"] = found["flops_per_s.fp16"]
    names = ("memory_bytes", "memory_bytes_per_s", "sram_bytes", "link_bytes_per_s", "power_limit_w", "die_mm2")
    rows = {name: facts.find(chip, name) for name in names}
    return found | {name: row.value for name, row in rows.items() if row is not None and row.value > 0.0}


def nearest(facts: Facts, design: Mapping[str, float], count: int = 3) -> list[Near]:
    """The nearest chips, nearest first; SRAM counts only where memory is none, as caches are seldom comparable."""
    mine = {name: value for name, value in design.items() if value > 0.0}
    if mine.get("memory_bytes"):
        mine.pop("sram_bytes", None)
    found = []
    for name in known_chips(facts):
        theirs = numbers_of(facts, name)
        shared = [key for key in mine if key in theirs]
        if len(shared) < _LEAST or bool(mine.get("memory_bytes")) != bool(theirs.get("memory_bytes")):
            continue
        ratios = {key: mine[key] / theirs[key] for key in shared}
        distance = math.sqrt(sum(math.log(ratio) ** 2 for ratio in ratios.values()) / len(ratios))
        machine = facts.machine(name)
        found.append(Near(chip=name, title=machine.title, year=machine.year, distance=distance, ratios=ratios))
    return sorted(found, key=lambda one: (one.distance, one.chip))[:count]
