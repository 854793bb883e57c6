"""Hour by hour: what a fleet's chips do, as stacked areas with a line over them. Inline SVG, as in svg.py.

A year has 8,760 hours and a drawing 420 units: of a long plan the areas are means over stretches of whole days, and the
least and the greatest value of the line in each stretch are drawn over them, so that no peak or trough is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.svg import BOTTOM, LEFT, RIGHT, WIDTH, Scale, figure, short, shortened, text

MOST = 336
"""hours from which on stretches are drawn"""
STRETCHES = 250
"""at most: two points each"""
COLOURS = 8
"""of the page's style; layers beyond them are drawn as one"""
DAY, WEEK, MONTH = 24, 168, 730
ROW, PLOT = 17.0, 190.0
"""height of a row of the legend; of the plot"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """What so many chips do in each hour; `is_idle` for those that do nothing, drawn without a colour."""

    name: str
    values: Sequence[float]
    is_idle: bool = False


def stretches(count: int) -> list[range]:
    """The hours as they are drawn: one by one, or in stretches of whole days where there are more than MOST."""
    width = 1 if count <= MOST else DAY * math.ceil(count / STRETCHES / DAY)
    return [range(begin, min(begin + width, count)) for begin in range(0, count, width)]


def mean_day(values: Sequence[float], start_hour: int = 0) -> list[float]:
    """The mean of each hour of the day, of hours of which the first is `start_hour` o'clock; at least a day of them."""
    if len(values) < DAY:
        raise ValueError(f"{len(values)} hours are less than a day")
    at = [values[(hour - start_hour) % DAY :: DAY] for hour in range(DAY)]
    return [sum(each) / len(each) for each in at]


def hours(
    layers: Sequence[Layer],
    title: str,
    line: tuple[str, Sequence[float]] | None = None,
    first: int = 0,
    y_title: str = "chips",
    show: Callable[[float], str] = short,
) -> str:
    """Stacked areas over the hours, the first layer lowest; `line` is a name and values drawn over them; "" if empty.

    first: the number of the first hour (or, of a mean day, its hour of the day).
    """
    count = min((len(each.values) for each in layers), default=0)
    if not count:
        return ""
    layers, drawn = _few(layers), stretches(count)
    is_long = len(drawn) < count
    if is_long and line is None:
        busy = [sum(each.values[hour] for each in layers if not each.is_idle) for hour in range(count)]
        line = ("busy chips", busy)
    tops = _tops(layers, drawn)
    over = (
        [] if line is None else [[float(end(line[1][hour] for hour in each)) for each in drawn] for end in (max, min)]
    )
    names = [(each.name, _colour(number, each)) for number, each in enumerate(layers, start=1)]
    names += [] if line is None else [(f"{line[0]}{', least and greatest' if is_long else ''}", "over")]
    key, top = _key(names)
    foot = top + PLOT
    xs = Scale.hours(first, first + count, LEFT, WIDTH - RIGHT)
    ys = Scale.over([0.0, *tops[-1], *(value for edge in over for value in edge)], foot, top)
    places = [xs.at(first + each.start) for each in drawn] + [xs.at(first + count)]
    parts = [_frame(xs, ys, foot, top, y_title, show)]
    for number in range(len(layers), 0, -1):  # from the highest to the lowest: each covers the foot of the one above
        path = _stairs(places, [ys.at(value) for value in tops[number - 1]])
        name = layers[number - 1].name
        parts.append(
            f'<path class="area {_colour(number, layers[number - 1])}" d="M{LEFT:g},{foot:g}V{path}V{foot:g}Z">'
            f"<title>{escape(name)}</title></path>"
        )
    for edge in over if is_long else over[:1]:
        parts.append(f'<path class="line over" d="M{LEFT:g},{_stairs(places, [ys.at(value) for value in edge])}"/>')
    return figure(title, [*parts, *key], foot + BOTTOM)


def _few(layers: Sequence[Layer]) -> list[Layer]:
    """At most as many coloured layers as there are colours: the smallest are added up as one."""
    coloured = [each for each in layers if not each.is_idle]
    if len(coloured) <= COLOURS:
        return list(layers)
    largest = sorted(coloured, key=lambda each: -sum(each.values))[: COLOURS - 1]
    others = [each for each in coloured if not any(each is kept for kept in largest)]
    together = Layer(
        name=f"{len(others)} others", values=[sum(at) for at in zip(*(each.values for each in others), strict=True)]
    )
    kept = [each for each in coloured if any(each is one for one in largest)]
    return [*kept, together, *(each for each in layers if each.is_idle)]


def _colour(number: int, layer: Layer) -> str:
    return "idle" if layer.is_idle else f"s{number}"


def _tops(layers: Sequence[Layer], drawn: Sequence[range]) -> list[list[float]]:
    """The upper edge of each layer: means over the stretches that are drawn."""
    tops: list[list[float]] = []
    below = [0.0] * len(drawn)
    for each in layers:
        means = [sum(float(each.values[hour]) for hour in stretch) / len(stretch) for stretch in drawn]
        below = [low + mean for low, mean in zip(below, means, strict=True)]
        tops.append(below)
    return tops


def _stairs(places: Sequence[float], heights: Sequence[float]) -> str:
    """An edge that keeps each height until the next place: the rest of a path after its first V or M."""
    parts, last = [f"{heights[0]:.1f}"], f"{heights[0]:.1f}"
    for place, height in zip(places[1:-1], heights[1:], strict=True):
        text = f"{height:.1f}"
        if text != last:
            parts.append(f"H{place:.1f}V{text}")
            last = text
    return "".join([*parts, f"H{places[-1]:.1f}"])


def _frame(xs: Scale, ys: Scale, foot: float, top: float, y_title: str, show: Callable[[float], str]) -> str:
    parts = [text(LEFT - 6, top - 10, y_title, "end")]
    for tick in ys.ticks:
        at = ys.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(text(LEFT - 6, at + 4, show(tick), "end"))
    span = xs.high - xs.low
    unit, word = (1, "hour") if span <= 2 * DAY else (DAY, "day") if span <= 2.0 * MONTH else (MONTH, "month")
    for tick in xs.ticks:
        at = xs.at(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{foot:.1f}" y2="{foot + 4:.1f}"/>')
        parts.append(text(at, foot + 16, f"{tick / unit:.4g}", "middle"))
    return "".join([*parts, text((LEFT + WIDTH - RIGHT) / 2.0, foot + BOTTOM - 6, word, "middle")])


def _key(names: Sequence[tuple[str, str]]) -> tuple[list[str], float]:
    """The legend in as many rows as it needs, and where the plot begins below it."""
    parts, at, row = [], LEFT, 0
    for name, colour in names:
        shown = shortened(name, 180.0)
        room = 22.0 + 6.9 * len(shown)
        if at + room > WIDTH and at > LEFT:
            at, row = LEFT, row + 1
        y = 11.0 + ROW * row
        parts.append(f'<rect class="key {colour}" x="{at:.0f}" y="{y - 5:.0f}" width="10" height="10" rx="2"/>')
        parts.append(text(at + 14, y + 4, shown))
        at += room
    return parts, 11.0 + ROW * (row + 1) + 16.0
