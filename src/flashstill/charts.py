"""Charts for notebooks, drawn as the pages of reports are: SVG with hover texts, no script and no chart library.

    from flashstill.charts import Axis, lines

    sweep = fs.predict(model="llama-3.1-8b", chip="h100-sxm", batch=[1, 2, 4, 8, 16])
    lines({"h100-sxm": (sweep.column("batch"), sweep.column("joules_per_output_token"))},
          Axis(title="requests in flight", log=True), Axis(title="energy of a token", unit="J", log=True))

The value of a cell is drawn where the notebook shows values; `.svg` is the drawing as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flashstill.report.axes import Axis
from flashstill.report.line_chart import line_chart
from flashstill.report.scatter import Front, Point
from flashstill.report.scatter import scatter as _scatter
from flashstill.report.stacks import Stack
from flashstill.report.stacks import stacks as _stacks
from flashstill.report.style import chart_style
from flashstill.report.svg import Line

__all__ = ["Axis", "Drawing", "Front", "Point", "Stack", "lines", "scatter", "stacks"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart as an SVG; its colours come with it where a notebook, or a page of the examples, shows it as a value."""

    svg: str

    def _repr_html_(self) -> str:
        return f'<style>{chart_style()}</style><div class="drawing">{self.svg}</div>'


def lines(
    series: Mapping[str, tuple[Iterable[float], Iterable[float | None]]],
    x: Axis,
    y: Axis,
    title: str = "",
    dots: Sequence[str] = (),
    marks: Sequence[tuple[float, str]] = (),
) -> Drawing:
    """A line for each name with its x and y; None is a gap. dots: names whose points are marked; marks: (x, words)."""
    drawn = [
        Line(name=name, points=list(zip(xs, ys, strict=True)), dots=name in dots) for name, (xs, ys) in series.items()
    ]
    return Drawing(line_chart(drawn, x, y, title or f"{y.title} over {x.title}", marks))


def scatter(
    points: Sequence[Point],
    x: Axis,
    y: Axis,
    title: str = "",
    fronts: Sequence[Front] = (),
    names: Sequence[str] = (),
    diagonal: bool = False,
) -> Drawing:
    """Points with intervals and labels; names: of the series, the first of which has the number 1."""
    numbered = [(name, number) for number, name in enumerate(names, start=1)]
    return Drawing(_scatter(points, x, y, title or f"{y.title} against {x.title}", fronts, numbered, diagonal))


def stacks(rows: Sequence[Stack], unit: str, x_title: str, title: str = "", is_share: bool = False) -> Drawing:
    """A bar of parts for each row, in their unit or as shares of the row."""
    return Drawing(_stacks(rows, unit, title or x_title, x_title, is_share))
