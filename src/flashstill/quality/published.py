"""The published laws by name."""

from __future__ import annotations

from functools import cache

from flashstill.errors import BadInput, unknown
from flashstill.quality.law import Law
from flashstill.quality.spread import Spread
from flashstill.quality.support import Support
from flashstill.quality.table import entries


def published_names() -> tuple[str, ...]:
    """Every published law, in the order of the table."""
    return tuple(entries())


def published(name: str) -> Law:
    """One published law; BadInput lists the nearest names."""
    written = name.strip().lower()
    if written not in entries():
        raise BadInput(unknown("scaling law", name, entries()))
    return _published(written)


@cache
def _published(name: str) -> Law:
    row = entries()[name]
    errors = row.get("covariance", {})
    return Law(
        name=name,
        title=row["title"],
        form=row["form"],
        coefficients=dict(row["coefficients"]),
        kind=row["kind"],
        source=row["source"],
        corpus=row["corpus"],
        tokeniser=row["tokeniser"],
        counted=row["counted"],
        support=Support(
            parameters=(row["parameters"][0], row["parameters"][1]),
            tokens=(row["tokens"][0], row["tokens"][1]),
            experts=row.get("experts"),
        ),
        spread=Spread(
            standard_errors=dict(row.get("standard_errors", {})),
            order=tuple(errors.get("order", ())),
            covariance=tuple(tuple(line) for line in errors.get("matrix", ())),
            covariance_source=errors.get("source", ""),
            relative_error=row.get("relative_error"),
        ),
        notes=tuple(row.get("notes", ())),
    )
