"""What one more of each thing of a capacity plan is worth: its dual values by the hour, as charts and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flashstill.report.axes import Axis
from flashstill.report.hours import HOUR_AXIS, mean_of, stretches
from flashstill.report.line_chart import line_chart
from flashstill.report.money import plain
from flashstill.report.sections import Document, Section
from flashstill.report.svg import Line


def duals_of(document: Document, step: float) -> list[Section]:
    """What one more of each thing is worth, and when it is worth most."""
    duals = document.get("duals")
    if not isinstance(duals, Mapping):
        return []
    unit = "$" if duals.get("unit", "usd") == "usd" else str(duals["unit"])
    rows, charts = [], []
    for part, held in duals.items():
        for name, each in (held if isinstance(held, Mapping) else {part: held}).items():
            inner = each if isinstance(each, Mapping) else {"": each}
            for key, one in inner.items():
                words = f"{part}: {name}{', ' if key else ''}{key}".replace("_", " ")
                if isinstance(one, list):
                    rows += _series(words, one, step)
                    charts += _over_time(words, one, step, unit)
                elif isinstance(one, int | float) and not isinstance(one, bool):
                    rows.append([words, plain(float(one))])
    section = Section(
        title="What one more is worth",
        text=f"Duals, in {unit}: by how much the best plan would improve with one more chip, chip-hour or hour.",
        charts=charts[:6],
        headings=["", unit],
        rows=rows,
    )
    return [section] if rows else []


def _series(words: str, values: Sequence[float], step: float) -> list[list[str]]:
    if not values or not any(values):
        return [[f"{words}: always", "0"]]
    most = max(range(len(values)), key=values.__getitem__)
    mean = sum(values) / len(values)
    return [[f"{words}, mean", plain(mean)], [f"{words}, greatest, at hour {most * step:g}", plain(values[most])]]


def _over_time(words: str, values: Sequence[float], step: float, unit: str) -> list[tuple[str, str]]:
    """A small chart of a dual that changes from step to step: means over the stretches of a long plan."""
    if max(values, default=0.0) - min(values, default=0.0) <= 1e-9:
        return []
    points = [
        (end * step, mean_of(values, each)) for each in stretches(len(values), step) for end in (each.start, each.stop)
    ]
    y = Axis(title=unit, unit="USD" if unit == "$" else "1", from_zero=True)
    chart = line_chart([Line(name=words, points=points)], HOUR_AXIS, y, f"{words}, {unit}, over time")
    return [(f"{words[:1].upper()}{words[1:]} ({unit})", chart)]
