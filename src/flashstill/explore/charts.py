"""Charts of the views: curves over logarithmic axes, and bars that are split into shares. Inline SVG, as report/svg.py.

Every value has its words in a <title>, which the page shows under the pointer and reads out with the arrow keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from flashstill.report.amounts import short
from flashstill.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Line, Scale, axes, figure, key_rows, text

COLOURS = 8
"""series that the style has colours for"""


def curves(
    series: Sequence[Line],
    x_title: str,
    title: str,
    show: Callable[[float], str],
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Lines over two logarithmic axes; marks: vertical lines at a number, with a word. "" without positive points.

    show: a value in words.
    """
    drawn = [line for line in series if any(_positive(y) for _, y in line.points)][:COLOURS]
    points = [(x, y) for line in drawn for x, y in line.points if y is not None and y > 0.0]
    if not points:
        return ""
    keys, head = key_rows([(line.name, f"s{number}") for number, line in enumerate(drawn, start=1)])
    top, height = head + 8.0, head + HEIGHT - 24.0
    xs = Scale.exact([x for x, _ in points], LEFT, WIDTH - RIGHT)
    ys = Scale.over([y for _, y in points], height - BOTTOM, top, log=True)
    parts = [*keys, axes(xs, ys, x_title, y_text=show, height=height)]
    for place, word in marks:
        if xs.low <= place <= xs.high:
            at = xs.at(place)
            end = at > (LEFT + WIDTH) / 2.0
            parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{top:.1f}" y2="{height - BOTTOM:.1f}"/>')
            parts.append(text(at + (-4.0 if end else 4.0), top + 11.0, word, "end" if end else "start"))
    for number, line in enumerate(drawn, start=1):
        placed = [(xs.at(x), ys.at(y), x, y) for x, y in line.points if y is not None and y > 0.0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in placed)
        parts.append(f'<polyline class="line s{number}" points="{path}"/>')
        parts += [
            f"<g><title>{escape(f'{line.name}, {short(x)}: {show(y)}')}</title>"
            f'<circle class="dot s{number}" cx="{across:.1f}" cy="{up:.1f}" r="3.2"/></g>'
            for across, up, x, y in placed
        ]
    return figure(title, parts, height)


def shares(
    rows: Sequence[tuple[str, Sequence[float]]], parts_named: Sequence[str], title: str, show: Callable[[float], str]
) -> str:
    """One bar a row, from top to bottom, split into its parts' shares of its sum, which stands beside it."""
    used = [place for place in range(len(parts_named)) if any(values[place] > 0.0 for _, values in rows)]
    if not used or not rows:
        return ""
    styles = {place: f"s{number % COLOURS + 1}" for number, place in enumerate(used)}
    parts, head = key_rows([(parts_named[place], styles[place]) for place in used])
    left, right, pitch = LEFT + 16.0, WIDTH - 70.0, 21.0
    for number, (name, values) in enumerate(rows):
        top, total, at = head + 6.0 + pitch * number, sum(values), left
        parts.append(text(left - 7.0, top + 12.0, name, "end"))
        parts.append(text(right + 6.0, top + 12.0, show(total)))
        for place in used:
            width = (right - left) * values[place] / total if total > 0.0 else 0.0
            if width > 0.0:
                words = f"{name}, {parts_named[place]}: {show(values[place])}, {values[place] / total:.3g} of it"
                parts.append(
                    f'<g class="{styles[place]}"><title>{escape(words)}</title><rect class="bar" x="{at:.1f}"'
                    f' y="{top:.1f}" width="{width:.1f}" height="16"/></g>'
                )
                at += width
    return figure(title, parts, head + 12.0 + pitch * len(rows))


def _positive(value: float | None) -> bool:
    return value is not None and value > 0.0
