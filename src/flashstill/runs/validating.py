"""The validation of one distillation: its text, the teachers' signals on it, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flashstill.recipes import DistillRecipe
from flashstill.recipes.validation import every_steps, steps_of
from flashstill.runs.regimes import asks_teachers, objective_of
from flashstill.runs.sources import stored_teachers

if TYPE_CHECKING:
    from flashstill.distill.training import Validation
    from flashstill.runs.engine import Distillation

PART = "validation"


def validation_signals(work: Distillation, share: tuple[int, int]) -> None:
    """Build the teachers' signals on the validation text: exact ones, whatever is stored of the training text."""
    recipe = work.recipe
    if not recipe.text.validation_tokens or not asks_teachers(recipe) or work.workdir.student.is_dir():
        return
    for index in range(len(recipe.teachers)):
        work.build(index, PART, "teacher on validation text", share)


def validation_of(work: Distillation, has_teacher: bool) -> Validation | None:
    """What the training loop measures the student on; None if the recipe asks for nothing."""
    from flashstill.distill import training

    recipe, asked = work.recipe, work.recipe.validation
    if not recipe.text.validation_tokens:
        return None
    teacher = stored_teachers(work, PART) if has_teacher else None
    return training.Validation(
        packed=work.packed(PART),
        objective=objective_of(recipe, teacher) if teacher is not None else training.hard,
        teacher=None if recipe.align else teacher,
        is_of_loss=bool(recipe.losses),
        every_steps=every_steps(recipe),
        metric=asked.metric,
        keep_best=asked.keep == "best",
        patience=asked.patience,
        min_delta=asked.min_delta,
    )


def stopped_early(recipe: DistillRecipe, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether patience ended the training of which these are the metrics."""
    from flashstill.distill.training import Course

    asked = recipe.validation
    return Course(asked.metric, asked.patience, asked.min_delta, rows).is_over


def outcome_of(recipe: DistillRecipe, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For summary.json. rows: the metrics of all steps."""
    from flashstill.distill.training.validation import Course, figure_of

    asked = recipe.validation
    figures = {int(row["step"]): figure_of(row, asked.metric) for row in rows}
    steps = [step for step, figure in figures.items() if figure is not None]
    if not steps:
        return {}
    course = Course(asked.metric, asked.patience, asked.min_delta, rows)
    return {
        "metric": asked.metric,
        "best_step": course.best_step,
        "best": course.best,
        "last_step": steps[-1],
        "last": figures[steps[-1]],
        "kept_step": course.best_step if asked.keep == "best" else steps[-1],
        "stopped_early": course.is_over and len(rows) < steps_of(recipe),
        "validations": len(steps),
        "seconds": round(sum(float(row.get("validation_s", 0.0)) for row in rows), 2),
    }
