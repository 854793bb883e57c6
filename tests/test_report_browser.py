"""Pages of reports in a real browser: nothing refused, nothing fetched, accessible, and no wider than a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashstill.report.answers import write_answer_page
from flashstill.report.simulation import render_simulation
from flashstill.report.study import render_study
from tests.answers import ASIC, KNEE, SIMULATION, capacity, loads
from tests.browser import Page, browser

pytestmark = pytest.mark.slow
EVIDENCE = Path(__file__).parents[1] / "docs" / "evidence"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    written = {name: folder / f"{name}.html" for name in ("asic", "capacity", "simulation", "deep-think")}
    write_answer_page(written["asic"], ASIC)
    write_answer_page(written["capacity"], capacity(48))
    written["simulation"].write_text(render_simulation("a model", SIMULATION, KNEE, loads(3)), encoding="utf-8")
    summary = json.loads((EVIDENCE / "deep-think.json").read_text())
    recipe = 'name = "deep-think"\nstudy = "deep-think"\n'
    written["deep-think"].write_text(render_study(summary, recipe), encoding="utf-8")
    return written


@pytest.mark.parametrize("name", ["asic", "capacity", "simulation", "deep-think"])
def test_a_page_is_accessible_whole_and_narrow(tab: Page, pages: dict[str, Path], name: str) -> None:
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(pages[name].as_uri())
    tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for dark in (False, True):
        tab.appear(dark=dark)
        tab.check_accessible(where=f"{name}, {'dark' if dark else 'light'}")
    tab.appear(width=390, height=844)
    assert tab.run("document.documentElement.scrollWidth") <= 390, "tables scroll inside their boxes"
    texts = (
        "[...document.querySelectorAll('svg.chart[role=img] text')].map((each) => each.getBoundingClientRect().height)"
    )
    assert min(height for height in tab.run(texts) if height > 0.0) >= 9.0
    tab.check_accessible(where=f"{name}, narrow")
    assert not tab.complaints
    assert all(address.startswith("file:") for address in tab.requests)
