"""Problems with a verifier as a task of evaluate: gym:NAME, a study's [task], what is refused, and going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.distill.reasoning.chains import judge
from flashstill.errors import BadInput
from flashstill.evaluate import evaluate_models
from flashstill.evaluate.tasks import problem_tasks
from flashstill.evaluate.tasks.problem_tasks import read_problem_task
from flashstill.records import QualityRecord
from tests.commands import refuse
from tests.recorded_progress import RecordedProgress


def test_problems_are_seeded_and_as_many_as_asked_for() -> None:
    first, again = (read_problem_task("gym:basic_arithmetic", 5, 0, 7, False) for _ in range(2))
    assert len(first.problems) == 5
    assert first.problems == again.problems
    assert first.digest == again.digest
    assert read_problem_task("gym:basic_arithmetic", 5, 0, 8, False).problems != first.problems
    assert read_problem_task("gym:basic_arithmetic", None, 0, 7, False).problems[:5] == first.problems
    assert all(each.prompt.endswith("after ####.") for each in first.problems)


def test_the_task_of_a_study_is_read() -> None:
    recipes = Path(problem_tasks.__file__).parents[2] / "recipes"
    found = read_problem_task(str(recipes / "deep-think.toml"), 3, 0, 0, False)
    assert (found.name, found.spec.source) == ("deep-think", "gym:countdown")
    assert all(">" in each.prompt for each in found.problems)


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_teacher: Path) -> None:
    def refused(text: str) -> str:
        (tmp_path / "t.toml").write_text(text)
        return refuse(capsys, "evaluate", tiny_teacher, "--task", str(tmp_path / "t.toml"))

    nearest = "unknown family of reasoning-gym 'basic_arithmetics'; the nearest known: basic_arithmetic"
    assert nearest in refuse(capsys, "evaluate", tiny_teacher, "--task", "gym:basic_arithmetics")
    assert "has no table [task]" in refused("name = 'x'\n")
    assert "marke" in refused("[task]\nsource = 'gym:basic_arithmetic'\nmarke = 'x'\n")
    code = refused("[task]\nsource = 'own.py:judge'\ndata = 'own.jsonl'\n")
    assert "is judged by code of a file (own.py:judge); if you trust it, say --allow-task-code" in code


def test_answers_end_where_the_models_positions_do() -> None:
    task, told = read_problem_task("gym:basic_arithmetic", 2, 0, 0, False), RecordedProgress()
    prompts = [[0] * 30, [0] * 40]
    assert (task._room(prompts, None, told), task._room(prompts, 296, told)) == (256, 256)
    assert not told.lines
    assert task._room(prompts, 100, told) == 60
    assert "at most 60 tokens, not 256" in told.lines[0]
    with pytest.raises(BadInput, match="a prompt has 40 tokens, and the model reads 40 in all"):
        task._room(prompts, 40, told)


@pytest.mark.slow
def test_accuracy_best_and_majority(tmp_path: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier that accepts what begins with a letter: figures by hand from the verdicts; a killed run goes on."""
    (tmp_path / "own.jsonl").write_text(
        "".join(f'{{"prompt": "The {word} holds", "answer": "x"}}\n' for word in ("cache", "chip", "token", "model"))
    )
    (tmp_path / "own.py").write_text("def judge(answer, problem):\n    return float(answer[:1].isalpha())\n")
    (tmp_path / "own.toml").write_text(
        "[task]\nsource = 'own.py:judge'\ndata = 'own.jsonl'\nnew_tokens = 6\ntest_problems = 4\n"
    )
    question: dict[str, Any] = {
        "tasks": [str(tmp_path / "own.toml")], "attempts": 4, "arithmetic": "fp32", "allow_task_code": True, "seed": 3,
    }  # fmt: skip
    seen: list[Any] = []
    calls: list[int] = []

    def watched(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        seen.append(judge(*arguments, **more))
        return seen[-1]

    monkeypatch.setattr(problem_tasks, "judge", watched)
    with pytest.raises(KeyboardInterrupt):
        evaluate_models([str(tiny_teacher)], out=tmp_path / "r.jsonl", **question)
    found = evaluate_models([str(tiny_teacher)], out=tmp_path / "r.jsonl", **question)
    assert not (tmp_path / "r.jsonl.unfinished").exists()
    right = seen[-1].right
    assert right.shape == (4, 4)
    figures = {each.metric: each for each in found.records if isinstance(each, QualityRecord)}
    assert list(figures) == ["accuracy", "best_of_1", "best_of_2", "best_of_4", "majority_of_4"]
    assert figures["best_of_1"].value == pytest.approx(right.mean())
    assert figures["best_of_4"].value == pytest.approx(right.any(-1).mean())
    wrong = 4 - right.sum(-1)
    assert figures["best_of_2"].value == pytest.approx(np.mean(1 - wrong * (wrong - 1) / 12))
    assert {each.domain for each in figures.values()} == {"own"}
    assert figures["accuracy"].documents == 4
    straight = evaluate_models([str(tiny_teacher)], **question)
    assert straight.records == found.records
    with pytest.raises(BadInput, match="judged by code"):
        evaluate_models([str(tiny_teacher)], **{**question, "allow_task_code": False})
