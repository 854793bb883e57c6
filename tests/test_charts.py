"""Charts of the report: ticks that can be said, labels apart, parts summed and named, colours with enough contrast."""

from __future__ import annotations

import math
import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest

from flashstill import charts
from flashstill.report.amounts import dollars
from flashstill.report.axes import Axis, amount, linear_ticks, log_ticks, snug, span, tick_text
from flashstill.report.byte_path import Place, byte_path
from flashstill.report.elasticities import elasticity_tornado
from flashstill.report.heat import heat
from flashstill.report.line_chart import line_chart, small_multiples
from flashstill.report.marks import labels
from flashstill.report.scatter import Front, Point, scatter
from flashstill.report.stacks import Stack, gathered, stacks
from flashstill.report.style import stylesheet
from flashstill.report.svg import CHARACTER, Line, base_axis
from flashstill.report.tornado import Driver, tornado

HOSTILE = "<script>alert('x')</script>\"&"
X = Axis(title=f"dollars {HOSTILE}", unit="USD", log=True)
BATCH, JOULES = Axis(title="batch", log=True), Axis(title="J", unit="J")
Y = Axis(title="time per token", unit="s", log=True)
POINTS = [
    Point(
        x=10.0 ** (n / 3.0), y=10.0 ** (-n / 2.0), label=f"chip {n} {HOSTILE}", series=1 + n % 8, y_low=1e-9, y_high=9.0
    )
    for n in range(12)
]
LINES = [Line(name=HOSTILE, points=[(float(n), None if n == 4 else n**2.0 + 1.0) for n in range(1, 9)])]
ENERGY = [
    Stack(name=HOSTILE, group="batch 1", parts={"weights": 8.0, "KV cache": 1.0, "norms": 0.05, "links": 0.01}),
    Stack(name="student", group="batch 16", parts={"weights": 1.0, "KV cache": 1.0, "norms": 0.01, HOSTILE: 3.0}),
]
DRAWN = {
    "scatter": scatter(POINTS, X, Y, HOSTILE, fronts=[Front(points=[(1.0, 1.0), (5.0, 0.1)], is_step=True)],
                       names=[(HOSTILE, 1)], diagonal=True),
    "narrow": scatter(POINTS, X, Y, "narrow", width=360.0),
    "lines": line_chart(LINES, BATCH, JOULES, HOSTILE, marks=[(3.0, HOSTILE)]),
    "multiples": small_multiples([(HOSTILE, LINES), ("b", LINES)], Axis(title="batch"), JOULES, HOSTILE),
    "stacks": stacks(ENERGY, "J", HOSTILE, "joules a token"),
    "heat": heat([HOSTILE, "b"], ["a column", HOSTILE], [[1.0, None], [-2.0, math.inf]], HOSTILE, middle=0.0),
    "path": byte_path([Place(name=HOSTILE, pj_per_byte=1.0, on_die=True, words=HOSTILE),
                       Place(name="HBM", pj_per_byte=None, on_die=False)], HOSTILE),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_charts_are_whole_named_and_unstyled(name: str) -> None:
    """An SVG that parses, with a name, no script, no style attribute, and its marks inside the drawing."""
    chart = DRAWN[name]
    tree = ElementTree.fromstring(chart)
    assert tree.get("role") == "img"
    assert tree.get("aria-label")
    assert "<script" not in chart
    assert "style=" not in chart
    assert tree.findall(".//title")
    _, _, width, height = map(float, tree.attrib["viewBox"].split())
    for each in tree.iter():
        for key, most in (("x", width), ("cx", width), ("x2", width), ("y", height), ("cy", height), ("y2", height)):
            if key in each.attrib:
                assert -1.0 <= float(each.attrib[key]) <= most + 1.0, ElementTree.tostring(each)
    classes = {word for each in tree.iter() for word in each.get("class", "").split()}
    unstyled = {word for word in classes if f".{word}" not in stylesheet()}
    assert not unstyled


def test_nothing_to_draw_is_nothing() -> None:
    assert scatter([Point(x=0.0, y=1.0)], X, Y, "none on a logarithmic axis") == ""
    assert line_chart([Line(name="a", points=[(1.0, None)])], X, Y, "t") == ""
    assert small_multiples([("a", [])], X, Y, "t") == ""
    assert stacks([], "J", "t") == stacks([Stack(name="a", parts={"x": 0.0})], "J", "t") == ""
    assert heat([], [], [], "t") == byte_path([], "t") == ""
    with pytest.raises(ValueError, match="another shape"):
        heat(["a"], ["b"], [[1.0, 2.0]], "t")


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(1e-6, "s", "1 µs"), (0.01, "s", "10 ms"), (1000.0, "J", "1 kJ"), (0.1, "USD", "$0.10"), (2e-4, "USD", "$0.0002"),
     (1e-8, "USD", "$1e-8"), (5e9, "tokens", "5B"), (0.4, "ratio", "40 %"), (1.2e4, "1", "12k"), (0.0, "s", "0"),
     (8e10, "B", "80 GB"), (3.0, "chips", "3 chips"), (7200.0, "s", "7,200 s")],
)  # fmt: skip
def test_a_tick_can_be_said(value: float, unit: str, words: str) -> None:
    assert tick_text(value, unit) == words


