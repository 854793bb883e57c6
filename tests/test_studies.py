"""Studies: figures over seeds with their intervals, recipes by name, seeds that are done and stay done."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flashstill import studies
from flashstill.cli.learning import study_lines
from flashstill.errors import BadInput
from flashstill.progress import Progress, Silent
from flashstill.recipes.studies import kind_of, read_study, recipe_file
from flashstill.recipes.study import StudyRecipe
from flashstill.report.study import ran
from flashstill.studies import Study, run_study
from flashstill.studies.deep_think.run import _over_greedy
from flashstill.studies.seeds import Bar, Result, mean, share, together
from flashstill.verdicts import HOLDS, MISSED, NOT_SHOWN
from tests.commands import Cli


def test_a_mean_has_students_interval() -> None:
    found = mean([1.0, 2.0, 3.0])
    assert found["value"] == 2.0
    assert found["low"] == pytest.approx(2.0 - 4.3027 / 3**0.5, abs=1e-3)
    assert mean([1.0])["low"] is None


def test_a_mean_of_what_a_seed_does_not_define_is_none() -> None:
    found = together([Result(measures={"a": 1.0}), Result(measures={"a": None})], {"a": Bar(least=0.5)})["a"]
    assert (found["value"], found["se"], found["values"]) == (None, None, [1.0, None])
    assert found["verdict"] == NOT_SHOWN


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], None),  # every problem has the same difference
        ([0, 0, 0, 0], [1, 1, 1, 1], None),  # a gain of 1, and no 0 standard errors
        ([0], [1], None),
        ([0, 0, 1, 0], [1, 0, 1, 1], 0.5 / (math.sqrt(1 / 3) / 2)),
    ],
)
def test_a_gain_without_a_spread_is_no_number_of_standard_errors(
    teacher: list[int], student: list[int], expected: float | None
) -> None:
    def passed(right: list[int]) -> Any:
        return SimpleNamespace(verdicts=SimpleNamespace(right=np.array(right, dtype=bool)[:, None]))

    found = _over_greedy(passed(teacher), passed(student))["standard_errors_over_teacher_greedy"]
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_share_is_the_ratio_of_sums() -> None:
    found = share([(1.0, 2.0), (8.0, 10.0), (0.0, 0.01)])
    assert found["value"] == pytest.approx(9.0 / 12.01)
    assert found["low"] < found["value"] < found["high"]
    assert share([(1.0, 2.0), (2.0, 4.0)])["se"] == 0.0
    nothing = share([(0.1, 0.0)])
    assert (nothing["value"], nothing["values"]) == (None, [None])
    figures = {"kept": {**nothing, "bar": 0.8}}
    assert study_lines({"figures": figures})[-1].split() == ["kept", "nothing", "0.8", "is", "not", "shown"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0.8, 0.81, 0.82), HOLDS), ((0.5, 0.51, 0.52), MISSED), ((0.6, 0.8, 1.0), NOT_SHOWN), ((0.9,), NOT_SHOWN)],
)
def test_the_interval_decides_and_not_the_mean(values: tuple[float, ...], expected: str) -> None:
    results = [Result(measures={"kept": value}) for value in values]
    figure = together(results, {"kept": Bar(least=0.75), "absent": Bar(least=1.0)})["kept"]
    assert (figure["verdict"], figure["holds"]) == (expected, expected == HOLDS)


@pytest.mark.parametrize(
    ("gaps", "expected"), [((1.0, 1.1, 0.9), HOLDS), ((1.0, 0.2, -0.1), NOT_SHOWN), ((1.0,), NOT_SHOWN)]
)
def test_a_share_of_a_gap_that_may_be_zero_is_not_shown(gaps: tuple[float, ...], expected: str) -> None:
    results = [Result(measures={"gap": gap}, shares={"kept": (0.9 * gap, gap)}) for gap in gaps]
    assert together(results, {"kept": Bar(least=0.45, given="gap")})["kept"]["verdict"] == expected


def test_seeds_are_added_until_the_interval_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [0.8, 1.0, 0.78, 0.83, 0.84, 0.83, 0.84]

    def run(recipe: StudyRecipe, seed: int, place: Path, progress: Progress) -> Result:
        return Result(measures={"kept": values[seed]})

    monkeypatch.setattr(studies, "STUDIES", {"try": Study(run=run, bars={"kept": Bar(least=0.75)})})
    recipe = StudyRecipe(name="once", study="try")
    assert run_study(recipe, range(2), tmp_path / "a", Silent(), most=10)["seeds"] == [0, 1, 2, 3, 4, 5]
    few = run_study(recipe, range(2), tmp_path / "a", Silent(), most=3)
    assert few["seeds"] == [0, 1, 2]
    assert few["figures"]["kept"]["verdict"] == NOT_SHOWN
    assert run_study(recipe, [3], tmp_path / "a", Silent())["seeds"] == [3]


@pytest.mark.slow
def test_a_seed_that_is_done_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(recipe: StudyRecipe, seed: int, place: Path, progress: Progress) -> Result:
        asked.append(seed)
        return Result(measures={"accuracy": 0.5 + 0.1 * seed}, shares={"kept": (1.0 + seed, 2.0 + seed)})

    monkeypatch.setattr(studies, "STUDIES", {"try": Study(run=run, bars={"kept": Bar(least=0.9)})})
    recipe = StudyRecipe(name="once", study="try")
    first = run_study(recipe, range(2), tmp_path / "out", Silent())
    found = run_study(recipe, range(3), tmp_path / "out", Silent())
    assert asked == [0, 1, 2]
    assert first["figures"]["accuracy"]["values"] == found["figures"]["accuracy"]["values"][:2]
    assert found["figures"]["kept"]["holds"] is False
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == found
    assert "0.9 is not shown" in study_lines(found)[-1]
    with pytest.raises(BadInput, match="another recipe"):
        run_study(StudyRecipe(name="other", study="try"), [0], tmp_path / "out", Silent())


def test_an_interrupted_seed_says_that_it_took_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that ends a seed does not know how long the one before it had worked."""
    stops = [1]

    def run(recipe: StudyRecipe, seed: int, place: Path, progress: Progress) -> Result:
        (place / "begun").touch()
        if seed in stops:
            stops.remove(seed)
            raise KeyboardInterrupt
        return Result(measures={"accuracy": 0.5})

    monkeypatch.setattr(studies, "STUDIES", {"try": Study(run=run, bars={})})
    recipe = StudyRecipe(name="once", study="try")
    with pytest.raises(KeyboardInterrupt):
        run_study(recipe, range(3), tmp_path / "out", Silent())
    found = run_study(recipe, range(3), tmp_path / "out", Silent())
    assert found["resumed"] == [1]
    assert "at least 0 minutes" in ran(found)
    assert "(seed 1)" in ran(found)
    assert ran({**found, "resumed": [], "seconds": 3630.0}) == "Seeds 0, 1, 2; 60 minutes in all."
    assert ran({"seeds": [4], "seconds": 61}) == "Seed 4; 1 minute in all."


@pytest.mark.slow
def test_recipes_by_name(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kind_of(recipe_file("demo")) == ""
    (tmp_path / "deep-think").mkdir()  # where a run of that name was written
    monkeypatch.chdir(tmp_path)
    assert read_study(recipe_file("deep-think")).name == "deep-think"
    ran = cli("run", "demoo", "--out", tmp_path / "out")
    assert ran.returncode == 2
    assert "the nearest known: demo" in ran.stderr
    path = tmp_path / "study.toml"
    path.write_text('name = "x"\nstudy = "clasifiers"\n')
    with pytest.raises(BadInput, match="unknown study 'clasifiers'"):
        read_study(path)
