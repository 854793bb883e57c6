"""Which states a saved page holds, and what it is refused for."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.explore import saving
from flashstill.explore.answers import Answers
from flashstill.explore.grid import grid_of, query_of
from flashstill.explore.saving import check_place, save_page
from flashstill.explore.starting import answers_of
from flashstill.progress import Silent

MODELS = [{"value": name, "label": name.upper()} for name in "abcdefgh"]
TOLD: list[dict[str, Any]] = [
    {"name": "model", "kind": "choice", "choices": MODELS},
    {"name": "models", "kind": "choices", "choices": MODELS},
    {"name": "batch", "kind": "number", "whole": True, "low": 1, "high": 1024, "stops": [2**k for k in range(11)]},
    {"name": "max_tpot", "kind": "number", "optional": True, "stops": [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]},
    {"name": "chips", "kind": "number", "whole": True, "optional": True, "stops": [1, 2, 4]},
    {"name": "price", "kind": "choice", "choices": [{"value": name} for name in ("rented", "owned", "list")]},
    {"name": "engine", "kind": "choice", "choices": [{"value": name} for name in ("", "v", "w", "x", "y", "z")]},
    {"name": "set", "kind": "edits", "choices": [{"value": "h100.watts", "now": 1.0}]},
]
STATE: dict[str, Any] = {
    "view": "front", "model": "c", "models": ["a", "c", "e"], "batch": 16, "max_tpot": None, "chips": None,
    "price": "rented", "engine": None, "set": ["h100.watts=2"],
}  # fmt: skip
HEARD = [control["name"] for control in TOLD]


@given(most=st.integers(1, 400), heard=st.sets(st.sampled_from(HEARD)))
def test_a_grid_holds_the_present_state_and_no_more_than_it_may(most: int, heard: set[str]) -> None:
    grid = grid_of("front", heard, TOLD, STATE, most)
    assert 1 <= grid.count <= most
    assert {axis.name for axis in grid.axes} <= heard
    for axis in grid.axes:
        assert STATE[axis.name] in axis.values
        assert len(set(axis.values)) == len(axis.values) > 1
    queries = list(grid.queries(STATE))
    assert len(set(queries)) == grid.count
    assert query_of("front", STATE) in queries


def test_models_chips_and_sliders_vary_before_the_rest() -> None:
    axes = {axis.name: axis.values for axis in grid_of("front", HEARD, TOLD, STATE, 150).axes}
    assert axes["model"] == ("c", "a", "e")  # those that the control of several models has
    assert axes["batch"] == tuple(sorted(axes["batch"], key=float))  # type: ignore[arg-type]
    assert axes["max_tpot"][0] is None
    assert "price" not in axes
    assert "engine" not in axes
    assert "price" in {axis.name for axis in grid_of("front", HEARD, TOLD, STATE, 10_000).axes}


def test_a_query_says_what_is_left_out_and_repeats_edits() -> None:
    pairs = parse_qsl(query_of("front", {**STATE, "set": ["a.b=1", "c.d=2"]}), keep_blank_values=True)
    assert ("view", "front") in pairs
    assert ("max_tpot", "") in pairs
    assert [value for name, value in pairs if name == "set"] == ["a.b=1", "c.d=2"]
    assert ("models", "a,c,e") in pairs


@pytest.mark.parametrize("name", ["page", "page.txt", "page.html.gz"])
def test_another_ending_is_refused_before_anything_is_computed(name: str) -> None:
    with pytest.raises(BadInput, match=r"its name ends in \.html"):
        check_place(Path(name))


def test_a_directory_that_is_not_there_is_told_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no directory"):
        check_place(tmp_path / "nowhere" / "page.html")
    check_place(tmp_path / "page.html")


def test_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explore", "--save", "page.txt"])
    assert ended.value.code == 2
    assert "its name ends in .html, not 'page.txt'" in capsys.readouterr().err


def saved_answers() -> Answers:
    """Answers with two views that are priced in milliseconds."""
    answers = answers_of(model="qwen3-0.6b", chip="l4")
    answers.kinds = {name: answers.kinds[name] for name in ("model", "byte")}
    return answers


def held_in(page: str) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """What a saved page says of itself, and its answers by part."""
    (told,) = re.findall(r'<script type="application/json" id="saved">(.*?)</script>', page)
    parts = re.findall(r'<script type="text/plain" id="(.*?)">(.*?)</script>', page)
    return json.loads(told), {name: json.loads(gzip.decompress(base64.b64decode(text))) for name, text in parts}


def test_a_saved_page_holds_the_answers_of_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "MOST_STATES", 4)
    monkeypatch.setattr(saving, "MOST_SECONDS", 1e9)  # a slow machine would save fewer
    answers, out = saved_answers(), tmp_path / "page.html"
    saved = save_page(answers, out, Silent())
    assert saved.bytes == out.stat().st_size
    told, parts = held_in(out.read_text("utf-8"))
    assert saved.states == sum(len(places) for places in told["places"].values()) <= 8
    for view, places in told["places"].items():
        part, number = places[0]  # the state in which the page opens
        held = dict(parts[part][number])
        held["sources"] = parts["part-sources"][held["sources"]]
        meant = json.loads(answers.view_json(view, f"view={view}"))
        assert held == {name: value for name, value in meant.items() if name not in ("query", "state")}
        for control in told["controls"][view]:
            assert ("values" in control) != ("fixed" in control)


def test_a_page_that_is_too_large_holds_fewer_states_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "MOST_STATES", 8)
    monkeypatch.setattr(saving, "MOST_SECONDS", 1e9)  # a slow machine would save fewer
    answers, out = saved_answers(), tmp_path / "page.html"
    whole = save_page(answers, out, Silent())
    out.unlink()
    monkeypatch.setattr(saving, "MOST_BYTES", whole.bytes - 3_000)
    less = save_page(answers, out, Silent())
    assert less.states < whole.states
    assert less.bytes <= whole.bytes - 3_000
    out.unlink()
    monkeypatch.setattr(saving, "MOST_BYTES", 1000)
    with pytest.raises(BadInput, match="larger than 0 MB with one state of each view"):
        save_page(answers, out, Silent())
    assert list(tmp_path.iterdir()) == []
