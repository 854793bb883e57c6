"""A page without scripts: predicted against measured latencies, their residuals, and all numbers.

For each quantity two drawings: predicted over measured, both logarithmic, with the 80 % band of each prediction and the
line on which they agree; and the error (predicted / measured - 1) over the requests in flight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashstill.report.axes import Axis
from flashstill.report.scatter import Front, Point, scatter
from flashstill.report.sections import Section, render_sections
from flashstill.units import show

Row = Mapping[str, Any]
HEADINGS = ("line", "model", "chip", "in flight", "measured", "predicted", "80 % band", "error")
MEASURED, PREDICTED = Axis(title="measured", unit="s", log=True), Axis(title="predicted", unit="s", log=True)
IN_FLIGHT, ERROR = Axis(title="requests in flight", log=True), Axis(title="error", unit="ratio", from_zero=True)


def residual_page(title: str, names: Mapping[str, str], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The page as HTML. names: quantity -> its name; rows: as `flashstill validate --measured --json` has them."""
    sections = []
    for quantity, name in names.items():
        own = [row for row in rows if row["quantity"] == quantity]
        if own:
            sections.append(_section(name.capitalize(), own))
    return render_sections(title, "Each prediction beside what was measured.", sections, notes=notes)


def _section(title: str, rows: Sequence[Row]) -> Section:
    mean = sum(abs(row["error"]) for row in rows) / len(rows)
    inside = sum(row["low"] <= row["measured"] <= row["high"] for row in rows)
    return Section(
        title=title,
        text=f"Mean error {mean:.1%} over {len(rows):,} rows; {inside:,} of them in the 80 % band.",
        charts=[("Predicted over measured", agreement(rows)), ("Error over requests in flight", residuals(rows))],
        headings=HEADINGS,
        rows=[
            [str(row["line"]), row["model"], row["chip"], f"{row['concurrency']:,}",
             *(show(row[key], "s") for key in ("measured", "predicted")),
             f"{show(row['low'], 's')} to {show(row['high'], 's')}", f"{row['error']:+.1%}"]
            for row in rows
        ],
    )  # fmt: skip


def agreement(rows: Sequence[Row]) -> str:
    """Predicted over measured seconds with the bands; on the dashed line both agree."""
    points = [
        Point(x=row["measured"], y=row["predicted"], y_low=row["low"], y_high=row["high"], words=_named(row))
        for row in rows
    ]
    return scatter(points, MEASURED, PREDICTED, "predicted over measured", diagonal=True)


def residuals(rows: Sequence[Row]) -> str:
    """Relative errors over the requests in flight, and the line of none."""
    points = [Point(x=row["concurrency"], y=row["error"], words=_named(row)) for row in rows]
    flights = [point.x for point in points]
    none = Front(points=[(min(flights), 0.0), (max(flights), 0.0)], series=1)
    return scatter(points, IN_FLIGHT, ERROR, "error over requests in flight", fronts=[none])


def _named(row: Row) -> str:
    return f"line {row['line']}, {row['model']}, {row['concurrency']:,} in flight, {row['error']:+.1%}"
