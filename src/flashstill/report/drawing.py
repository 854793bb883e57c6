"""A chart as the value of a cell: notebooks and the pages of the examples show it as they show a table."""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.report.style import chart_style


@dataclass(frozen=True, slots=True)
class Drawing:
    """An SVG of this room's charts, with its colours."""

    svg: str

    def _repr_html_(self) -> str:
        return f'<style>{chart_style()}</style><div class="drawing">{self.svg}</div>'
