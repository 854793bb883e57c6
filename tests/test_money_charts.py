"""Waterfalls, bands, tornados and hours: what is drawn where, nothing unescaped, and a year in a small drawing."""

from __future__ import annotations

import re

import pytest

from flashstill.report.amounts import dollars, short
from flashstill.report.axes import EDGE
from flashstill.report.bands import Crossing, Curve, bands
from flashstill.report.hours import Layer, hours, mean_day, stretches
from flashstill.report.sections import Section, cell, render_sections
from flashstill.report.svg import WIDTH, Scale
from flashstill.report.tornado import Driver, tornado
from flashstill.report.waterfall import Step, waterfall

HOSTILE = "<script>alert('x')</script>\"&"
STEPS = [
    Step(name="chips", value=2.0),
    Step(name="resale", value=-0.5),
    Step(name="owned", value=1.5, is_total=True),
    Step(name="margin", value=1.0),
]


def rectangles(chart: str) -> list[tuple[float, float]]:
    """Left and right edge of each bar, in order."""
    found = re.findall(r'class="bar[^"]*" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', chart)
    return [(float(x), float(x) + float(width)) for x, width in found]


def test_each_step_of_a_waterfall_begins_where_the_last_ended() -> None:
    chips, resale, owned, margin = rectangles(waterfall(STEPS, "dollars", "a waterfall"))
    zero, unit = chips[0], (chips[1] - chips[0]) / 2.0
    assert resale == pytest.approx((zero + 1.5 * unit, zero + 2.0 * unit), abs=0.11)
    assert owned == pytest.approx((zero, zero + 1.5 * unit), abs=0.11)
    assert margin == pytest.approx((zero + 1.5 * unit, zero + 2.5 * unit), abs=0.11)


def test_a_waterfall_may_dip_below_zero() -> None:
    (loss, gain) = rectangles(waterfall([Step(name="a", value=-3.0), Step(name="b", value=4.0)], "$", "t"))
    assert loss[0] == pytest.approx(gain[0], abs=0.11)
    assert gain[1] > loss[1]


def test_bands_are_between_their_ends_and_the_crossing_is_marked() -> None:
    points = [(10.0**power, 10.0 ** (4 - power), 10.0 ** (5 - power), 10.0 ** (6 - power)) for power in range(1, 6)]
    crossing = Crossing(word="break-even", low=1e2, middle=1e3, high=1e4)
    chart = bands([Curve(name="own", points=points)], "tokens", "curves", crossing)
    line = re.search(r'<polyline class="line s1" points="([^"]+)"', chart)
    mark = re.search(r'class="mark" x1="([\d.]+)"', chart)
    shade = re.search(r'class="range" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', chart)
    assert line is not None
    assert mark is not None
    assert shade is not None
    places = [tuple(map(float, each.split(","))) for each in line[1].split()]
    assert float(mark[1]) == pytest.approx(places[2][0], abs=0.11)  # x = 1e3 is the third point
    assert float(shade[1]) + float(shade[2]) == pytest.approx(places[3][0], abs=0.2)
    assert places[0][1] < places[-1][1]  # falls: further down the page
    assert chart.count('class="band s1"') == 1


def test_an_open_crossing_reaches_the_edge_and_none_leaves_no_mark() -> None:
    points = [(1.0, 1.0, 2.0, 3.0), (100.0, 1.0, 2.0, 3.0)]
    open_end = bands([Curve(name="a", points=points)], "x", "t", Crossing(word="w", low=10.0, middle=None, high=None))
    shade = re.search(r'class="range" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', open_end)
    ends = re.search(r'class="line s1" points="([\d.]+),[\d.]+ ([\d.]+),[\d.]+"', open_end)
    assert shade is not None
    assert ends is not None
    assert float(shade[1]) == pytest.approx((float(ends[1]) + float(ends[2])) / 2.0, abs=0.11)
    assert float(shade[1]) + float(shade[2]) == pytest.approx(WIDTH - EDGE, abs=0.11)
    assert 'class="mark"' not in open_end
    never = bands([Curve(name="a", points=points)], "x", "t", Crossing(word="w", low=None, middle=None, high=None))
    assert "range" not in never
    assert bands([Curve(name="a", points=[(0.0, 1.0, 1.0, 1.0)])], "x", "t") == ""


def test_a_gap_parts_a_curve_and_an_unknown_band_is_none() -> None:
    points = [(1.0, None, 2.0, None), (2.0, None, 2.0, None), (3.0, None, None, None), (4.0, None, 2.0, None)]
    chart = bands([Curve(name="a", points=points)], "x", "t")
    assert chart.count("<polyline") == 2
    assert "polygon" not in chart


