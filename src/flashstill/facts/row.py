"""A fact row (one number with unit, range, condition and source), and the machine it describes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One number. `low` and `high` bound it; for a datasheet figure they may equal `value`."""

    name: str
    quantity: str
    value: float
    low: float
    high: float
    unit: str
    per: str
    condition: str
    kind: str
    source: str
    as_of: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Metadata of a chip. `chip_class`: the class from which it inherits calibration rows its maker's class lacks."""

    name: str
    title: str
    maker: str
    chip_class: str
    year: int

    @property
    def maker_class(self) -> str:
        """Owner of rows shared by the maker's chips of a class, such as gpu-amd: they share compiler and libraries."""
        return f"{self.chip_class}-{self.maker.lower().replace(' ', '-')}"
