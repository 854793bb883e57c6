"""A scatter: points with intervals and labels on linear or logarithmic axes, with front lines. Inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from flashstill.report.axes import Axis, Frame, amount, span
from flashstill.report.marks import SIZE, labels, mark
from flashstill.report.svg import WIDTH, figure, key_rows

HEIGHT = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A point: its place, the ends of its intervals, its label, its colour (series, from 1) and its shape.

    words: said on hover before the values; `label` if empty. is_strong: larger, and labelled before the others; size:
    how many times as large besides.
    """

    x: float
    y: float
    label: str = ""
    words: str = ""
    series: int = 1
    shape: str = "circle"
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None
    is_strong: bool = False
    size: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """A line through points from the least x on; is_step: level until the next; is_wide: pale and broad."""

    points: Sequence[tuple[float, float]]
    series: int = 1
    is_step: bool = False
    is_wide: bool = False


def scatter(
    points: Sequence[Point],
    x: Axis,
    y: Axis,
    title: str,
    fronts: Sequence[Front] = (),
    names: Sequence[tuple[str, int]] = (),
    diagonal: bool = False,
    width: float = WIDTH,
    height: float = HEIGHT,
) -> str:
    """The points that have a place on both axes; "" without any.

    names: (name, series) of the legend; diagonal: the line on which x equals y. A narrow screen takes a width of 360.
    """
    shown = [point for point in points if x.shown(point.x) and y.shown(point.y)]
    if not shown:
        return ""
    key, top = key_rows([(name, f"s{series}") for name, series in names], width, 4.0) if names else ([], 4.0)
    x_values = [end for each in shown for end in (each.x, each.x_low, each.x_high)]
    y_values = [end for each in shown for end in (each.y, each.y_low, each.y_high)]
    if diagonal:
        x_values = y_values = [*x_values, *y_values]
    frame = Frame.around(x, y, x_values, y_values, (0.0, top, width, height))
    parts = [*frame.drawn(x, y)]
    if diagonal:
        low, high = max(frame.xs.low, frame.ys.low), min(frame.xs.high, frame.ys.high)
        parts.append(_path([(low, low), (high, high)], frame, "mark"))
    for front in fronts:
        places = sorted(place for place in front.points if x.shown(place[0]) and y.shown(place[1]))
        steps = [corner for left, right in pairwise(places) for corner in (left, (right[0], left[1]))]
        line = [*steps, *places[-1:]] if front.is_step else places
        parts.append(_path(line, frame, f"{'broad' if front.is_wide else 'front'} s{front.series}"))
    for each in sorted(shown, key=lambda point: point.is_strong):
        at = (frame.xs.at(each.x), frame.ys.at(each.y))
        size = SIZE * each.size * (1.15 if each.is_strong else 0.85)
        parts.append(mark(each.shape, *at, said(each, x, y), each.series, size, _intervals(each, frame)))
    first = sorted(shown, key=lambda point: not point.is_strong)
    places_of = [(frame.xs.at(each.x), frame.ys.at(each.y), each.label) for each in first]
    parts += labels(places_of, (frame.left, frame.top, frame.right + 10.0, frame.foot))
    return figure(title, [*parts, *key], height, width)


def said(point: Point, x: Axis, y: Axis) -> str:
    """What is said of a point: its words, and its values with their units."""
    values = f"{x.name} {amount(point.x, x.unit)}, {y.name} {amount(point.y, y.unit)}"
    if point.y_low is not None and point.y_high is not None:
        values += f" ({span(point.y_low, point.y_high, y.unit)})"
    return f"{point.words or point.label}: {values}" if point.words or point.label else values


def _path(places: Sequence[tuple[float, float]], frame: Frame, kind: str) -> str:
    if len(places) < 2:
        return ""
    path = " ".join(f"{frame.xs.at(x):.1f},{frame.ys.at(y):.1f}" for x, y in places)
    return f'<polyline class="{kind}" points="{path}"/>'


def _intervals(point: Point, frame: Frame) -> str:
    """The path of lines from the low to the high end, where they are known; cut at the edge of the plot."""
    path, x, y = "", frame.xs.at(point.x), frame.ys.at(point.y)
    if point.x_low is not None and point.x_high is not None:
        low, high = (frame.xs.at(max(end, frame.xs.low)) for end in (point.x_low, point.x_high))
        path += f"M{low:.1f},{y:.1f}H{high:.1f}"
    if point.y_low is not None and point.y_high is not None:
        low, high = (frame.ys.at(max(end, frame.ys.low)) for end in (point.y_low, point.y_high))
        path += f"M{x:.1f},{low:.1f}V{high:.1f}"
    return path