def test_the_widest_driver_is_on_top_and_one_that_is_never_reached_is_open() -> None:
    drivers = [
        Driver(name="narrow", low=9.0, high=11.0),
        Driver(name="never", low=10.0, high=None),
        Driver(name="wide", low=20.0, high=5.0),
    ]
    chart = tornado(drivers, 10.0, "tokens", "a tornado", short)
    assert chart.index(">never<") < chart.index(">wide<") < chart.index(">narrow<")
    assert chart.count("bar open") == 1
    assert "never: 10 at its low end, never at its high end" in chart
    assert tornado([], 1.0, "x", "t") == ""


def test_a_year_is_small_and_keeps_its_peaks() -> None:
    values = [100.0 + 50.0 * (hour % 24 == 20) for hour in range(8760)]
    values[4000] = 900.0
    chart = hours([Layer(name="serve", values=values), Layer(name="idle", values=[1.0] * 8760, is_idle=True)], "year")
    assert len(chart) < 40_000
    line = re.findall(r'class="line over" d="M[\d.]+,([^"]+)"', chart)
    assert len(line) == 2
    heights = [float(each) for edge in line for each in re.findall(r"(?:^|V)([\d.]+)", edge)]
    top = min(heights)
    assert heights.count(top) == 1  # the peak of one hour is drawn, and highest
    assert len(stretches(8760)) <= 250
    assert sum(map(len, stretches(8761))) == 8761


def test_layers_are_stacked_and_more_than_the_colours_are_added_up() -> None:
    two = hours([Layer(name="a", values=[1.0, 1.0]), Layer(name="b", values=[3.0, 1.0])], "t")
    upper, lower = re.findall(r'd="M56,[\d.]+V([\d.]+)', two)
    foot = re.search(r"d=\"M56,([\d.]+)V", two)
    assert foot is not None
    assert float(foot[1]) - float(upper) == pytest.approx(4.0 * (float(foot[1]) - float(lower)))
    many = hours([Layer(name=f"use {number}", values=[1.0 + number]) for number in range(12)], "t")
    assert ">5 others<" in many
    assert many.count('class="area') == 8
    assert hours([], "t") == ""


def test_a_mean_day_begins_at_midnight() -> None:
    values = [float(hour % 24 + hour // 24) for hour in range(72)]
    assert mean_day(values) == [hour + 1.0 for hour in range(24)]
    assert mean_day([1.0, 3.0, 2.0, 4.0], steps=2) == [1.5, 3.5]
    with pytest.raises(ValueError, match="less than a day"):
        mean_day([1.0] * 23)


def test_everything_is_escaped_and_nothing_is_fetched() -> None:
    charts = [
        waterfall([Step(name=HOSTILE, value=1.0)], HOSTILE, HOSTILE),
        bands([Curve(name=HOSTILE, points=[(1.0, 1.0, 2.0, 3.0), (9.0, 1.0, 2.0, 3.0)])], HOSTILE, HOSTILE,
              Crossing(word=HOSTILE, low=2.0, middle=3.0, high=4.0)),
        tornado([Driver(name=HOSTILE, low=1.0, high=2.0)], 1.5, HOSTILE, HOSTILE),
        hours([Layer(name=HOSTILE, values=[1.0, 2.0])], HOSTILE, (HOSTILE, [1.0, 2.0]), y_title=HOSTILE),
    ]  # fmt: skip
    section = Section(
        title=HOSTILE, text=HOSTILE, charts=[(HOSTILE, chart) for chart in charts],
        headings=[HOSTILE], rows=[[HOSTILE]], sources=[HOSTILE],
    )  # fmt: skip
    page = render_sections(HOSTILE, HOSTILE, [section], [(HOSTILE, HOSTILE)], [HOSTILE], [(HOSTILE, HOSTILE)])
    assert not re.search(r"<script|https?:|alert\('", page)
    assert page.count("<svg") == page.count('role="img"') == 4
    assert "default-src 'none'" in page


def test_amounts_are_short() -> None:
    assert [dollars(each) for each in (0.0, 6.05e-5, 0.0042, 0.2, 1.2, 17.0, 999.6, 87_072.0, 1.2e9, -3e6)] == [
        "$0", "$0.0000605", "$0.0042", "$0.20", "$1.20", "$17", "$1,000", "$87.1k", "$1.2B", "-$3M",
    ]  # fmt: skip
    assert [short(each) for each in (250.0, 12e3, 2e12, 1e15)] == ["250", "12k", "2T", "1000T"]
    assert cell([1.0, "a", None, True]) == "1, a, , yes"


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.3, 0.31), (7.0, 800.0), (1e-3, 1e12), (5.0, 5.000001)])
def test_logarithmic_ticks_enclose_the_values_and_are_few(low: float, high: float) -> None:
    scale = Scale.over([low, high], 0.0, 100.0, log=True)
    assert scale.low <= low * (1 + 1e-9)
    assert scale.high >= high * (1 - 1e-9)
    assert 2 <= len(scale.ticks) <= 9
    assert 0.0 <= scale.at(low) <= scale.at(high) <= 100.0 + 1e-6
