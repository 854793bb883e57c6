"""Lines over linear or logarithmic axes, alone or as small multiples that share their axes. Inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from flashstill.report.axes import Axis, Frame, amount
from flashstill.report.svg import CHARACTER, WIDTH, Line, figure, key_rows, shortened, text

HEIGHT, PANEL = 260.0, 195.0
"""of a drawing; of each of several panels"""
DOTS = 80
"""points of a line up to which each is said on hover"""


def line_chart(
    series: Sequence[Line],
    x: Axis,
    y: Axis,
    title: str,
    marks: Sequence[tuple[float, str]] = (),
    width: float = WIDTH,
    height: float = HEIGHT,
) -> str:
    """The lines, with marks: vertical lines at a value of x, with a word; "" without a point that has a place."""
    places = _places(series, x, y)
    if not places:
        return ""
    names = [(each.name, f"s{number}") for number, each in enumerate(series, start=1)]
    key, top = key_rows(names, width, 4.0) if len(series) > 1 else ([], 4.0)
    x_values = [*(at for at, _ in places), *(at for at, _ in marks if x.shown(at))]
    frame = Frame.around(x, y, x_values, [value for _, value in places], (0.0, top, width, height))
    return figure(title, [*key, *_panel(series, x, y, frame, marks)], height, width)


def small_multiples(
    panels: Sequence[tuple[str, Sequence[Line]]],
    x: Axis,
    y: Axis,
    title: str,
    columns: int = 2,
    width: float = WIDTH,
    is_shared: bool = True,
) -> str:
    """A panel of lines for each name, `columns` side by side; the same axes in all of them if they are shared.

    A line's colour is its place in its panel, so that the same line has the same colour in all panels; a narrow screen
    takes one column.
    """
    shown = [(name, lines) for name, lines in panels if _places(lines, x, y)]
    if not shown:
        return ""
    names = list(dict.fromkeys(line.name for _, lines in shown for line in lines))
    numbers = {name: f"s{number}" for number, name in enumerate(names, start=1)}
    key, top = key_rows(list(numbers.items()), width, 4.0) if len(names) > 1 else ([], 4.0)
    everything = [place for _, lines in shown for place in _places(lines, x, y)]
    wide = width / columns
    parts = [*key]
    for number, (name, lines) in enumerate(shown):
        left, above = wide * (number % columns), top + PANEL * (number // columns)
        places = everything if is_shared else _places(lines, x, y)
        box = (left, above + 21.0, left + wide, above + PANEL)
        frame = Frame.around(x, y, [at for at, _ in places], [value for _, value in places], box, most=4)
        parts.append(text(left + 4.0, above + 14.0, shortened(name, wide - 8.0), "start", "strong"))
        ordered = [next((line for line in lines if line.name == each), Line(name=each, points=())) for each in names]
        parts += _panel(ordered, x, y, frame)
    return figure(title, parts, top + PANEL * -(-len(shown) // columns), width)


def _places(series: Sequence[Line], x: Axis, y: Axis) -> list[tuple[float, float]]:
    return [(at, value) for each in series for at, value in each.points
            if value is not None and x.shown(at) and y.shown(value)]  # fmt: skip


def _panel(
    series: Sequence[Line], x: Axis, y: Axis, frame: Frame, marks: Sequence[tuple[float, str]] = ()
) -> list[str]:
    """Axes, marks and lines in a frame; each point of a short line is said on hover."""
    parts = frame.drawn(x, y)
    for number, (place, words) in enumerate((place, words) for place, words in marks if x.shown(place)):
        at = frame.xs.at(place)
        side, shift = ("end", -4.0) if at + CHARACTER * len(words) > frame.right else ("start", 4.0)
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top:.1f}" y2="{frame.foot:.1f}"/>')
        parts.append(text(at + shift, frame.top + 11.0 + 14.0 * (number % 3), words, side, "label"))
    for number, each in enumerate(series, start=1):
        for run in _runs(each, x, y):
            path = " ".join(f"{frame.xs.at(at):.1f},{frame.ys.at(value):.1f}" for at, value in run)
            parts.append(
                f'<polyline class="line s{number}" points="{path}"><title>{escape(each.name)}</title></polyline>'
            )
            if len(run) > DOTS:
                continue
            kind = "dot" if each.dots or len(run) == 1 else "spot"
            for at, value in run:
                words = f"{each.name}, {x.name} {amount(at, x.unit)}: {amount(value, y.unit)}"
                spot = f'cx="{frame.xs.at(at):.1f}" cy="{frame.ys.at(value):.1f}"'
                parts.append(f'<circle class="{kind} s{number}" {spot} r="3.5"><title>{escape(words)}</title></circle>')
    return parts


def _runs(line: Line, x: Axis, y: Axis) -> list[list[tuple[float, float]]]:
    """Points without gaps between them."""
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in line.points:
        if value is None or not (x.shown(at) and y.shown(value)):
            runs.append([])
        else:
            runs[-1].append((at, value))
    return [run for run in runs if run]
