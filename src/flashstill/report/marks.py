"""Marks of a scatter: shapes with the value in words, and labels that do not cover one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from flashstill.report.svg import CHARACTER, text

SIZE = 5.0
"""radius of a mark"""
HIGH = 13.0
"""height of a label"""
_SIDES = {
    "triangle": (3, -90.0),
    "triangle-down": (3, 90.0),
    "square": (4, -45.0),
    "diamond": (4, -90.0),
    "pentagon": (5, -90.0),
    "hexagon": (6, -90.0),
    "hexagon2": (6, 0.0),
}
"""shape -> corners, and the angle of the first"""
SHAPES = ("circle", *_SIDES, "star")
Box = tuple[float, float, float, float]
"""left, top, right, bottom"""


def mark(shape: str, x: float, y: float, words: str, series: int = 1, size: float = SIZE, intervals: str = "") -> str:
    """A shape of SHAPES, with "-open" for its outline alone and "-dot" for a dot inside; words are said on hover.

    intervals: the path of lines through it, as the attribute d has it.
    """
    base, is_open, is_dotted = shape.removesuffix("-open").removesuffix("-dot"), "-open" in shape, "-dot" in shape
    kind = "outline" if is_open else "dot"
    parts = [f"<title>{escape(words)}</title>"] if words else []
    if intervals:
        parts.append(f'<path class="interval" d="{intervals}"/>')
    if base == "circle":
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size:.3g}"/>')
    else:
        corners = _corners(base, x, y, size)
        path = "L".join(f"{left:.1f},{top:.1f}" for left, top in corners)
        parts.append(f'<path class="{kind}" d="M{path}Z"/>')
    if is_dotted:
        parts.append(f'<circle class="pip" cx="{x:.1f}" cy="{y:.1f}" r="1.6"/>')
    return f'<g class="s{series}">{"".join(parts)}</g>'


def shape(name: str) -> str:
    """A shape alone, beside words of a legend that say what it is."""
    return (
        f'<svg class="chart shape" viewBox="0 0 16 16" aria-hidden="true">{mark(name, 8.0, 8.0, "", 1)}</svg>'.replace(
            "<title></title>", ""
        )
    )


def _corners(shape: str, x: float, y: float, size: float) -> list[tuple[float, float]]:
    if shape == "star":
        radii = [1.45 * size, 0.62 * size] * 5
        return [_at(x, y, radius, -90.0 + 36.0 * number) for number, radius in enumerate(radii)]
    if shape not in _SIDES:
        raise ValueError(f"no mark has the shape {shape!r}; shapes are {', '.join(SHAPES)}")
    sides, first = _SIDES[shape]
    return [_at(x, y, 1.25 * size, first + 360.0 * number / sides) for number in range(sides)]


def _at(x: float, y: float, radius: float, degrees: float) -> tuple[float, float]:
    angle = math.radians(degrees)
    return x + radius * math.cos(angle), y + radius * math.sin(angle)


def labels(places: Sequence[tuple[float, float, str]], frame: Box, taken: Sequence[Box] = ()) -> list[str]:
    """A label beside each place, in the order given, where it covers no mark and no earlier label.

    One that finds no room is left out: the hover text and the table have it.
    """
    boxes = [*taken, *((x - SIZE, y - SIZE, x + SIZE, y + SIZE) for x, y, _ in places)]
    parts = []
    for x, y, words in places:
        if not words:
            continue
        for left, foot in _around(x, y, CHARACTER * len(words)):
            box = (left, foot - HIGH, left + CHARACTER * len(words), foot)
            if _inside(box, frame) and not _covers_any(box, boxes):
                boxes.append(box)
                parts.append(text(left, foot - 3.0, words, "start", "label"))
                break
    return parts


def _around(x: float, y: float, width: float) -> list[tuple[float, float]]:
    """Left and foot of a label: right, left, above, below, and the four corners; then the same further away."""
    near = SIZE + 3.0
    return [
        place
        for gap in (near, near + 7.0)
        for place in (
            (x + gap, y + HIGH / 2.0), (x - gap - width, y + HIGH / 2.0), (x - width / 2.0, y - gap),
            (x - width / 2.0, y + gap + HIGH), (x + gap, y - gap / 2.0), (x + gap, y + gap / 2.0 + HIGH),
            (x - gap - width, y - gap / 2.0), (x - gap - width, y + gap / 2.0 + HIGH),
        )
    ]  # fmt: skip


def _inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def _covers_any(box: Box, others: Sequence[Box]) -> bool:
    """Whether a box overlaps one of many: a chart of a thousand marks asks this a hundred thousand times."""
    left, top, right, foot = box
    for x_low, y_low, x_high, y_high in others:  # half the time of any() of a generator
        if left < x_high and x_low < right and top < y_high and y_low < foot:
            return True
    return False
