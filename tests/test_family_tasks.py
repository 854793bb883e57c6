"""Tasks of a family: read with the recipe, refused before any work, and axes of the report's front."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flashstill.errors import BadInput
from flashstill.progress import Silent
from flashstill.recipes import read_recipe
from flashstill.records import ModelRecord, QualityRecord, from_line, read_records, to_line, write_records
from flashstill.report.figures import task_axes
from flashstill.report.findings import View
from flashstill.report.page import write_report
from flashstill.report.points import points
from flashstill.runs.tasks import check_tasks
from flashstill.useful_range import range_warnings
from tests.finished_runs import write_family
from tests.task_files import COLOURS, write_task

RECIPE = """name = "f"
teacher = "smollm2-135m-instruct"
[[students]]
name = "half"
keep_layers = 3
[evaluate]
"""


def scored(model: str, value: float, metric: str = "acc") -> QualityRecord:
    return QualityRecord(
        model=model, domain="colours", metric=metric, value=value, low=value - 0.1, high=value + 0.1, tokens=9,
        documents=20, chance=1 / 3,
    )  # fmt: skip


def test_tasks_of_a_recipe_are_found_beside_it(tmp_path: Path) -> None:
    write_task(tmp_path, COLOURS)
    recipe = tmp_path / "family.toml"
    recipe.write_text(RECIPE + 'tasks = ["task.yaml", "gym:basic_arithmetic"]\nitems = 5\n')
    asked = read_recipe(recipe).evaluate
    assert asked.tasks == (str(tmp_path / "task.yaml"), "gym:basic_arithmetic")
    assert (asked.items, asked.attempts, asked.allow_task_code) == (5, 0, False)
    recipe.write_text(RECIPE + "task = []\n")
    with pytest.raises(BadInput, match=r"evaluate\.task"):
        read_recipe(recipe)


def test_a_task_that_cannot_be_run_is_refused_before_any_work(tmp_path: Path) -> None:
    recipe = tmp_path / "family.toml"
    recipe.write_text(RECIPE + 'tasks = ["gym:basic_arithmetics"]\n')
    family: Any = SimpleNamespace(recipe=read_recipe(recipe), progress=Silent())
    with pytest.raises(BadInput, match="the nearest known: basic_arithmetic"):
        check_tasks(family)


def test_a_task_is_an_axis_of_the_front(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_family(out)
    records = read_records(out / "records.jsonl")
    plain = write_report(out).read_text()
    assert "<h2>Tasks</h2>" not in plain
    names = [each.model for each in records if isinstance(each, ModelRecord) and each.role != "untrained"]
    values = {"teacher": 0.9, "half": 0.7, "half-control": 0.35}
    write_records(out / "records.jsonl", [*records, *(scored(name, values[name]) for name in names)])
    priced = points(read_records(out / "records.jsonl"), "h100-sxm", 1, "colours", "acc", "joules_per_token")
    assert [each.model for each in priced if each.on_front] == ["teacher"], "more is better, at equal cost"
    page = write_report(out).read_text()
    assert '<option value="colours: acc">acc on colours (higher is better)</option>' in page
    assert page.count('data-metric="colours: acc"') == plain.count('data-metric="agreement"') > 0
    assert "<h2>Tasks</h2>" in page
    [table] = re.findall(r"Scores of each model on tasks.*?</table>", page, re.DOTALL)
    assert re.findall(r"<tr><td>([^<]+)</td><td>([^<]+)<small>", table) == [
        ("teacher", "0.900"), ("half", "0.700"), ("half-control", "0.350"),
    ]  # fmt: skip
    assert "half-control on colours is 35.0%" in page, "near chance, which is a third"


def test_a_task_that_a_student_lacks_is_no_axis() -> None:
    model: dict[str, Any] = {"parameters": 1, "layers": 1, "training_tokens": 1, "training_s": 1.0, "path": ""}
    roles = {"teacher": "teacher", "half": "student"}
    records: list[Any] = [ModelRecord(model=name, role=role, of=name, **model) for name, role in roles.items()]
    assert not task_axes(View.of([*records, scored("teacher", 0.9)]))
    both = View.of([*records, *(scored(name, 3.0, "word_perplexity") for name in roles)])
    assert task_axes(both) == {("colours", "word_perplexity"): "word perplexity on colours (lower is better)"}


def test_chance_is_the_records_own() -> None:
    record = scored("half", 0.35)
    assert from_line(to_line(record)) == record
    [warning] = range_warnings([record])
    assert (warning.chance, warning.lowest) == pytest.approx((1 / 3, 0.4))
    assert not range_warnings([dataclasses.replace(record, chance=0.0)])
    assert not range_warnings([dataclasses.replace(record, chance=None)])
    assert range_warnings([dataclasses.replace(record, metric="exact_match,strict-match")])
    assert not range_warnings([dataclasses.replace(record, metric="acc_of_my_own")])
