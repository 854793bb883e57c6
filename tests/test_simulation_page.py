"""The page of a simulation: every chart with its numbers, nothing from elsewhere, everything escaped."""

from __future__ import annotations

import re
from pathlib import Path

from flashstill.report.simulation import render_simulation, write_simulation_page
from flashstill.report.svg import Bar, Line, intervals, lines
from tests.answers import KNEE
from tests.answers import SIMULATION as DOCUMENT
from tests.answers import loads as rows


def test_every_chart_has_its_numbers() -> None:
    page = render_simulation("a <model>", DOCUMENT, KNEE, rows(3))
    assert page.count("<svg") == 1 + 4 + 4
    assert page.count("The numbers") == 3
    for value in ("1,234 tokens/s", "7.5 requests/s", "Not steady", "2 requests are larger", "2.5", "50%"):
        assert value in page
    assert page.count("<td>base</td>") == 6
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
    """A line from corner to corner of its axes; a gap parts a line; an open interval ends at its value."""
    chart = lines([Line(name="one", points=[(0.0, 0.0), (100.0, 8.0)])], "seconds", "a & b")
    assert 'points="56.0,180.0 468.0,26.0"' in chart
    assert "a &amp; b" in chart
    parted = lines([Line(name="one", points=[(0.0, 1.0), (1.0, None), (2.0, 1.0), (3.0, 1.0)])], "seconds", "gap")
    assert parted.count("<polyline") == 2
    assert lines([Line(name="none", points=[])], "seconds", "nothing") == ""
    bars = intervals([Bar(row="ttft", label="p50", value=1.0, low=0.1, high=None)], "seconds", "latencies")
    found = re.search(r'class="line" x1="([\d.]+)" x2="([\d.]+)"', bars)
    place = re.search(r'class="dot" cx="([\d.]+)"', bars)
    assert found is not None
    assert place is not None
    assert float(found[1]) < float(found[2]) == float(place[1])
