"""What a packaged accelerator costs to make: dies, memory, package, test, and what is lost in assembly.

    die        usd of a wafer / (dies of a wafer x share that is sold)
    package    dollars per mm2 of what stands on it
    lost       all pieces x (1 / y^n - 1) for n pieces, each placed with yield y: a bad one spoils the others

No margin, design or board is included: `asic` adds the first, economics/prices the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from flashstill.economics.wafers import MM2_PER_CM2, dies_per_wafer, wafer_of, yield_with_spares
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.workload import Quantity

INTERPOSER, ORGANIC = "cowos", "organic"
HBM = "hbm"
"""owner of the rows that all generations of HBM share"""


class Rows(Protocol):
    """Values of fact rows: `Facts`, or many draws of each (draws.py)."""

    def value(self, name: str, quantity: str, /) -> Any:
        """One value, or an array of draws."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Die:
    """A die of a package: node_nm; sides; count on one package; equal units of which `needed` must work.

    units_ratio: share of the die's area that its units take; without units every defect spoils the die.
    """

    node_nm: int
    width_mm: float
    height_mm: float
    count: int = 1
    units: int = 0
    needed: int = 0
    units_ratio: float = 0.0

    @property
    def mm2(self) -> float:
        """Area."""
        return self.width_mm * self.height_mm


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """What stands on one package. memory: type of the stacks (as "hbm3e"), or "" for none."""

    dies: tuple[Die, ...]
    memory: str = ""
    memory_bytes: float = 0.0
    stacks: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class BillOfMaterials:
    """Dollars of one package that works: `lost` is what assembly spoils. Arrays where the rows are drawn (draws.py)."""

    dies_usd: Quantity
    memory_usd: Quantity
    package_usd: Quantity
    test_usd: Quantity
    lost_usd: Quantity

    @property
    def usd(self) -> Quantity:
        """All of it."""
        return self.dies_usd + self.memory_usd + self.package_usd + self.test_usd + self.lost_usd


def memory_owner(facts: Facts, kind: str, quantity: str) -> str:
    """Whose row gives a number of a kind of memory: its own, else that of all HBM; "" without either."""
    if facts.find(kind, quantity):
        return kind
    return HBM if kind.startswith(HBM) and facts.find(HBM, quantity) else ""


def check_reticle(facts: Facts, die: Die) -> None:
    """BadInput if a die is larger than one exposure."""
    width, height = facts.value("reticle", "width_mm"), facts.value("reticle", "height_mm")
    fits = (die.width_mm <= width and die.height_mm <= height) or (die.width_mm <= height and die.height_mm <= width)
    if not fits:
        raise BadInput(
            f"a die of {die.width_mm:g} x {die.height_mm:g} mm does not fit one exposure of {width:g} x {height:g} mm;"
            " divide it into chiplets"
        )


def sold_ratio(facts: Facts, rows: Rows, die: Die, area_ratio: Quantity = 1.0) -> Quantity:
    """Share of the dies of a wafer that can be sold; the clustering of defects is the facts' own.

    area_ratio: area over that of its sides; an array for dies of many sizes, or for one whose size is a guess.
    """
    defects = rows.value(f"node-{die.node_nm}", "defects_per_cm2") * (die.mm2 * area_ratio) / MM2_PER_CM2
    return yield_with_spares(defects, facts.value("defect", "clustering_ratio"), die.units, die.needed, die.units_ratio)


def die_usd(facts: Facts, rows: Rows, die: Die, area_ratio: Quantity = 1.0) -> Quantity:
    """Dollars of one die that works; BadInput for one beyond the reticle.

    area_ratio: area over that of its sides, where it is a guess; as many dies fewer are on a wafer.
    """
    check_reticle(facts, die)
    wafer = wafer_of(facts)
    count = dies_per_wafer(die.width_mm, die.height_mm, wafer)
    if not count:
        raise BadInput(f"no die of {die.width_mm:g} x {die.height_mm:g} mm fits a wafer of {wafer.diameter_mm:g} mm")
    return usd_of_wafer(rows, die.node_nm, count / area_ratio, sold_ratio(facts, rows, die, area_ratio))


def usd_of_wafer(rows: Rows, node_nm: int, count: Quantity, sold: Quantity) -> Quantity:
    """Dollars of one die that works, of `count` on a wafer of which the share `sold` can be sold."""
    dollars: Quantity = rows.value(f"node-{node_nm}", "usd_per_wafer") / (count * sold)
    return dollars


def bill_of_materials(
    facts: Facts, package: Package, rows: Rows | None = None, area_ratio: Quantity = 1.0
) -> BillOfMaterials:
    """What one package costs to make. rows: draws of the facts, for an interval.

    area_ratio: area of the dies over that of their sides, where it is a guess (asic/drawn_area.py).

    Raises BadInput for an impossible package and MissingFact for an unknown node.
    """
    rows = rows or facts
    if bool(package.memory) != bool(package.stacks) or bool(package.stacks) != bool(package.memory_bytes):
        raise BadInput("a package has a type of memory, its bytes and its stacks, or none of them")
    kind = INTERPOSER if package.stacks else ORGANIC
    dies = sum(each.count * die_usd(facts, rows, each, area_ratio) for each in package.dies)
    memory = package.memory_bytes * rows.value(package.memory, "usd_per_byte") if package.stacks else 0.0
    area = sum(each.count * each.mm2 for each in package.dies) * area_ratio
    if package.stacks:
        stands = memory_owner(facts, package.memory, "stack_mm2") or package.memory
        area += package.stacks * rows.value(stands, "stack_mm2")
    pieces = package.stacks + sum(each.count for each in package.dies)
    good = rows.value(kind, "bond_yield_ratio") ** pieces
    return assembled(rows, dies, memory, area * rows.value(kind, "usd_per_mm2"), good)


def assembled(
    rows: Rows, dies_usd: Quantity, memory_usd: Quantity, carrier_usd: Quantity, good_ratio: Quantity
) -> BillOfMaterials:
    """The bill of pieces on a carrier, of one package or many. good_ratio: share on which all were placed well."""
    return BillOfMaterials(
        dies_usd=dies_usd,
        memory_usd=memory_usd,
        package_usd=carrier_usd,
        test_usd=rows.value("package", "usd_test"),
        lost_usd=(dies_usd + memory_usd + carrier_usd) * (1.0 / good_ratio - 1.0),
    )