def test_an_amount_has_three_figures() -> None:
    assert amount(0.0123456, "s") == "12.3 ms"
    assert amount(0.12345, "ratio") == "12.3 %"
    assert amount(4e-8, "USD") == "$4e-08"


def test_an_interval_names_its_unit_once() -> None:
    assert span(0.0123, 0.045, "s") == "12.3 to 45 ms"
    assert span(0.9e-3, 0.045, "s") == "900 µs to 45 ms"
    assert span(0.2, 0.3, "USD") == "$0.20 to $0.30"
    assert span(1.0, 2.0, "nats") == "1 to 2 nats"


@pytest.mark.parametrize("low", [3e-9, 0.7, 1.0, 42.0, 9.9e11])
@pytest.mark.parametrize("ratio", [1.0001, 1.3, 4.0, 30.0, 1e3, 1e9, 1e20])
@pytest.mark.parametrize("log", [True, False])
def test_every_axis_has_two_to_seven_ticks_in_order(low: float, ratio: float, log: bool) -> None:
    scale = snug([low, low * ratio], 0.0, 100.0, log)
    assert 2 <= len(scale.ticks) <= 7
    assert list(scale.ticks) == sorted(set(scale.ticks))
    assert all(-1e-6 <= scale.at(tick) <= 100.0 + 1e-6 for tick in scale.ticks)
    assert 0.0 <= scale.at(low) < scale.at(low * ratio) <= 100.0


def test_one_value_has_an_axis() -> None:
    for log in (True, False):
        assert snug([5.0, 5.0], 0.0, 10.0, log).at(5.0) == pytest.approx(5.0)
    assert 0.0 <= snug([0.0], 0.0, 10.0, False).at(0.0) <= 10.0


