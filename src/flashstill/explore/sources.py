"""The fact rows that a view's numbers rest on."""

from __future__ import annotations

from collections.abc import Iterable

from flashstill.explore.view import Source
from flashstill.facts import Fact, Facts


def sources_of(facts: Facts, chips: Iterable[str], others: Iterable[Fact] = ()) -> tuple[Source, ...]:
    """All rows of some chips, and further rows."""
    rows = [row for chip in chips for row in facts.of(chip)]
    return tuple(source_of(row) for row in [*rows, *others])


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
