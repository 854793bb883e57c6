"""Scales a family's amounts of work to a time limit, by a single factor.

The factor scales training, held-out text and search alike; it is found by bisection on the estimated total seconds
(runs/costs.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from flashstill.recipes import FamilyRecipe, StudentRecipe
from flashstill.runs.costs import Costs, step_tokens

LEAST_WINDOWS, LEAST_STEPS, MOST_FACTOR = 4, 2, 50.0
LEAST_GREEDY = 0.05
"""below this factor blocks are chosen by influence in one pass, without greedy search"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Amounts:
    """Amounts of work of a run; the students' tokens and search are the recipe's times a factor."""

    factor: float
    train_tokens: int
    heldout_tokens: int
    out_of_domain_tokens: int
    validation_tokens: int = 0

    def of(self, recipe: FamilyRecipe) -> FamilyRecipe:
        """The recipe with these amounts."""
        text = dataclasses.replace(
            recipe.text, train_tokens=self.train_tokens, heldout_tokens=self.heldout_tokens,
            out_of_domain_tokens=self.out_of_domain_tokens, validation_tokens=self.validation_tokens,
        )  # fmt: skip
        students = tuple(
            dataclasses.replace(self._searched(student), tokens=_scaled_tokens(recipe, student, self.factor))
            for student in recipe.students
        )
        return dataclasses.replace(recipe, text=text, students=students)

    def _searched(self, student: StudentRecipe) -> StudentRecipe:
        """A student with its search scaled by the same factor; never more than its recipe asks for."""
        search, small = student.search, min(1.0, self.factor)
        search = dataclasses.replace(
            search,
            windows=max(1, round(search.windows * small)),
            candidates=max(min(2, search.candidates), round(search.candidates * small)),
            method=search.method if self.factor > LEAST_GREEDY else "influence",
        )
        windows = student.compensate_windows
        return dataclasses.replace(
            student, search=search, compensate_windows=max(1, round(windows * small)) if windows else 0
        )


def amounts_at(recipe: FamilyRecipe, factor: float) -> Amounts:
    """The amounts for a factor: those of the recipe at 1; never more held-out text than the recipe asks for."""
    window, small = recipe.text.window_tokens, min(1.0, factor)

    def heldout(tokens: int) -> int:
        return max(min(tokens, LEAST_WINDOWS * window), round(tokens * small / window) * window)

    least_tokens = LEAST_STEPS * max(step_tokens(recipe, student) for student in recipe.students)
    return Amounts(
        factor=round(factor, 4),
        train_tokens=max(least_tokens, round(recipe.text.train_tokens * factor)),
        heldout_tokens=heldout(recipe.text.heldout_tokens),
        out_of_domain_tokens=heldout(recipe.text.out_of_domain_tokens),
        validation_tokens=heldout(recipe.text.validation_tokens),
    )


def least(recipe: FamilyRecipe) -> Amounts:
    """The smallest useful amounts: two training steps per student."""
    return amounts_at(recipe, 0.0)


def chosen(recipe: FamilyRecipe, costs: Costs, left_s: float) -> Amounts:
    """The largest amounts that fit into left_s seconds, but at least `least`."""
    low, high = 0.0, MOST_FACTOR
    for _ in range(40):
        middle = (low + high) / 2.0
        is_enough = costs.estimate(amounts_at(recipe, middle).of(recipe)).total <= left_s
        low, high = (middle, high) if is_enough else (low, middle)
    return amounts_at(recipe, low)


def spread(recipe: FamilyRecipe, costs: Costs, names: Sequence[str], left_s: float) -> int:
    """Training tokens of the first of `names`, if left_s is divided among all of them in the recipe's proportions."""
    parts = costs.estimate(recipe)
    room = left_s - parts.evaluation - parts.measuring - parts.report
    waiting = [student for student in recipe.students if student.name in names]
    first = next(student for student in waiting if student.name == names[0])

    def seconds(factor: float) -> float:
        scaled = [dataclasses.replace(student, tokens=_scaled_tokens(recipe, student, factor)) for student in waiting]
        return sum(costs.training_s(recipe, student) for student in scaled)

    low, high = 0.0, MOST_FACTOR
    for _ in range(40):
        middle = (low + high) / 2.0
        low, high = (middle, high) if seconds(middle) <= room else (low, middle)
    return _scaled_tokens(recipe, first, low)


def _scaled_tokens(recipe: FamilyRecipe, student: StudentRecipe, factor: float) -> int:
    """Scaled training tokens, rounded to whole steps, with a minimum of a few steps."""
    step = step_tokens(recipe, student)
    return step * max(LEAST_STEPS, round(recipe.tokens_of(student) * factor / step))
