"""Curves with their P10 to P90 bands over a logarithmic axis, and where they cross. Inline SVG, as in svg.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.axes import Axis, Frame, amount, span
from flashstill.report.svg import BOTTOM, WIDTH, figure, key_rows, text

PLOT = 232.0
"""height of the plot with its title"""
DOLLARS = Axis(title="", unit="USD", log=True)


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
    curves: Sequence[Curve], x_title: str, title: str, crossing: Crossing | None = None, y: Axis = DOLLARS
) -> str:
    """Curves over a logarithmic x axis of tokens; the crossing is a shaded range with a dashed middle. "" if empty.

    Only positive x are drawn and, on a logarithmic y axis, only positive values.
    """
    x = Axis(title=x_title, unit="tokens", log=True)
    places = [place for curve in curves for place in curve.points if x.shown(place[0])]
    values = [end for _, *ends in places for end in ends if y.shown(end)]
    if not values:
        return ""
    marks = [] if crossing is None else [at for at in (crossing.low, crossing.middle, crossing.high) if at]
    key, top = key_rows([(curve.name, f"s{number}") for number, curve in enumerate(curves, start=1)], left=4.0)
    height = top + PLOT + BOTTOM
    frame = Frame.around(x, y, [*(at for at, *_ in places), *marks], values, (0.0, top - 8.0, WIDTH, height))
    parts = [*frame.drawn(x, y)]
    if crossing is not None:
        parts += _crossing(crossing, frame)
    for number, curve in enumerate(curves, start=1):
        parts += _curve(curve, number, frame, y)
    return figure(title, [*parts, *key], height)


def _crossing(crossing: Crossing, frame: Frame) -> list[str]:
    """The range in which curves cross; one that is open ends at the edge of the plot."""
    if crossing.middle is None and crossing.low is None:
        return []
    low = frame.left if not crossing.low else frame.xs.at(crossing.low)
    high = frame.right if not crossing.high else frame.xs.at(crossing.high)
    top, foot = frame.top, frame.foot
    parts = [
        f'<rect class="range" x="{low:.1f}" y="{top:g}" width="{max(high - low, 1.0):.1f}" height="{foot - top:.1f}"/>'
    ]
    at = (low + high) / 2.0
    if crossing.middle:
        at = frame.xs.at(crossing.middle)
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{top:g}" y2="{foot:.1f}"/>')
    side, shift = ("end", -5.0) if at > (frame.left + frame.right) / 2.0 else ("start", 5.0)
    return [*parts, text(at + shift, top + 12.0, crossing.word, side, "label")]


def _curve(curve: Curve, number: int, frame: Frame, y: Axis) -> list[str]:
    """The band of each run of points without gaps, and its line."""
    parts, run = [], []
    for point in [*curve.points, (-1.0, None, None, None)]:
        x, low, middle, high = point
        if x > 0.0 and middle is not None and y.shown(middle):
            run.append((x, low, middle, high))
            continue
        if run:
            parts += _run(run, number, frame, y, curve.name)
        run = []
    return parts


def _run(
    run: Sequence[tuple[float, float | None, float, float | None]], number: int, frame: Frame, y: Axis, name: str
) -> list[str]:
    xs, ys = frame.xs, frame.ys
    known = [(xs.at(x), low, high) for x, low, _, high in run if low is not None and high is not None]
    parts = []
    if len(known) > 1:
        floor = ys.low if y.log else -math.inf
        upper = [f"{x:.1f},{ys.at(high):.1f}" for x, _, high in known]
        lower = [f"{x:.1f},{ys.at(max(low, floor)):.1f}" for x, low, _ in reversed(known)]
        parts.append(f'<polygon class="band s{number}" points="{" ".join(upper + lower)}"/>')
    line = " ".join(f"{xs.at(x):.1f},{ys.at(middle):.1f}" for x, _, middle, _ in run)
    parts.append(f'<polyline class="line s{number}" points="{line}"><title>{escape(name)}</title></polyline>')
    for x, low, middle, high in run:
        words = f"{name}, {amount(x, 'tokens')}: {amount(middle, y.unit)}"
        if low is not None and high is not None:
            words += f" ({span(low, high, y.unit)})"
        kind = "dot" if len(run) == 1 else "spot"
        parts.append(
            f'<circle class="{kind} s{number}" cx="{xs.at(x):.1f}" cy="{ys.at(middle):.1f}" r="3.5">'
            f"<title>{escape(words)}</title></circle>"
        )
    return parts
