"""Results that the page of `explore` is started with: drawn as the commands' pages are, or refused with a sentence."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from flashstill.errors import BadInput, FlashstillError
from flashstill.explore.results import MOST_ROWS, answer_views, result_views
from flashstill.report.kinds import marker_words
from tests.answers import ASIC, HOSTILE, KNEE, SIMULATION, capacity, loads
from tests.finished_runs import DAMAGES, study, write_family

TRAFFIC: dict[str, Any] = {
    "schema": "flashstill.simulate/1", "question": {"model": "m", "chip": "c"}, **SIMULATION, "knee": KNEE,
    "rows": loads(3),
}  # fmt: skip


def saved(folder: Path, document: Any) -> Path:
    path = folder / "answer.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_traffic_has_the_charts_of_its_page_and_every_table_once(tmp_path: Path) -> None:
    first, rest = answer_views(saved(tmp_path, TRAFFIC))
    assert first.title == "m on c"
    assert sum(bool(chart.svg) for chart in first.charts) == 1 + 4 + 4
    assert len({chart.table for chart in first.charts if chart.name.startswith("over-time")}) == 1
    assert "Not steady" in first.notes[0]
    assert ("output", "1,234 tokens/s") in first.charts[0].table.rows
    assert all(not chart.svg for chart in rest.charts)


def test_names_that_would_be_a_script_stay_texts(tmp_path: Path) -> None:
    views = answer_views(saved(tmp_path, ASIC))
    drawings = [chart.svg for view in views for chart in view.charts if chart.svg]
    assert len(drawings) >= 5
    assert not any("<script" in svg or "style=" in svg for svg in drawings)
    assert any(
        HOSTILE in str(cell) for view in views for chart in view.charts for row in chart.table.rows for cell in row
    )


def test_a_fleet_that_cannot_keep_its_demands_is_drawn(tmp_path: Path) -> None:
    first = answer_views(saved(tmp_path, capacity(72)))[0]
    assert sum(bool(chart.svg) for chart in first.charts) == 5
    assert "cannot be kept" in first.notes[0]


def test_a_long_table_is_thinned_and_says_so(tmp_path: Path) -> None:
    long = [{"tokens_per_day": 1e9 + number, "asic": 1.0, "alternative": 2.0} for number in range(2 * MOST_ROWS + 1)]
    (chart,) = [
        chart
        for chart in answer_views(saved(tmp_path, {**ASIC, "curve": long}))[0].charts
        if chart.name.startswith("where-it-pays")
    ]
    assert len(chart.table.rows) == 667
    assert "One row in 3 of 2,001" in chart.table.caption


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "is no answer of a command"),
        ([], "is not a JSON object"),
        ({"schema": "flashstill.plan/1"}, "is the answer of `flashstill plan`; give what"),
        ({"schema": "flashstill.asic/1"}, "the key 'usd_per_million_tokens' is missing"),
        ({**ASIC, "curve": [1]}, "is no whole answer of `flashstill asic`"),
        ({**ASIC, "nre_usd": 1e308}, "a number that no answer has"),
        ({**ASIC, "nre_usd": float("nan")}, "a number that no answer has"),
        (
            {"schema": "flashstill.asic/1", "fits": False, "reason": "nothing fits"},
            "nothing was feasible: nothing fits",
        ),
        ({**TRAFFIC, "timeline": {}}, "the key 'running' is missing"),
    ],
)
def test_another_file_is_refused_with_a_sentence(tmp_path: Path, document: Any, sentence: str) -> None:
    with pytest.raises(BadInput) as refusal:
        answer_views(saved(tmp_path, document))
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_half_a_character_is_told_as_one(tmp_path: Path) -> None:
    """An escape that no UTF-8 has, in a value or as a key: JSON allows it, and no page can hold it."""
    for broken in ({**TRAFFIC, "notes": ["\ud800"]}, {**TRAFFIC, "\ud800": 1}):
        with pytest.raises(BadInput, match="half a character"):
            answer_views(saved(tmp_path, broken))


def test_brackets_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    path.write_text('{"schema": "flashstill.asic/1", "x": ' + "[" * 100 + "]" * 100 + "}", encoding="utf-8")
    with pytest.raises(BadInput, match="nests too deep"):
        answer_views(path)


def test_a_family_and_a_study_have_their_reports_charts_with_tables(tmp_path: Path) -> None:
    views = {view.name: view for view in result_views(write_family(tmp_path / "family"))}
    assert list(views) == [
        "family-bits-per-byte", "family-kl-to-teacher", "family-agreement", "family-joules", "family-measured",
    ]  # fmt: skip
    first = views["family-bits-per-byte"].charts[0]
    assert first.svg.startswith("<svg")
    assert views["family-bits-per-byte"].notes[1] == (
        "Star: teacher; circle: student; open diamond: hard-label control of a student; open triangle: student before"
        " training. A dotted line joins what no other model beats at the same batch."
    )
    assert [marker_words(name) for name in ("hexagon2", "square-dot")] == [
        "hexagon with a flat top",
        "square with a dot",
    ]
    assert ("teacher", "teacher", 1, 1.0, 0.5, 0.4, 0.6, True) in first.table.rows
    (thought,) = [
        view for view in result_views(study(tmp_path / "study", "deep-think")) if view.name == "study-thought"
    ]
    assert len(thought.charts[0].table.rows) > 20
    assert all(chart.svg and chart.table.rows for view in views.values() for chart in view.charts)


def test_a_directory_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no records\.jsonl and no summary\.json"):
        result_views(tmp_path)


@pytest.mark.parametrize("count", [30, pytest.param(600, marks=pytest.mark.slow)])
def test_any_damage_is_a_sentence_or_views_of_finite_numbers(tmp_path: Path, count: int) -> None:
    chance = random.Random(5)
    answers = tmp_path / "answers"
    answers.mkdir()
    for name, document in {"asic": ASIC, "fleet": capacity(30), "traffic": TRAFFIC}.items():
        (answers / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    family, thought = write_family(tmp_path / "family"), study(tmp_path / "study", "deep-think")
    results = [*sorted(answers.iterdir()), family, thought]
    refused = 0
    for number in range(count):
        result = results[number % len(results)]
        path = chance.choice(sorted(result.iterdir())) if result.is_dir() else result
        content = path.read_bytes()
        damaged = chance.choice(DAMAGES)(chance, content)
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        said = refusal(result)
        refused += bool(said)
        assert "\n" not in said
        assert len(said) < 700
        path.write_bytes(content)
    assert count / 3 < refused < count


def refusal(result: Path) -> str:
    """What is said against a result; empty where it has views that JSON can hold."""
    try:
        json.dumps([view.as_dict() for view in result_views(result)], allow_nan=False).encode()
    except FlashstillError as error:
        return str(error)
    return ""
