"""ModelRecords of a family: the teacher, each student, its control and its initial weights."""

from __future__ import annotations

from flashstill.arch import Architecture
from flashstill.recipes import StudentRecipe
from flashstill.records import ModelRecord
from flashstill.runs import kept
from flashstill.runs.engine import Distillation
from flashstill.runs.family import Family


def teacher_record(family: Family) -> ModelRecord:
    """The record of the teacher."""
    return _record(family, family.architecture(None), "teacher", "teacher")


def trained_record(family: Family, student: StudentRecipe, distillation: Distillation) -> ModelRecord:
    """The record of a trained student or control."""
    steps, folder = kept.steps(distillation.workdir.training), distillation.workdir.student
    per_step = distillation.recipe.train.windows_per_step * distillation.recipe.text.window_tokens
    return _record(
        family,
        family.architecture(student),
        distillation.recipe.name,
        "student" if distillation.recipe.name == student.name else "control",
        student,
        training_tokens=len(steps) * per_step,
        training_s=kept.seconds(steps),
        path=folder.relative_to(family.out).as_posix(),
        training_steps=len(steps),
    )


def untrained_record(family: Family, student: StudentRecipe) -> ModelRecord:
    """The record of a student's initial weights (rounded if it is quantised), which are not kept on disk."""
    return _record(family, family.architecture(student), f"{student.name}-untrained", "untrained", student)


def _record(
    family: Family,
    shape: Architecture,
    name: str,
    role: str,
    student: StudentRecipe | None = None,
    training_tokens: int = 0,
    training_s: float = 0.0,
    path: str = "",
    training_steps: int = 0,
) -> ModelRecord:
    return ModelRecord(
        model=name,
        role=role,
        of=student.name if student else name,
        parameters=shape.parameters,
        layers=shape.depth,
        training_tokens=training_tokens,
        training_s=training_s,
        path=path,
        training_steps=training_steps,
        arithmetic=str(family.arithmetic),
        kind=student.kind if student else "",
        number_format=student.quantise if student else "",
        regime=student.regime.kind if student and role == "student" else "",
    )
