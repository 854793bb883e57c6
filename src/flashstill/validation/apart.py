"""Measurements that are listed apart: no coefficient is fitted to them and no error counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flashstill.plan.predict import Case


@dataclass(frozen=True, kw_only=True, slots=True)
class Apart:
    """A measured case, the name of its stack, and why it is listed apart."""

    case: Case
    stack: str
    reason: str


def apart_cells(rows: Sequence[Apart]) -> list[tuple[str, ...]]:
    """The rows as text, header first."""
    return [
        ("stack", "tp", "in", "out", "in flight", "reason"),
        *(
            (each.stack, str(used.tp), str(asked.isl), str(asked.osl), str(asked.batch), each.reason)
            for each, asked, used in ((each, each.case.scenario, each.case.deployment) for each in rows)
        ),
    ]
