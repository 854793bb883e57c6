"""Sources of problems and the judges of their answers.

    gym:NAME                  a family of reasoning-gym; its own score_answer is the verifier, or "expression"
    FILE.jsonl                lines with "prompt" and "answer", matched exactly or by number or as an "expression"
    FILE.py:FUNCTION          the same lines (`data`), judged by FUNCTION(answer, problem) -> number from 0 to 1

A judge is built inside the judge process (judging.py) from the task's `Spec`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flashstill.distill.reasoning import gym
from flashstill.distill.reasoning.expressions import expression
from flashstill.distill.reasoning.matching import EXPRESSION, MATCHERS, exact, numeric
from flashstill.distill.reasoning.problems import Problem, check_disjoint, load_problems, without_repeats
from flashstill.distill.reasoning.spec import GYM_PREFIX, Spec
from flashstill.errors import BadInput, unknown
from flashstill.progress import Advance, Progress, Silent

Judge = Callable[[str, Mapping[str, Any]], Any]
"""(answer, problem as JSON) -> a number from 0 to 1"""


def problem_sets(
    spec: Spec, training: int, test: int, progress: Progress | None = None
) -> tuple[list[Problem], list[Problem]]:
    """Disjoint training and test problems, as many as asked for; BadInput if the task has too few."""
    needed, drawn = training + test, 0
    pool: list[Problem] = []
    known: set[str] = set()
    while len(pool) < needed:
        count = max(AGAIN if drawn else 1, needed - len(pool))
        label = "draw problems in place of repeats" if drawn else "draw problems"
        with (progress or Silent()).task(label, count, "problems") as advance:
            more = _drawn(spec, drawn, count, advance)
        drawn += len(more)
        before = len(pool)
        pool += without_repeats(more, known)
        if not more or len(pool) - before < len(more) * LEAST_NEW:
            raise BadInput(
                f"task {spec.source} has {len(pool)} different problems in {drawn} drawn; {needed} were asked for:"
                " ask for fewer, or make its options wider"
            )
    test_set, training_set = pool[:test], pool[test:needed]
    check_disjoint(training_set, test_set)
    return training_set, test_set


LEAST_NEW = 0.02  # minimum share of new problems in a draw; below it the generator counts as exhausted
AGAIN = 256  # least number of problems drawn after repeats: of a few, all may be known though others are left


def _drawn(spec: Spec, first: int, count: int, advance: Advance) -> list[Problem]:
    if spec.source.startswith(GYM_PREFIX):
        return gym.drawn(spec, first, count, advance)
    everything = load_problems(Path(spec.data or spec.source))
    return everything[first : first + count]


def judge_of(spec: Spec) -> Judge:
    """The judge of a task; called inside the judge process."""
    if spec.matcher == EXPRESSION:
        return lambda answer, problem: float(expression(answer, problem))
    if spec.source.startswith(GYM_PREFIX):
        family = gym.family(spec, 1)
        return lambda answer, problem: family.score_answer(answer, problem["entry"])
    path, _, function = spec.source.rpartition(":")
    if path.endswith(".py"):
        return _function(Path(path), function)
    if spec.matcher not in MATCHERS:
        raise BadInput(unknown("task.matcher", spec.matcher, MATCHERS))
    same = exact if spec.matcher == "exact" else numeric
    return lambda answer, problem: float(same(answer, problem["answer"]))


def _function(path: Path, name: str) -> Judge:
    """The user's own function: the only place where a user's Python file is executed, since the user names it."""
    if not path.is_file():
        raise BadInput(f"there is no file {path} with a function {name}")
    described = importlib.util.spec_from_file_location("flashstill_users_judge", path)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        known = [
            attribute
            for attribute in vars(module)
            if callable(getattr(module, attribute)) and not attribute.startswith("_")
        ]
        raise BadInput(f"{path}: {unknown('function', name, known)}")
    judge: Judge = function
    return judge
