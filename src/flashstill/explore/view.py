"""What one view of the page holds: charts, each with its table, the equivalent command, sources and notes.

All values are frozen; `as_dict()` gives what `GET /view/NAME` answers.  A chart's `svg` is a complete <svg> element
without style attributes or scripts: its colours come from classes of the page's style.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

Cell = str | float | bool | None
"""of a table; None: the engine has no figure there"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The numbers of a chart: units are in the names of the columns."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def as_dict(self) -> dict[str, Any]:
        """`rows` with all digits, and `texts`, the same as the page shows them."""
        return {
            "caption": self.caption,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "texts": [[shown(cell) for cell in row] for row in self.rows],
        }

    def as_csv(self) -> str:
        """The table as CSV, all digits; text that a spreadsheet would take for a formula begins with an apostrophe."""
        written = io.StringIO()
        lines = csv.writer(written, lineterminator="\r\n")
        lines.writerow([_harmless(name) for name in self.columns])
        lines.writerows([[_harmless(cell) for cell in row] for row in self.rows])
        return written.getvalue()


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A drawing and its numbers. name: a word for addresses; svg: "" where there is nothing to draw."""

    name: str
    title: str
    svg: str
    table: Table

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "title": self.title, "svg": self.svg, "table": self.table.as_dict()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A fact row that the view's numbers rest on."""

    fact: str
    value: float
    low: float | None
    high: float | None
    unit: str
    kind: str
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "fact": self.fact, "value": self.value, "low": self.low, "high": self.high, "unit": self.unit,
            "kind": self.kind, "source": self.source,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """An answer of the page. lead: one sentence that says what the numbers say; command: prints the same numbers."""

    name: str
    title: str
    lead: str
    charts: tuple[Chart, ...]
    command: str
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "lead": self.lead,
            "charts": [chart.as_dict() for chart in self.charts],
            "command": self.command,
            "sources": [source.as_dict() for source in self.sources],
            "notes": list(self.notes),
        }


def shown(cell: Cell) -> str:
    """A cell as the page shows it: numbers to four digits, thousands apart."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or (cell == int(cell) if abs(cell) < 1e15 else False):
        return f"{int(cell):,}" if abs(cell) < 1e12 else f"{cell:.4g}"
    return f"{cell:,.0f}" if 1e4 <= abs(cell) < 1e12 else f"{cell:.4g}"


def _harmless(cell: Cell) -> Cell:
    if isinstance(cell, bool):
        return "true" if cell else "false"  # as the page's own CSV has it
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
