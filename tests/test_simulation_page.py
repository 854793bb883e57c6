"""The page of a simulation: every chart with its numbers, nothing from elsewhere, everything escaped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flashstill.report.axes import Axis
from flashstill.report.line_chart import line_chart
from flashstill.report.percentiles import Bar, intervals
from flashstill.report.simulation import LATENCY, render_simulation, write_simulation_page
from flashstill.report.svg import Line
from tests.answers import KNEE
from tests.answers import SIMULATION as DOCUMENT
from tests.answers import loads as rows


def test_every_chart_has_its_numbers() -> None:
    page = render_simulation("a <model>", DOCUMENT, KNEE, rows(3))
    assert page.count("<svg") == 1 + 4 + 4
    assert page.count("The numbers") == 3
    for value in ("1,234 tokens/s", "7.5 requests/s", "Not steady", "2 requests are larger", "2.5", "50%"):
        assert value in page
    assert page.count(">base</td>") == 6
    assert ">knee</text>" in page
    assert ">ttft bound</text>" in page


def test_nothing_is_run_or_fetched_and_all_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_simulation_page(path, "a <script>x</script>", DOCUMENT, KNEE, rows(2))
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"<script|https?:|<b>chip|<note>", page)
    assert "&lt;b&gt;chip" in page
    assert "default-src 'none'" in page
    assert len(page) < 200_000


def test_only_a_knee() -> None:
    page = render_simulation("a model", None, KNEE, ())
    assert "<svg" not in page
    assert "7.4 requests/s" in page
    assert "bounds hold at p95 up to" in page


def test_charts_place_their_values() -> None:
    """A straight line over its ticks; a gap parts a line; an open interval ends at its value."""
    seconds, running = Axis(title="time", unit="s"), Axis(title="running", from_zero=True)
    chart = line_chart([Line(name="one", points=[(0.0, 0.0), (50.0, 4.0), (100.0, 8.0)])], seconds, running, "a & b")
    drawn = re.search(r'points="([\d.]+),([\d.]+) ([\d.]+),([\d.]+) ([\d.]+),([\d.]+)"', chart)
    ticks = dict(re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([^<]+)</text>', chart))
    assert drawn is not None
    x1, y1, x2, y2, x3, y3 = map(float, drawn.groups())
    assert (x2, y2) == pytest.approx(((x1 + x3) / 2.0, (y1 + y3) / 2.0), abs=0.11)
    assert ticks[drawn[1]] == "0"
    assert ticks[drawn[5]] == "100 s"
    assert "a &amp; b" in chart
    gap = [(0.0, 1.0), (1.0, None), (2.0, 1.0), (3.0, 1.0)]
    assert line_chart([Line(name="one", points=gap)], seconds, running, "gap").count("<polyline") == 2
    assert line_chart([Line(name="none", points=[])], seconds, running, "nothing") == ""
    bars = intervals([Bar(row="ttft", label="p50", value=1.0, low=0.1, high=None)], LATENCY, "latencies")
    found = re.search(r'class="interval" d="M([\d.]+),[\d.]+H([\d.]+)"', bars)
    place = re.search(r'class="dot" cx="([\d.]+)"', bars)
    assert found is not None
    assert place is not None
    assert float(found[1]) < float(found[2]) == float(place[1])
