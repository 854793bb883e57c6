"""Curves and intervals of answers about money: from rows of JSON to lines, tables beside them and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashstill.report.amounts import dollars, tokens
from flashstill.report.bands import Crossing, Curve
from flashstill.report.money import Show
from flashstill.report.sections import Document

INTERVAL, SPAN = ("p10", "p50", "p90"), ("low", "value", "high")
"""ends and middle of a figure: over draws; over the corners of what was asked"""


def curves_of(rows: Sequence[Document], at: str, series: Mapping[str, str]) -> list[Curve]:
    """Curves of rows with the key `at`; series: key (or outer.inner) -> name of the curve.

    A value is a number, or an object with p10, p50 and p90 or low, value and high; None is a gap, and a series without
    any value is left out.
    """
    curves = []
    for key, name in series.items():
        points = [(float(row[at]), *_band(_inner(row, key))) for row in rows]
        if any(middle is not None for _, _, middle, _ in points):
            curves.append(Curve(name=name, points=points))
    return curves


def curve_rows(curves: Sequence[Curve]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table beside curves over the same places."""
    headings, columns = [], []
    for curve in curves:
        banded = any(low is not None for _, low, _, _ in curve.points)
        headings += [curve.name, f"{curve.name}, P10 to P90"] if banded else [curve.name]
        columns.append(["" if middle is None else dollars(middle) for _, _, middle, _ in curve.points])
        if banded:
            columns.append(["" if low is None or high is None else f"{dollars(low)} to {dollars(high)}"
                            for _, low, _, high in curve.points])  # fmt: skip
    places = [tokens(x) for x, *_ in curves[0].points] if curves else []
    return headings, [list(row) for row in zip(places, *columns, strict=True)]


def _inner(row: Document, key: str) -> Any:
    held: Any = row
    for part in key.split("."):
        held = held.get(part) if isinstance(held, Mapping) else None
    return held


def _band(held: Any) -> tuple[float | None, float | None, float | None]:
    if isinstance(held, Mapping):
        low, middle, high = SPAN if "value" in held else INTERVAL
        return held.get(low), held.get(middle), held.get(high)
    return None, held, None


def crossing_of(interval: Document | None, what: str) -> Crossing | None:
    """The mark of an interval or a span on an axis; None if there is none."""
    if interval is None:
        return None
    low, middle, high = _band(interval)
    return Crossing(word=what if middle is None else f"{what} {tokens(middle)}", low=low, middle=middle, high=high)


def ranged(interval: Document | None, show: Show = tokens, never: str = "never") -> str:
    """An interval or a span in words: 361B (104B to never)."""
    if interval is None:
        return never
    low, middle, high = (never if end is None else show(end) for end in _band(interval))
    return middle if low == middle == high else f"{middle} ({low} to {high})"
