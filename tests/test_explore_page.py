"""The page of `explore` in a real browser: drawn, keyboard alone, light, dark and a phone's width, saved and shared."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from flashstill.explore import saving
from flashstill.explore.server import ExploreServer
from flashstill.explore.starting import answers_of, listening
from flashstill.progress import Silent
from tests.answers import ASIC, HOSTILE
from tests.browser import Page, browser

pytestmark = pytest.mark.slow
SHOWN = "document.querySelector('#panel h2') && !document.querySelector('[aria-busy]')"
LOOKS = {"light": {}, "dark": {"dark": True}, "a phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def server() -> Iterator[ExploreServer]:
    yield from serving(listening(answers_of(), 0))


def serving(server: ExploreServer) -> Iterator[ExploreServer]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def quiet(tab: Page) -> Iterator[None]:
    """Every test begins with a window of its own look, and ends without a complaint of the browser."""
    tab.complaints.clear()
    tab.requests.clear()
    tab.appear()
    yield
    assert tab.complaints == []


def shown(tab: Page, address: str) -> None:
    tab.open(address)
    tab.until(SHOWN)


def state(tab: Page) -> dict[str, str]:
    """The state in the address, each name once."""
    return {name: values[0] for name, values in parse_qs(urlsplit(tab.run("location.href")).query).items()}


def title(tab: Page) -> str:
    return str(tab.run("document.querySelector('#panel h2').textContent"))


def focused(tab: Page) -> str:
    return str(tab.run("document.activeElement.id"))


def tab_to(tab: Page, condition: str) -> None:
    """Press Tab until the focus is where a condition on `at` holds; wherever it comes by, it can be seen."""
    for _ in range(80):
        tab.press("Tab")
        style = "(style => style.outlineStyle !== 'none' && style.outlineWidth !== '0px')"
        tab.until(f"{style}(getComputedStyle(document.activeElement))")  # a busy machine draws it later
        if tab.run(f"!!(at => {condition})(document.activeElement)"):
            return
    pytest.fail(f"Tab never came to {condition}")


def number(cell: str) -> float | str:
    """A cell of a CSV file; JavaScript writes 0 where Python writes 0.0."""
    try:
        return float(cell)
    except ValueError:
        return cell


def names_of(server: ExploreServer) -> list[str]:
    return list(server.answers.kinds)


def test_every_view_is_drawn_in_every_look_and_can_be_used_by_all(tab: Page, server: ExploreServer) -> None:
    for name in names_of(server):
        shown(tab, server.address(f"view={name}"))
        if name == names_of(server)[0]:  # a table looks as one does in all views
            tab.run("document.querySelector('#panel .charts details').open = true")
        for look, settings in LOOKS.items():
            tab.appear(**settings)  # type: ignore[arg-type]
            tab.check_accessible(where=f"{name}, {look}", with_contrast=look != "a phone")
            assert tab.run("document.documentElement.scrollWidth <= innerWidth"), f"{name}, {look} scrolls sideways"
        tab.appear()
        assert tab.run("document.querySelectorAll('#panel svg[role=img][aria-label]').length") >= 1
        assert tab.run("[...document.querySelectorAll('#panel table')].every(each => each.caption.textContent)")
        assert "flashstill " in tab.run("document.getElementById('command').textContent")
        assert tab.run("[...document.querySelectorAll('[style]')].map(each => each.id).join()") in ("", "tip")
    assert all(each.startswith((f"http://127.0.0.1:{server.port}/", "data:", "about:")) for each in tab.requests)


def test_colours_follow_the_reader(tab: Page, server: ExploreServer) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    shown(tab, server.address())
    light = tab.run(paper)
    tab.appear(dark=True)
    dark = tab.run(paper)
    assert light != dark
    assert tab.run("getComputedStyle(document.getElementById('panel')).transitionDuration") == "0s"
    tab.run("document.getElementById('theme').click()")  # from the system's to light
    assert tab.run(paper) == light
    shown(tab, server.address())
    assert tab.run(paper) == light
    assert tab.run("localStorage.removeItem('theme')") is None


def test_all_of_it_by_keyboard(tab: Page, server: ExploreServer) -> None:
    shown(tab, server.address())
    names = names_of(server)
    tab_to(tab, "at.className === 'skip'")
    tab.press("Enter")
    assert focused(tab) == "panel"
    tab_to(tab, "at.closest('.plot')")
    tab.press("ArrowRight")
    first = tab.run("document.getElementById('tip').textContent")
    assert first
    tab.press("ArrowRight")
    assert tab.run("document.getElementById('tip').textContent") != first
    assert tab.run("document.getElementById('status').textContent") == tab.run(
        "document.getElementById('tip').textContent"
    )
    tab.press("Escape")
    assert tab.run("document.getElementById('tip').hidden")
    shown(tab, server.address())
    tab_to(tab, "at.role === 'tab'")
    for name in [*names[1:], names[0]]:
        tab.press("ArrowRight")
        tab.until(f"new URLSearchParams(location.search).get('view') === '{name}' && {SHOWN}")
        assert focused(tab) == f"tab-{name}"
        assert tab.run("document.querySelectorAll('[role=tab][aria-selected=true]').length") == 1
    tab_to(tab, "at.id === 'c-batch'")
    before = title(tab), tab.run("document.querySelector('.lead').textContent")
    tab.press("ArrowRight")
    tab.until("new URLSearchParams(location.search).get('batch') === '32'")
    tab.until(f"document.querySelector('.lead').textContent !== {json.dumps(before[1])}")
    assert tab.run("document.getElementById('c-batch').getAttribute('aria-valuetext')").startswith("32 ")
    assert focused(tab) == "c-batch"
    tab_to(tab, "at.id === 'c-batch-exact'")
    tab.run("document.activeElement.select()")
    tab.type("48")
    tab.press("Enter")
    tab.until("new URLSearchParams(location.search).get('batch') === '48'")


def test_a_long_list_is_one_stop_of_the_keyboard(tab: Page, server: ExploreServer) -> None:
    shown(tab, server.address("view=front&chips_from=h100-sxm"))
    chosen = "[...document.querySelectorAll('fieldset input:checked')].map(each => each.value).join()"
    tab_to(tab, "at.type === 'checkbox' && at.closest('fieldset')")
    assert tab.run("document.activeElement.value") == "h100-sxm"
    tab.press("ArrowDown")
    tab.press(" ")
    tab.until("new URLSearchParams(location.search).get('chips_from').includes(',')")
    tab.until(f"{chosen}.includes(',')")
    assert set(state(tab)["chips_from"].split(",")) == set(tab.run(chosen).split(","))
    tab.press("End")
    last = tab.run("document.activeElement.value")
    tab.press("Tab")
    assert focused(tab) == "c-max_chips"
    tab.press("Tab", shift=True)
    assert tab.run("document.activeElement.value") == last


def test_what_if_edits_change_the_answer_and_can_be_taken_back(tab: Page, server: ExploreServer) -> None:
    shown(tab, server.address("view=model"))
    before = tab.run("document.querySelector('.lead').textContent")
    tab_to(tab, "at.id === 'c-edit-add'")
    tab.type("h100-sxm.memory_bytes_per_s=6.7e12")
    tab.press("Enter")
    tab.until("new URLSearchParams(location.search).get('set') === 'h100-sxm.memory_bytes_per_s=6.7e12'")
    tab.until(f"document.querySelector('.lead').textContent !== {json.dumps(before)}")
    assert "--set h100-sxm.memory_bytes_per_s=6.7e12" in tab.run("document.getElementById('command').textContent")
    assert "x)" in tab.run("document.querySelector('.edit .value').textContent")
    tab_to(tab, "at.id === 'c-edit-0-off'")
    tab.press("Enter")
    tab.until(f"document.querySelector('.lead').textContent === {json.dumps(before)}")


def test_back_forward_and_a_shared_address_restore_the_state(tab: Page, server: ExploreServer) -> None:
    shown(tab, server.address("view=model"))
    first = title(tab)
    tab.run("document.getElementById('tab-front').click()")
    tab.until(f"document.getElementById('tab-front').ariaSelected === 'true' && {SHOWN}")
    tab.until(f"document.querySelector('#panel h2').textContent !== {json.dumps(first)}")
    second = title(tab)
    tab.run("history.back()")
    tab.until(f"document.querySelector('#panel h2').textContent === {json.dumps(first)}")
    assert state(tab)["view"] == "model"
    tab.run("history.forward()")
    tab.until(f"document.querySelector('#panel h2').textContent === {json.dumps(second)}")
    tab.run("document.querySelector('#c-max_chips').value = 1")
    tab.run("document.querySelector('#c-max_chips').dispatchEvent(new Event('input'))")
    tab.until("new URLSearchParams(location.search).get('max_chips') === '2'")
    tab.until("document.querySelector('#panel h2').textContent.includes('2 chips')")
    shared, lead = tab.run("location.href"), tab.run("document.querySelector('.lead').textContent")
    shown(tab, shared)
    assert tab.run("document.querySelector('.lead').textContent") == lead
    assert tab.run("document.getElementById('c-max_chips').value") == "1"


def test_of_many_moves_the_last_is_shown(tab: Page, server: ExploreServer) -> None:
    shown(tab, server.address("view=model"))
    moves = "for (let at = 0; at < 9; at++) { range.value = at; range.dispatchEvent(new Event('input')); }"
    tab.run(f"(range => {{ {moves} }})(document.getElementById('c-batch'))")
    tab.until("document.querySelector('.lead').textContent.includes('At batch 256 ')")
    assert state(tab)["batch"] == "256"


def test_a_mistake_in_an_address_is_a_sentence_and_the_page_stays_of_use(tab: Page, server: ExploreServer) -> None:
    tab.open(server.address("view=model&batch=none"))
    tab.until("document.getElementById('trouble').textContent")
    assert "batch" in tab.run("document.getElementById('trouble').textContent")
    tab.until("document.getElementById('c-batch')")
    tab.check_accessible(where="a mistake")
    tab.complaints.clear()  # the browser notes an answer of status 400


def test_csv_and_png_of_a_chart(tab: Page, server: ExploreServer, tmp_path: Path) -> None:
    tab.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    shown(tab, server.address("view=model"))
    for kind in ("CSV", "PNG"):
        tab.run(f"document.querySelector('.tools button[aria-label^={kind}]').click()")
    patience = 1200
    while len([path for path in tmp_path.iterdir() if path.suffix in (".csv", ".png")]) < 2 and patience:
        tab.run("new Promise(done => setTimeout(done, 50))")
        patience -= 1
    (table,), (picture,) = tmp_path.glob("*.csv"), tmp_path.glob("*.png")
    chart = server.answers.view(server.answers.state("view=model")).charts[0]
    written, meant = (list(csv.reader(io.StringIO(text))) for text in (table.read_text("utf-8"), chart.table.as_csv()))
    assert written[0] == meant[0]
    assert [[number(cell) for cell in row] for row in written] == [[number(cell) for cell in row] for row in meant]
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 20_000


def test_a_saved_page_opens_from_a_file_with_all_its_views(
    tab: Page, server: ExploreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "MOST_STATES", 6)
    monkeypatch.setattr(saving, "MOST_SECONDS", 1e9)  # a slow machine would save fewer
    path = tmp_path / "page.html"
    saved = saving.save_page(server.answers, path, Silent())
    assert saved.bytes == path.stat().st_size <= saving.MOST_BYTES
    shown(tab, path.as_uri())
    assert f"{saved.states} states" in tab.run("document.getElementById('about').textContent")
    for name in names_of(server):
        tab.run(f"document.getElementById('tab-{name}').click()")
        chart = server.answers.view(server.answers.state(f"view={name}")).charts[0]
        tab.until(f"document.getElementById('panel').textContent.includes({json.dumps(chart.title)})")
        assert f"view={name}" in tab.run("location.hash")
        assert tab.run("document.querySelectorAll('#panel svg').length") >= 1
        tab.check_accessible(where=f"saved, {name}", with_contrast=False)
    held = json.loads(tab.run("document.getElementById('saved').textContent"))["controls"]["model"]
    (chips,) = [control["values"] for control in held if control["name"] == "chip"]
    shown(tab, f"{path.as_uri()}#view=model&chip={chips[-1]}")
    assert chips[-1] in title(tab)
    assert chips[0] not in title(tab)
    assert tab.run("document.getElementById('c-engine').disabled")
    tab.run("document.querySelector('#panel details[data-key=sources]').open = true")
    tab.until("document.querySelectorAll('#panel details[data-key=sources] tbody tr').length > 5")
    assert {urlsplit(each).scheme for each in tab.requests} <= {"file", "data", "about"}


def test_a_result_comes_first_and_its_names_stay_texts(tab: Page, tmp_path: Path) -> None:
    path = tmp_path / "asic.json"
    path.write_text(json.dumps(ASIC), encoding="utf-8")
    for server in serving(listening(answers_of(result=path), 0)):
        shown(tab, server.address())
        assert title(tab) == f"A chip for {HOSTILE}"
        assert tab.run("document.querySelectorAll('#panel svg').length") == 6
        assert tab.run("document.querySelectorAll('#panel script').length") == 0
        tab.check_accessible(where="a result")
        tab.appear(width=390, height=844)
        assert tab.run("document.documentElement.scrollWidth <= innerWidth")
