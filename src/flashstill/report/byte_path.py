"""A picture of a chip with the path of one byte to the multiplier, and the picojoules of each way. Inline SVG.

The die holds the multiplier, the memory beside it and the memory across the die; other memories, links and the host
stand outside. Every way says its energy and how many times the shortest way's that is: words are to scale, lengths not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.svg import CHARACTER, WIDTH, figure, shortened, text
from flashstill.units import show

ROW, TOP, FOOT = 46.0, 34.0, 26.0
UNIT_WIDTH = 96.0
"""of the multiplier"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a byte can come from: its name, the energy to the multiplier, on the die or not, and words beneath.

    pj_per_byte None: the energy is not known, which the picture says.
    """

    name: str
    pj_per_byte: float | None
    on_die: bool
    words: str = ""


def byte_path(places: Sequence[Place], title: str, width: float = WIDTH) -> str:
    """Places from the nearest to the farthest, those on the die first; "" without places."""
    ordered = sorted(places, key=lambda place: not place.on_die)
    if not ordered:
        return ""
    inside = sum(place.on_die for place in ordered)
    die = TOP + ROW * max(inside, 1) + 8.0
    outside = die + 16.0
    height = outside + ROW * (len(ordered) - inside) + FOOT
    known = [place.pj_per_byte for place in ordered if place.pj_per_byte]
    least, most = min(known, default=None), max(known, default=None)
    box = 0.44 * width
    left = width - box - 8.0
    parts = [
        f'<rect class="die" x="2" y="14" width="{width - 4.0:g}" height="{die - 14.0:.1f}" rx="8"/>',
        text(12.0, 29.0, "the die", "start", "strong"),
        f'<rect class="unit s1" x="12" y="{TOP + 6.0:g}" width="{UNIT_WIDTH:g}"'
        f' height="{ROW * max(inside, 1) - 14.0:.1f}" rx="4"/>',
        text(12.0 + UNIT_WIDTH / 2.0, TOP + ROW * max(inside, 1) / 2.0 + 3.0, "multiplier", "middle", "on"),
    ]
    for number, place in enumerate(ordered):
        top = TOP + ROW * number if number < inside else outside + ROW * (number - inside)
        weight = _weight(place.pj_per_byte, least, most)
        parts += _place(place, top, left, box, least, weight, die, number - inside, len(ordered) - inside)
    parts.append(text(2.0, height - 8.0, "Thicker: more energy. Not to scale."))
    return figure(title, parts, height, width)


def _place(
    place: Place, top: float, left: float, box: float, least: float | None, weight: int, die: float,
    number: int, outside: int,
) -> list[str]:  # fmt: skip
    """A place as a box, the way from it to the multiplier, and its energy on the way."""
    middle = top + ROW / 2.0
    energy = "not known" if place.pj_per_byte is None else pico(place.pj_per_byte)
    ratio = ""
    if place.pj_per_byte is not None and least is not None and place.pj_per_byte > 1.005 * least:
        ratio = f", {float(f'{place.pj_per_byte / least:.2g}'):,.6g}x the nearest"
    words = f"{place.name}: {energy} a byte{ratio}{'; ' + place.words if place.words else ''}"
    start = 12.0 + UNIT_WIDTH
    if place.on_die:
        way = f"M{left:.1f},{middle:.1f}H{start + 6.0:.1f}"
        at = start + 12.0
    else:  # from outside, up through the edge of the die
        at = 12.0 + UNIT_WIDTH * (number + 1.0) / (outside + 1.0)
        way = f"M{left:.1f},{middle:.1f}H{at:.1f}V{TOP + 6.0 + max(die - TOP - 28.0, 0.0):.1f}"
        at = start + 12.0
    return [
        f'<g class="{"s3" if place.on_die else "s2"}"><title>{escape(words)}</title>'
        f'<path class="way w{weight}" d="{way}"/><rect class="place" x="{left:.1f}"'
        f' y="{top + 5.0:.1f}" width="{box:.1f}" height="{ROW - 10.0:g}" rx="4"/></g>',
        text(left + 8.0, middle + (-1.0 if place.words else 4.0), shortened(place.name, box - 10.0), kind="strong"),
        text(left + 8.0, middle + 13.0, shortened(place.words, box - 10.0)) if place.words else "",
        text(at, middle - 6.0, f"{energy} a byte"),
        text(at, middle + 15.0, _fitting(ratio.removeprefix(", "), left - at - 4.0)) if ratio else "",
    ]  # fmt: skip


def _fitting(ratio: str, room: float) -> str:
    """How many times the nearest, in as many words as there is room for."""
    return ratio if CHARACTER * len(ratio) <= room else ratio.partition(" ")[0]


def pico(pj: float) -> str:
    """Picojoules in three figures, with prefixes above a thousand: 0.4 pJ, 56 pJ, 2.1 nJ."""
    return show(pj * 1e-12, "J")


def _weight(energy: float | None, least: float | None, most: float | None) -> int:
    """1 to 5, the thickness of a way: even steps of its logarithm from the least energy to the greatest."""
    if not energy or least is None or most is None or most <= least:
        return 1
    return 1 + round(4.0 * math.log(energy / least) / math.log(most / least))