def test_ticks_are_one_two_five_or_powers() -> None:
    assert log_ticks(1.0, 60.0) == (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
    assert log_ticks(1e-6, 1e-1) == pytest.approx((1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1))
    assert linear_ticks(0.0, 1.0, 5) == pytest.approx((0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


def test_a_notebook_shows_a_chart_as_the_pages_draw_it() -> None:
    drawing = charts.lines({"a": ([1.0, 2.0], [3.0, None]), "b": ([1.0, 2.0], [1.0, 2.0])}, BATCH, JOULES, dots=["b"])
    shown = drawing._repr_html_()
    assert shown.startswith("<style>")
    assert "body {" not in shown, "the notebook keeps its own style"
    assert drawing.svg in shown
    assert drawing.svg.count('class="dot') == 3
    points = [Point(x=1.0, y=1.0), Point(x=2.0, y=3.0, series=2)]
    assert "two" in charts.scatter(points, BATCH, JOULES, names=["one", "two"]).svg
    assert "batch 16" in charts.stacks(ENERGY, "J", "joules").svg


def test_an_axis_may_begin_with_its_greatest_value() -> None:
    scale = Axis(title="bits", is_reversed=True).scale([1.0, 2.0], 0.0, 100.0)
    assert scale.at(2.0) < scale.at(1.0)


def test_labels_do_not_collide() -> None:
    places = [(100.0 + 9.0 * n, 100.0 + 5.0 * (n % 3), f"chip number {n}") for n in range(20)]
    drawn = labels(places, (0.0, 0.0, 400.0, 300.0))
    found = [re.findall(r'x="([\d.]+)" y="([\d.]+)" [^>]*>([^<]+)<', each)[0] for each in drawn]
    boxes = [(float(x), float(y) - 10.0, float(x) + 8.2 * len(words), float(y) + 3.0) for x, y, words in found]
    assert 2 <= len(boxes) < 20
    for one, other in combinations(boxes, 2):
        assert (
            one[0] >= other[2] - 0.2 or other[0] >= one[2] - 0.2 or one[1] >= other[3] - 0.2 or other[1] >= one[3] - 0.2
        )


def test_small_parts_are_summed_and_named() -> None:
    rows, classes = gathered(ENERGY, {"KV cache": 5})
    assert rows[0].parts == {"weights": 8.0, HOSTILE: 0.0, "KV cache": 1.0, "norms, links": pytest.approx(0.06)}
    assert sum(rows[1].parts.values()) == pytest.approx(sum(ENERGY[1].parts.values()))
    assert classes == {"weights": "s1", HOSTILE: "s2", "KV cache": "s5", "norms, links": "other"}


def test_pieces_of_a_bar_are_as_long_as_their_parts() -> None:
    drawn = stacks([Stack(name="a", parts={"x": 3.0, "y": 1.0}), Stack(name="b", parts={"x": 1.0})], "J", "t")
    x, y, alone = (float(each) for each in re.findall(r'class="piece" [^>]*width="([\d.]+)"', drawn))
    assert x / y == pytest.approx(3.0, rel=0.01)
    assert x / alone == pytest.approx(3.0, rel=0.01)


def test_a_diverging_map_is_alike_on_both_sides() -> None:
    drawn = heat(["a"], ["b", "c", "d"], [[-1.0, 0.0, 1.0]], "t", middle=0.0)
    assert re.findall(r'<g class="(d\d)">', drawn) == ["d0", "d3", "d6"]
    assert re.findall(r'<g class="(q\d)">', heat(["a"], ["b", "c", "d"], [[1.0, 1e3, 1e6]], "t", log=True)) == [
        "q0",
        "q3",
        "q6",
    ]


def test_the_path_of_a_byte_says_how_much_farther() -> None:
    places = [Place(name="HBM", pj_per_byte=30.0, on_die=False), Place(name="near", pj_per_byte=0.5, on_die=True)]
    drawn = byte_path(places, "t")
    assert "30 pJ a byte" in drawn
    assert "60x the nearest" in drawn
    assert drawn.index("near: ") < drawn.index("HBM: ")


def colours() -> dict[str, tuple[str, str]]:
    """name -> its colour in light and in dark."""
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", stylesheet())
    return {name: (light, dark) for name, light, dark in found}


def linear(colour: str) -> list[float]:
    parts = [int(colour[at : at + 2], 16) / 255.0 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) of the relative luminances."""
    low, high = sorted(sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear(each), strict=True))
                       for each in (one, other))  # fmt: skip
    return (high + 0.05) / (low + 0.05)


SERIES = [f"s{number}" for number in range(1, 9)]
TEXTS = [
    *((text, paper) for text in ("ink", "soft", "accent") for paper in ("paper", "card", "wash")),
    *(("on", fill) for fill in (*SERIES, "other")),
    *((fill, paper) for fill in (*SERIES, "other") for paper in ("card", "paper")),
    *(("heat-ink", step) for step in ("q0", "q1", "q2", "q3", "d1", "d2", "d3", "d4", "d5")),
    *(("heat-on", step) for step in ("q4", "q5", "q6", "d0", "d6")),
]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_have_the_contrast_of_wcag_aa(theme: int) -> None:
    held = {name: pair[theme] for name, pair in colours().items()}
    weak = {pair: ratio for pair in TEXTS if (ratio := contrast(held[pair[0]], held[pair[1]])) < 4.5}
    assert not weak
    assert contrast(held["edge"], held["card"]) >= 3.0
    assert contrast(held["edge"], held["paper"]) >= 3.0


VISION = {
    "usual": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}
"""Machado, Oliveira and Fernandes 2009, severity 1, over linear RGB"""
OKLAB_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)  # fmt: skip
OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)  # fmt: skip


def through(matrix: tuple[tuple[float, ...], ...], parts: list[float]) -> list[float]:
    return [sum(weight * part for weight, part in zip(row, parts, strict=True)) for row in matrix]


def seen(colour: str, vision: str) -> list[float]:
    """Oklab coordinates of a colour as it is seen."""
    rgb = [min(max(part, 0.0), 1.0) for part in through(VISION[vision], linear(colour))]
    return through(OKLAB, [math.cbrt(max(part, 0.0)) for part in through(OKLAB_LMS, rgb)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_are_told_apart(theme: int, vision: str) -> None:
    held = {name: seen(colours()[name][theme], vision) for name in SERIES}
    near = {
        (one, other): gap
        for one, other in combinations(SERIES, 2)
        if (gap := math.dist(held[one], held[other])) < 0.075
    }
    assert not near


def test_words_of_ticks_keep_apart() -> None:
    """$0, $100M ... under a short axis: as many words as have room, and a grid line at each tick."""
    xs = snug([-5e7, 4.2e8], 226.0, 400.0, False, 4)
    tree = ElementTree.fromstring(f"<g>{base_axis(xs, 0.0, 100.0, 'dollars', dollars)}</g>")
    assert len(tree.findall("line")) == len(xs.ticks)
    words = [(float(each.get("x", "")), each.text or "") for each in tree.findall("text")[:-1]]
    assert 2 <= len(words) < len(xs.ticks)
    for (left, first), (right, second) in pairwise(words):
        assert right - left >= CHARACTER * (len(first) + len(second)) / 2.0


def test_an_axis_may_span_more_than_a_double() -> None:
    """The ratio of 1e250 to 1e-250 is beyond a double; both have a place, and the ticks lie between them."""
    scale = snug([1e-250, 1.0, 1e250], 0.0, 100.0, True)
    assert [scale.at(value) for value in (1e-250, 1.0, 1e250)] == pytest.approx([3.7, 50.0, 96.3], abs=0.01)
    assert len(scale.ticks) >= 2
    assert all(0.0 <= scale.at(tick) <= 100.0 for tick in scale.ticks)


def test_a_row_of_one_part_repeats_no_name() -> None:
    """Bars with a name and a total beside them need neither a legend nor words inside."""
    rows = [Stack(name=name, parts={name: value}) for name, value in (("a", 2.0), ("b", 1.0))]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", stacks(rows, "W", "watts", "watts"))
    assert texts.count("a") == texts.count("b") == 1
    assert 'class="key' not in stacks([Stack(name="a", parts={"all": 2.0})], "W", "watts")


def test_the_ends_of_a_tornado_are_named() -> None:
    chart = tornado([Driver(name="idle_w", low=-0.2, high=0.2)], 0.0, "per cent", "t", ends=("with less", "with more"))
    assert "idle_w: -$0.20 with less, $0.20 with more" in chart
    assert ">with less</text>" in chart
    assert ">with more</text>" in chart


def test_the_legend_of_a_heat_map_says_what_its_colours_stand_for() -> None:
    """Colours diverge alike on both sides: the paler side of -0.2 to 0.6 ends at -0.6, of 0.5 to 8 around 1 at 1/8."""
    words = ("least", "most")
    drawn = heat(["a"], ["b", "c"], [[-0.2, 0.6]], "t", middle=0.0, legend=words)
    assert ">least -0.6<" in drawn
    assert ">most 0.6<" in drawn
    drawn = heat(["a"], ["b", "c"], [[0.5, 8.0]], "t", middle=1.0, log=True, legend=words)
    assert ">least 0.125<" in drawn
    assert ">most 8<" in drawn
    assert re.findall(r'<g class="(d\d)">', drawn) == ["d2", "d6"]
    assert ">least 1<" in heat(["a"], ["b", "c"], [[1.0, 8.0]], "t", legend=words)


def test_ways_are_as_thick_as_their_energy_over_the_whole_range() -> None:
    """1, 10, 100 and 10,000 pJ: a quarter and a half of the way from the least to the greatest, on a logarithm."""
    energies = (1.0, 10.0, 100.0, 10_000.0, None)
    places = [Place(name=str(each), pj_per_byte=each, on_die=False) for each in energies]
    assert re.findall(r'class="way w(\d)"', byte_path(places, "t")) == ["1", "2", "3", "5", "1"]


def test_a_jump_does_not_squeeze_the_slopes() -> None:
    """-20.6 where a larger batch comes into reach is told and not drawn; a count's jump within 1 is drawn."""
    found = {"memory_bytes": -20.6, "memory_bytes_per_s": -0.6, "link_domain_chips": -0.02, "hop_s": 0.0}
    chart, left_out = elasticity_tornado(found, {"memory_bytes", "link_domain_chips"}, "dollars")
    assert left_out == "Not drawn, as another configuration comes into reach: memory_bytes (-20.6 %)."
    assert re.findall(r"<title>(\w+):", chart) == ["memory_bytes_per_s", "link_domain_chips"]
    assert "memory_bytes_per_s: +0.6 % with 1 % less, -0.6 % with 1 % more" in chart
    assert elasticity_tornado({"idle_w": 3.0}, (), "joules")[1] == ""
