"""`report` on anything: a result with a missing, cut or foreign file is one sentence that names the file."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flashstill.cli import main
from flashstill.errors import BadInput, FlashstillError
from flashstill.recipes import read_recipe
from flashstill.records import AcceptanceRecord, CostRecord, ModelRecord, write_records
from flashstill.report import kept
from flashstill.report.page import write_report
from flashstill.report.study import write_study_report
from flashstill.runs import kept as stages_kept
from flashstill.runs.run_lock import claim
from tests.finished_runs import DAMAGES, EVIDENCE, MARKUP, family_records, study, write_family
from tests.marks import slow
from tests.tiny import family_text


@pytest.fixture
def family(tmp_path: Path) -> Path:
    return write_family(tmp_path / "family")


def report(out: Path) -> Path:
    return write_study_report(out) if (out / "study.toml").exists() else write_report(out)


@pytest.mark.parametrize("count", [32, *slow(300)])
def test_any_damage_is_a_sentence_or_nothing(tmp_path: Path, family: Path, count: int) -> None:
    chance = random.Random(17)
    results = [family, study(tmp_path / "a", "deep-think"), study(tmp_path / "b", "hinton-2015")]
    refused = 0
    for number in range(count):
        out = results[number % 3]
        files = sorted(path for path in out.iterdir() if path.name != "report.html")
        path = files[number // 3 % len(files)]
        content = path.read_bytes()
        damaged = chance.choice(DAMAGES)(chance, content)
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        said = refusal(out)
        if said:
            refused += 1
            assert path.name in said or damaged is None, (path, said)
            assert "\n" not in said
            assert len(said) < 700
        path.write_bytes(content)
    assert count / 2 < refused < count
    assert all(report(out).is_file() for out in results)


def refusal(out: Path) -> str:
    """What is said against a result; empty where it has a page."""
    try:
        report(out)
    except FlashstillError as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_every_record_is_missed_by_name(family: Path) -> None:
    path, records = family / "records.jsonl", family_records()
    for place, record in enumerate(records):
        write_records(path, [*records[:place], *records[place + 1 :]])
        said = refusal(family)
        if isinstance(record, ModelRecord) and record.role == "control":
            assert not said  # a family may have none
        elif isinstance(record, CostRecord) and record.chip == "this-machine" and record.batch == 16:
            assert not said  # nothing was measured there
        else:
            assert str(path) in said, record
            assert not isinstance(record, AcceptanceRecord)
            assert record.model in said or "student" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 3 is not JSON"),
        ("3", "line 3 is not a JSON object"),
        ('{"schema": 9, "record": "cost"}', "line 3: a record has another schema than 1"),
        ('{"schema": 1, "record": "price"}', "line 3: unknown record 'price'"),
        ('{"schema": 1, "record": "model", "model": 3}', "line 3: 'model' is 3, not a text"),
        ('{"schema": 1, "record": "model", "modell": "x"}', "line 3: unknown key 'modell'; the nearest known: model"),
        ("[" * 99_999, "line 3 cannot be read: its brackets nest too deep"),
    ],
)
def test_a_line_of_records_is_named(family: Path, line: str, said: str) -> None:
    path = family / "records.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(BadInput) as refused:
        write_report(family)
    assert f"{path}, {said}" in str(refused.value)


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "foreign", "long name"])
def test_directories_that_hold_no_result(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    out = tmp_path / ("x" * 300 if kind == "long name" else "out")
    if kind == "file":
        out.write_text("{}")
    elif kind in ("empty", "foreign"):
        out.mkdir()
    if kind == "foreign":
        (out / "summary.json").write_text('{"name": "another program"}')
    with pytest.raises(SystemExit) as stop:
        main(["report", str(out)])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("flashstill: ")
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1


@pytest.mark.slow
def test_names_stay_text(family: Path) -> None:
    """No link, no script and no bold type comes of what a model or a chip is called."""
    write_records(family / "records.jsonl", family_records(MARKUP, MARKUP))
    text = write_report(family).read_text()
    assert '<a href="https://example.org"' not in text
    assert "</script><b>" not in text
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert any("&lt;a href=" in drawing for drawing in drawings)
    assert not any("<a " in drawing or "<b>" in drawing for drawing in drawings)


def test_thinking_on_a_chip_without_a_price_has_no_dollars(tmp_path: Path) -> None:
    out = study(tmp_path / "study", "deep-think")
    found = json.loads((out / "summary.json").read_text())
    for each in found["details"].values():
        each["usd_per_token"] = {"teacher": None, "student": None}
    (out / "summary.json").write_text(json.dumps(found))
    text = write_study_report(out).read_text()
    assert "no price is known" in text
    assert 'data-figure="dollars"' not in text


@pytest.mark.parametrize("path", sorted(EVIDENCE.glob("*.json")), ids=lambda path: path.stem)
def test_every_evidence_is_whole(path: Path) -> None:
    assert kept.summary(path)["figures"]


@pytest.mark.parametrize(
    ("read", "name", "content"),
    [
        (stages_kept.search, "search.json", '{"depth": 6, "drops": [1, 1]}'),
        (stages_kept.search, "search.json", '{"depth": 6, "drops": [9]}'),
        (stages_kept.search, "search.json", '{"depth": "6", "drops": []}'),
        (stages_kept.seed_result, "result.json", '{"measures": {}, "shares": {}, "seconds": 1.0}'),
        (stages_kept.seed_result, "result.json", '{"measures": {"a": NaN}, "shares": {}, "details": {}, "seconds": 1}'),
        (stages_kept.pick, "budget.json", '{"pick": {"student": "x"}}'),
        (stages_kept.student_summary, "summary.json", '{"name": "x"}'),
    ],
)
def test_what_a_resumed_run_reads_is_checked(
    tmp_path: Path, read: Callable[[Path], Any], name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(BadInput) as refused:
        read(path)
    assert str(path) in str(refused.value)
    path.unlink()
    with pytest.raises(BadInput, match=name):
        read(path)


def test_a_damaged_recipe_of_a_run_is_no_other_traceback(tmp_path: Path) -> None:
    (tmp_path / "family.toml").write_text(family_text("somewhere", "text.txt"))
    wanted = read_recipe(tmp_path / "family.toml")
    for content in (b"\xff\xfe", b"name = ", b"[" * 9999):
        (tmp_path / "family.toml").write_bytes(content)
        with pytest.raises(BadInput, match=r"its family\.toml is broken"):
            claim(wanted, tmp_path)
