"""Gangs of a day by cuts: as good as the programme with whole numbers, and worths of deadlines without solving anew."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.capacity import prices, solve
from flashstill.capacity.cuts import patterned_gangs
from flashstill.capacity.gangs import Search, chosen_gangs
from flashstill.capacity.patterns import Patterns, patterns_of
from flashstill.capacity.problem import Problem, problem_of
from flashstill.capacity.reader import plan_of
from flashstill.capacity.relaxed import solve_relaxed
from flashstill.capacity.solver import solve_linear
from flashstill.capacity.stretches import Stretch
from flashstill.facts import load

DAY = 24


def plan(hours: int, gangs: bool, seed: int = 0) -> dict[str, Any]:
    """A plan of 5 products, 4 kinds of chips and 3 runs, as the benchmark draws it."""
    path = Path(__file__).parents[1] / "benchmarks" / "capacity_speed.py"
    spec = importlib.util.spec_from_file_location("capacity_speed", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tree: dict[str, Any] = module.plan(hours, gangs, seed)
    return tree


def day(seed: int) -> Problem:
    """A day of 5 products, 4 kinds of chips and 3 runs with gangs."""
    return problem_of(load(), plan_of(plan(DAY, True, seed)))


@pytest.mark.parametrize("seed", [0, 2])
def test_a_day_of_gangs_is_as_cheap_as_with_whole_numbers(seed: int) -> None:
    problem = day(seed)
    relaxed = solve_relaxed(problem)
    found = patterned_gangs(problem, relaxed, solve.FEW)
    assert found is not None
    whole = chosen_gangs(problem, relaxed, Search(DAY, solve.FEW, 0.01, 60.0, False), lambda text: None)
    by_cuts, by_whole = (solve_relaxed(problem, each.held) for each in (found, whole))
    assert by_cuts.unserved.any() == by_whole.unserved.any() == np.False_
    assert by_cuts.real <= by_whole.real * (1.0 + 1e-6)
    pace = problem.speed[:, :, None] * (found.held * problem.step_hours - found.lost)
    assert pace.sum(axis=(0, 2)) == pytest.approx(problem.work, rel=1e-6)
    on = found.sizes > 0.0
    assert np.all(found.sizes[on] >= np.broadcast_to(problem.least[:, :, None], on.shape)[on] - 1e-6)
    assert np.all(found.sizes[on] <= np.broadcast_to(problem.most[:, :, None], on.shape)[on] + 1e-6)
    assert on.sum(axis=0).max() == 1, "a gang is of one kind at a time"


def test_a_plan_of_many_steps_or_of_too_much_work_has_no_patterns() -> None:
    problem = problem_of(load(), plan_of(plan(72, True)))
    assert patterned_gangs(problem, solve_relaxed(problem), solve.FEW) is None
    assert patterned_gangs(day(1), solve_relaxed(day(1)), solve.FEW) is None


def patterns(kinds: int, points: range) -> tuple[list[Stretch], Patterns]:
    """Those of a run with one unit of work; a chip does one in each step, so that any stretch does all of it."""
    pairs = itertools.product(range(kinds), itertools.combinations(points, 2))
    stretches = [Stretch(kind, 0, first, last, 0.1, 8.0, True) for kind, (first, last) in pairs]
    hours = np.array([float(each.last - each.first) for each in stretches])
    return stretches, patterns_of(stretches, hours, hours, 1.0, points[-1])


def test_patterns_are_all_stretches_that_do_not_overlap() -> None:
    stretches, found = patterns(2, range(0, 10, 2))
    follow = [
        chain for count in (1, 2, 3) for chain in itertools.permutations(range(len(stretches)), count)
        if all(stretches[one].last <= stretches[other].first for one, other in itertools.pairwise(chain))
    ]  # fmt: skip
    assert {tuple(one for one in row if one >= 0) for row in found.stretches.tolist()} == set(follow)


def test_many_kinds_and_break_points_have_patterns_of_one_stretch() -> None:
    """Their pairs and triples are counted before any is made: 3.3 million and 10^9 here."""
    stretches, found = patterns(9, range(32))
    assert found.stretches[:, 0].tolist() == list(range(len(stretches)))
    assert not (found.stretches[:, 1:] >= 0).any()


def test_deadlines_are_worth_the_same_with_and_without_solving_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = plan(DAY, False)
    solved: list[int] = []

    def counted(*given: Any, **named: Any) -> Any:
        solved.append(1)
        return solve_linear(*given, **named)

    monkeypatch.setattr(prices, "solve_linear", counted)
    quick, few = fs.capacity(tree).duals, len(solved)
    differs = prices._one_difference
    monkeypatch.setattr(
        prices,
        "_one_difference",
        lambda *given, trained, **named: differs(*given, trained=np.ones_like(trained), **named),
    )
    slow = fs.capacity(tree).duals
    assert quick is not None
    assert slow is not None
    assert quick["deadlines"] == slow["deadlines"]
    assert few < len(solved) - few
    assert any(each["one_hour_earlier"] for each in slow["deadlines"].values()), "else only zeros are compared"
