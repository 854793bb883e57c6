"""A heat map: rows by columns, every cell with its value, with a legend. Inline SVG.

Sequential (more of something) or diverging around a middle (better and worse than it); cells without a value are
hatched. Steps of colour are classes of the style (`q0` to `q6`, `d0` to `d6`), for light and for dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from flashstill.report.amounts import short
from flashstill.report.svg import CHARACTER, WIDTH, figure, shortened, text

STEPS = 7
"""of colour, odd: the middle one is the middle of a diverging map"""
HIGH, SLANT = 26.0, 0.5
"""height of a row; of the slanted names above the columns, their height by their length"""
LEAST = 34.0
"""units of a column; where values need more, the drawing grows wider than it was asked to be"""
SMALL = 7.4
"""room for a character of a value"""


def three_figures(value: float) -> str:
    """A number in three figures: 0.25, 12.3k."""
    return short(float(f"{value:.3g}"))


def heat(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    title: str,
    show: Callable[[float], str] = three_figures,
    middle: float | None = None,
    log: bool = False,
    legend: tuple[str, str] = ("least", "greatest"),
    width: float = WIDTH,
) -> str:
    """The map; values: a row of them for each name in `rows`, None where nothing is known; "" without a value.

    middle: the value around which colours diverge, alike on both sides; log: steps of colour over logarithms (values
    above zero); legend: words for the low and the high end. Raises ValueError where the numbers do not fit the names.
    """
    if len(values) != len(rows) or any(len(row) != len(columns) for row in values):
        raise ValueError(f"{len(rows)} x {len(columns)} names, and values of another shape")
    known = [value for row in values for value in row if _is_known(value, log)]
    if not known:
        return ""
    label = min(CHARACTER * max(map(len, rows)) + 10.0, 0.34 * width)
    longest = max(len(show(value)) for row in values for value in row if value is not None and _is_known(value, log))
    column = max((width - label - 2.0) / len(columns), SMALL * longest + 6.0, LEAST)
    width = label + column * len(columns) + 2.0
    is_flat = all(CHARACTER * len(name) <= column - 4.0 for name in columns)
    reach = 0.0 if is_flat else max(min(CHARACTER * len(name), 150.0) for name in columns)
    top = 22.0 if is_flat else 16.0 + SLANT * reach + 6.0
    ends = _ends([float(value) for value in known if value is not None], middle, log)
    steps = _steps(*ends, "q" if middle is None else "d", log)
    parts = []
    for number, name in enumerate(columns):
        at = label + column * (number + 0.5)
        if is_flat:
            parts.append(text(at, top - 7.0, name, "middle"))
        else:
            parts.append(
                f'<text x="{at - 4.0:.1f}" y="{top - 6.0:.1f}" transform="rotate(-30 {at - 4.0:.1f} {top - 6.0:.1f})">'
                f"{escape(shortened(name, 150.0))}</text>"
            )
    if not is_flat:  # the last slanted names reach beyond the last column
        width += max(0.87 * reach - column / 2.0, 0.0)
    for number, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = top + HIGH * number
        parts.append(text(label - 8.0, y + 17.0, shortened(name, label - 8.0), "end"))
        for place, value in enumerate(row):
            x = label + column * place
            parts.append(_cell(x, y, column, value if _is_known(value, log) else None, steps, show,
                               f"{name}, {columns[place]}"))  # fmt: skip
    foot = top + HIGH * len(rows)
    parts += _legend(label, foot + 12.0, ends, middle, show, legend)
    return figure(title, parts, foot + 44.0, width)


def _is_known(value: float | None, log: bool) -> bool:
    return value is not None and math.isfinite(value) and (not log or value > 0.0)


def _ends(known: Sequence[float], middle: float | None, log: bool) -> tuple[float, float]:
    """The values of the first and the last colour: of a diverging map as far from the middle on both sides."""
    low, high = min(known), max(known)
    if middle is None:
        return low, high
    if log:
        reach = max(high / middle, middle / low)
        return middle / reach, middle * reach
    reach = max(high - middle, middle - low)
    return middle - reach, middle + reach


def _steps(low: float, high: float, kind: str, log: bool) -> Callable[[float], str]:
    """From a value to the class of its colour, between the values of the first and the last."""
    place = math.log if log else float
    begin, length = place(low), place(high) - place(low)

    def step(value: float) -> str:
        share = (place(value) - begin) / length if length > 0.0 else 0.5
        return f"{kind}{max(0, min(int(share * STEPS), STEPS - 1))}"

    return step


def _cell(
    x: float, y: float, column: float, value: float | None, steps: Callable[[float], str],
    show: Callable[[float], str], name: str,
) -> str:  # fmt: skip
    box = f'x="{x + 1.0:.1f}" y="{y + 1.0:.1f}" width="{column - 2.0:.1f}" height="{HIGH - 2.0:g}" rx="2"'
    if value is None:
        return f'<g><title>{escape(name)}: none</title><rect class="gap" {box}/></g>'
    words = show(value)
    label = text(x + column / 2.0, y + 17.0, words, "middle", "heat-text")
    return f'<g class="{steps(value)}"><title>{escape(f"{name}: {words}")}</title><rect class="cell" {box}/>{label}</g>'


def _legend(
    left: float, top: float, ends: tuple[float, float], middle: float | None, show: Callable[[float], str],
    words: tuple[str, str],
) -> list[str]:  # fmt: skip
    """The steps of colour with the values of their ends, and the middle of a diverging map."""
    kind = "q" if middle is None else "d"
    low = f"{words[0]} {show(ends[0])}"
    parts = [text(0.0, top + 11.0, low)]
    at = max(CHARACTER * len(low) + 6.0, min(left, 60.0))
    for number in range(STEPS):
        parts.append(
            f'<rect class="cell {kind}{number}" x="{at + 16.0 * number:.1f}" y="{top:.1f}" width="15" height="14"'
            ' rx="2"/>'
        )
    parts.append(text(at + 16.0 * STEPS + 6.0, top + 11.0, f"{words[1]} {show(ends[1])}"))
    if middle is not None:
        parts.append(text(at + 8.0 * STEPS, top + 27.0, show(middle), "middle"))
    return parts
