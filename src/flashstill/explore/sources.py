"""The fact rows that a view's numbers rest on."""

from __future__ import annotations

from collections.abc import Iterable

from flashstill.explore.view import Source
from flashstill.facts import Fact, Facts


def sources_of(facts: Facts, chips: Iterable[str]) -> tuple[Source, ...]:
    """The rows of some chips, without those of single kernels."""
    return tuple(source_of(row) for chip in chips for row in numbers_of(facts, chip))


def numbers_of(facts: Facts, chip: str) -> list[Fact]:
    """The rows that describe a chip; not those that were fitted to its kernels, of which a chip may have hundreds.

    A row of a kernel is named KERNEL.PARAMETER.
    """
    return [row for row in facts.of(chip) if "." not in row.quantity and row.quantity != "serving_measurements"]


def kernel_note(facts: Facts, chips: Iterable[str]) -> tuple[str, ...]:
    """A sentence about the rows that `numbers_of` leaves out."""
    left_out = {chip: len(facts.of(chip)) - len(numbers_of(facts, chip)) for chip in chips}
    counted = ", ".join(f"{count:,} of {chip}" for chip, count in left_out.items() if count)
    return (f"Rows fitted to kernels: {counted}; flashstill chips NAME lists them.",) if counted else ()


def source_of(row: Fact) -> Source:
    """A fact row as the page shows it."""
    return Source(
        fact=f"{row.name}.{row.quantity}" + (f"[{row.condition}]" if row.condition else ""),
        value=row.value,
        low=row.low,
        high=row.high,
        unit=row.unit,
        kind=row.kind,
        source=row.source,
    )
