"""ModelRecords of one seed of a language study, in the format of families.

student    an arm that learns from the teacher
control    an arm that learns from the text alone; of: the first student with the same initial weights
untrained  initial weights, rounded if the student is quantised; of: the student that starts from them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flashstill.arch.catalogue import read_config
from flashstill.recipes import DistillRecipe
from flashstill.records import ModelRecord
from flashstill.runs import kept
from flashstill.runs.workdir import Workdir


def teacher_record(directory: Path, arithmetic: str) -> ModelRecord:
    """The record of the teacher of all arms."""
    shape = read_config(directory / "config.json", "teacher")
    return ModelRecord(
        model="teacher", role="teacher", of="teacher", parameters=shape.parameters, layers=shape.depth,
        training_tokens=0, training_s=0.0, path="", arithmetic=arithmetic,
    )  # fmt: skip


def arm_records(
    models: Mapping[str, Any],
    arms: Mapping[str, DistillRecipe],
    starts: Mapping[str, str],
    untrained: Mapping[str, str],
    place: Path,
    arithmetic: str,
) -> Iterator[ModelRecord]:
    """A record of every model. models: by name; starts: arm -> start; untrained: model -> arm that starts from it."""
    for name, model in models.items():
        if name in arms:
            yield _trained_record(name, model, arms, starts, place, arithmetic)
        else:
            recipe = arms[untrained[name]]
            yield _record(name, "untrained", untrained[name], model, recipe, arithmetic)


def _trained_record(
    name: str, model: Any, arms: Mapping[str, DistillRecipe], starts: Mapping[str, str], place: Path, arithmetic: str
) -> ModelRecord:
    recipe, workdir = arms[name], Workdir.arm(place, name, starts[name])
    students = [arm for arm, other in arms.items() if other.losses and starts[arm] == starts[name]]
    is_control = not recipe.losses and bool(students)
    steps = kept.steps(workdir.training)
    return _record(
        name, "control" if is_control else "student", students[0] if is_control else name, model, recipe, arithmetic,
        training_tokens=len(steps) * recipe.train.windows_per_step * recipe.text.window_tokens,
        training_s=sum(step["step_s"] for step in steps), training_steps=len(steps),
        path=workdir.student.relative_to(place).as_posix(), regime="" if is_control else recipe.regime.kind,
    )  # fmt: skip


def _record(
    name: str,
    role: str,
    of: str,
    model: Any,
    recipe: DistillRecipe,
    arithmetic: str,
    training_tokens: int = 0,
    training_s: float = 0.0,
    training_steps: int = 0,
    path: str = "",
    regime: str = "",
) -> ModelRecord:
    from flashstill.distill.models import decoder_layers

    return ModelRecord(
        model=name, role=role, of=of, parameters=sum(weight.numel() for weight in model.parameters()),
        layers=len(decoder_layers(model)), training_tokens=training_tokens, training_s=training_s, path=path,
        training_steps=training_steps, arithmetic=arithmetic, kind=recipe.student.kind,
        number_format=recipe.student.quantise, regime=regime,
    )  # fmt: skip
