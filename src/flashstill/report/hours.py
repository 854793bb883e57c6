"""Hour by hour: what a fleet's chips do, as stacked areas with a line over them. Inline SVG, as in svg.py.

A year has 8,760 hours and a drawing 420 units: of a long plan the areas are means over stretches of whole days, and the
least and the greatest value of the line in each stretch are drawn over them, so that no peak or trough is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.amounts import short
from flashstill.report.axes import Axis
from flashstill.report.svg import BOTTOM, LEFT, RIGHT, WIDTH, Scale, figure, key_rows, text

HOUR_AXIS = Axis(title="hour")

MOST = 336
"""hours from which on stretches are drawn"""
STRETCHES = 250
"""at most: two points each"""
COLOURS = 8
"""of the page's style; layers beyond them are drawn as one"""
DAY, MONTH = 24, 730
PLOT = 190.0
"""height of the plot"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """What so many chips do in each hour; `is_idle` for those that do nothing, drawn without a colour.

    colour: of the page's style, from 1, so that charts share it; 0: the layer's place among the others.
    """

    name: str
    values: Sequence[float]
    is_idle: bool = False
    colour: int = 0


def stretches(count: int, step_hours: float = 1.0, most: int = MOST) -> list[range]:
    """The steps as they are drawn: one by one, or in stretches of whole days where there are more than `most`."""
    day = max(round(DAY / step_hours), 1)
    width = 1 if count <= most else day * math.ceil(count / min(most, STRETCHES) / day)
    return [range(begin, min(begin + width, count)) for begin in range(0, count, width)]


def mean_day(values: Sequence[float], steps: int = DAY) -> list[float]:
    """The mean of each step of the day, of `steps` a day, the first of which begins the day; at least a day of them."""
    if len(values) < steps:
        raise ValueError(f"{len(values)} steps are less than a day")
    at = [values[step::steps] for step in range(steps)]
    return [sum(each) / len(each) for each in at]


def hours(
    layers: Sequence[Layer],
    title: str,
    line: tuple[str, Sequence[float]] | None = None,
    step_hours: float = 1.0,
    y_title: str = "chips",
    show: Callable[[float], str] = short,
) -> str:
    """Stacked areas over the hours, the first layer lowest; `line` is a name and values drawn over them; "" if empty.

    Each value holds for a step of `step_hours`, the first from hour 0 on.
    """
    count = min((len(each.values) for each in layers), default=0)
    if not count:
        return ""
    layers, drawn = _few(layers), stretches(count, step_hours)
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
    key, top = key_rows(names)
    top += 16.0
    foot = top + PLOT
    xs = Scale.hours(count * step_hours, LEFT, WIDTH - RIGHT)
    ys = Scale.over([0.0, *tops[-1], *(value for edge in over for value in edge)], foot, top)
    places = [xs.at(each.start * step_hours) for each in drawn] + [xs.at(xs.high)]
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
    return "idle" if layer.is_idle else f"s{layer.colour or number}"


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
    parts = [text(2.0, top - 10, y_title)]
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


def mean_of(values: Sequence[float], steps: range) -> float:
    """Mean of the values of some steps."""
    return sum(values[step] for step in steps) / len(steps)
