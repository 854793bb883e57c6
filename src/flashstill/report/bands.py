"""Curves with their P10 to P90 bands over a logarithmic axis, and where they cross. Inline SVG, as in svg.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.amounts import dollars, tokens
from flashstill.report.svg import BOTTOM, LEFT, RIGHT, WIDTH, Scale, axes, figure, key_rows, text

PLOT = 214.0
"""height of the plot"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A series of (x, P10, P50, P90); P10 and P90 of None where no band is known, P50 of None in a gap."""

    name: str
    points: Sequence[tuple[float, float | None, float | None, float | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """Where curves cross: P10, P50 and P90 on the x axis, each None where they never do."""

    word: str
    low: float | None
    middle: float | None
    high: float | None


def bands(
    curves: Sequence[Curve],
    x_title: str,
    title: str,
    crossing: Crossing | None = None,
    log_y: bool = True,
    show: Callable[[float], str] = dollars,
) -> str:
    """Curves over a logarithmic x axis of tokens; the crossing is a shaded range with a dashed middle. "" if empty.

    Only positive x are drawn and, on a logarithmic y axis, only positive values.
    """
    places = [place for curve in curves for place in curve.points if place[0] > 0.0]
    values = [y for _, *ends in places for y in ends if y is not None and (not log_y or y > 0.0)]
    if not values:
        return ""
    marks = [] if crossing is None else [x for x in (crossing.low, crossing.middle, crossing.high) if x]
    key, top = key_rows([(curve.name, f"s{number}") for number, curve in enumerate(curves, start=1)])
    height = top + PLOT + BOTTOM
    xs = Scale.exact([*(x for x, *_ in places), *marks], LEFT, WIDTH - RIGHT)
    ys = Scale.over([*values, *(() if log_y else (0.0,))], height - BOTTOM, top, log_y)
    parts = [axes(xs, ys, x_title, show, height, tokens)]
    if crossing is not None:
        parts += _crossing(crossing, xs, top, height - BOTTOM)
    for number, curve in enumerate(curves, start=1):
        parts += _curve(curve, number, xs, ys, log_y)
    return figure(title, [*parts, *key], height)


def _crossing(crossing: Crossing, xs: Scale, top: float, foot: float) -> list[str]:
    """The range in which curves cross; one that is open ends at the edge of the plot."""
    if crossing.middle is None and crossing.low is None:
        return []
    low = xs.begin if not crossing.low else xs.at(crossing.low)
    high = xs.end if not crossing.high else xs.at(crossing.high)
    parts = [
        f'<rect class="range" x="{low:.1f}" y="{top:g}" width="{max(high - low, 1.0):.1f}" height="{foot - top:.1f}"/>'
    ]
    at = (low + high) / 2.0
    if crossing.middle:
        at = xs.at(crossing.middle)
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{top:g}" y2="{foot:.1f}"/>')
    side, shift = ("end", -5.0) if at > (LEFT + WIDTH) / 2.0 else ("start", 5.0)
    return [*parts, text(at + shift, top + 12.0, crossing.word, side)]


def _curve(curve: Curve, number: int, xs: Scale, ys: Scale, log_y: bool) -> list[str]:
    """The band of each run of points without gaps, and its line."""
    parts, run = [], []
    for point in [*curve.points, (-1.0, None, None, None)]:
        x, low, middle, high = point
        if x > 0.0 and middle is not None and (not log_y or middle > 0.0):
            run.append((xs.at(x), low, middle, high))
            continue
        if run:
            parts += _run(run, number, ys, log_y, curve.name)
        run = []
    return parts


def _run(
    run: Sequence[tuple[float, float | None, float, float | None]], number: int, ys: Scale, log_y: bool, name: str
) -> list[str]:
    known = [(x, low, high) for x, low, _, high in run if low is not None and high is not None]
    parts = []
    if len(known) > 1:
        floor = ys.low if log_y else -math.inf
        upper = [f"{x:.1f},{ys.at(high):.1f}" for x, _, high in known]
        lower = [f"{x:.1f},{ys.at(max(low, floor)):.1f}" for x, low, _ in reversed(known)]
        parts.append(f'<polygon class="band s{number}" points="{" ".join(upper + lower)}"/>')
    line = " ".join(f"{x:.1f},{ys.at(middle):.1f}" for x, _, middle, _ in run)
    parts.append(f'<polyline class="line s{number}" points="{line}"><title>{escape(name)}</title></polyline>')
    if len(run) == 1:
        x, _, middle, _ = run[0]
        parts.append(f'<circle class="dot s{number}" cx="{x:.1f}" cy="{ys.at(middle):.1f}" r="3"/>')
    return parts
