"""A chip derived from a model: its dies and their area by part, its package, and what it can do a second.

    variant     where the weights are
    sram        in the SRAM of all chips of the machine, with the KV cache
    hbm         in HBM stacks, with the KV cache; SRAM buffers activations
    hardwired   in the wiring: nothing is moved for them, and the chip runs no other model; the KV cache is in SRAM

`machine` packages work together on one copy of the model.  A package holds equal dies (chiplets, if more than one).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from flashstill.economics.bill_of_materials import Package

SRAM, HBM, HARDWIRED = "sram", "hbm", "hardwired"
VARIANTS = (SRAM, HBM, HARDWIRED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Area:
    """mm2 of one die, by part; the parts sum to the die.

    sram: arrays with their periphery.  multipliers: with their registers.  wired_weights: weights in the wiring.
    memory_phy: HBM interfaces with controllers.  links: SerDes to other chips.  die_to_die: to the other chiplets.
    host: PCIe and management.  other: network on chip, sequencers, vector units, clocks, gaps of the floor plan.
    """

    sram: float
    multipliers: float
    wired_weights: float
    memory_phy: float
    links: float
    die_to_die: float
    host: float
    other: float

    @property
    def mm2(self) -> float:
        """All of it."""
        inside = self.sram + self.multipliers + self.wired_weights + self.memory_phy
        return inside + self.links + self.die_to_die + self.host + self.other


@dataclass(frozen=True, kw_only=True, slots=True)
class ChipDesign:
    """One design. Quantities are of one package, `area` and the sides of one die, `chips` of a machine.

    name: of the chip in the fact rows (rows.py).  node_nm: process.  model, parameters: what it was derived from.
    precision: format of the weights, "published" for those of the checkpoint.  kv_precision: format of the cache.
    chips: packages that hold one copy of the model and the wanted sequences, split into tp x pp of them.
    flops_per_s: by format.  sram_bytes_per_s: all arrays together.  memory: type of the stacks, "" without.
    link_bytes_per_s: to other packages, one direction, all links; 0 for a machine of one package.
    concurrency, context: sequences and tokens of each that the machine was sized for.
    evaluated: designs that could be built.  infeasible: why others could not, or broke a bound, counted.
    """

    name: str
    variant: str
    node_nm: int
    model: str
    parameters: float
    precision: str
    kv_precision: str
    area: Area
    width_mm: float
    height_mm: float
    package: Package
    chips: int
    tp: int
    pp: int
    flops_per_s: dict[str, float]
    sram_bytes: float
    sram_bytes_per_s: float
    memory: str
    memory_bytes: float
    memory_bytes_per_s: float
    link_bytes_per_s: float
    power_limit_w: float
    idle_w: float
    operation_floor_s: float | None
    concurrency: int
    context: int
    evaluated: int = 1
    infeasible: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def dies_per_package(self) -> int:
        """Chiplets of a package."""
        return sum(die.count for die in self.package.dies)

    @property
    def dies(self) -> int:
        """Dies of a machine."""
        return self.chips * self.dies_per_package

    @property
    def package_mm2(self) -> float:
        """Silicon of one package, memory apart."""
        return sum(die.count * die.mm2 for die in self.package.dies)

    @property
    def machine_mm2(self) -> float:
        """Silicon of a machine, memory apart."""
        return self.chips * self.package_mm2

    def as_dict(self) -> dict[str, Any]:
        """The design as a JSON document."""
        return {
            **asdict(self),
            "notes": list(self.notes),
            "die_mm2": self.area.mm2,
            "dies_per_package": self.dies_per_package,
            "dies": self.dies,
            "machine_mm2": self.machine_mm2,
        }
