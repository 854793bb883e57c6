"""One number with its unit, range, condition and source; and what it describes."""

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
    """What a chip is, beside its numbers. `chip_class` is what it inherits calibration from."""

    name: str
    title: str
    maker: str
    chip_class: str
    year: int
