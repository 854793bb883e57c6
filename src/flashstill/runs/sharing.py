"""Files that students of one family share, named after the first student that uses them.

starts/NAME          initial weights, shared by students made in the same way from the same model
search.json          drop order of blocks, shared by students with the same search on the same model
text/, sequence-*    teacher-generated text, shared by students with the same regime and teacher
signals/teacher-N    signals of teacher N of the family
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flashstill.recipes import FamilyRecipe, StudentRecipe
from flashstill.recipes.distillation import ShapeRecipe
from flashstill.runs.regimes import asks_teachers
from flashstill.runs.workdir import Workdir

SEARCHED = ("depth", "width", "upcycle")
"""kinds whose initial weights depend on training text"""


def workdir_of(recipe: FamilyRecipe, student: StudentRecipe, out: Path, name: str) -> Workdir:
    """The files of a student, or of its control `name`; recipe: as given, before decisions."""
    alone = Workdir.alone(out)
    start, search, text = (_first(recipe, student, key) for key in (start_key, search_key, asked_text))
    is_first = search == next((each.name for each in recipe.students if each.kind == "depth"), search)
    models = _models(recipe)
    return dataclasses.replace(
        alone,
        text=alone.text / text,
        search=alone.search if is_first else out / f"search-{search}.json",
        initial=out / "starts" / start,
        student=out / "students" / name,
        packed_student=out / "packed" / name,
        adapter=out / "adapters" / name,
        training=out / "training" / name,
        sequence=f"sequence-{text}",
        teachers=tuple(f"teacher-{models.index(_asked(teacher))}" for teacher in student.teachers or recipe.teachers),
    )


def least_layers(recipe: FamilyRecipe, student: StudentRecipe) -> int:
    """Layers of the shallowest student with the same drop order; 0 for a student that drops none."""
    key = search_key(recipe, student)
    same = [each.keep_layers for each in recipe.students if each.kind == "depth" and search_key(recipe, each) == key]
    return min(same) if student.kind == "depth" else 0


def _first(recipe: FamilyRecipe, student: StudentRecipe, key: Callable[[FamilyRecipe, StudentRecipe], Any]) -> str:
    """Name of the first student with the same key."""
    shared = key(recipe, student)
    return next(each.name for each in recipe.students if key(recipe, each) == shared)


def _origin(recipe: FamilyRecipe, student: StudentRecipe) -> str:
    return student.model or (student.teachers or recipe.teachers)[0].model


def start_key(recipe: FamilyRecipe, student: StudentRecipe) -> Any:
    """Everything that initial weights depend on."""
    shape, usual = student.shape, ShapeRecipe()
    if not shape.compensate_windows:  # without compensation, quantisation starts with training
        shape = dataclasses.replace(shape, quantise=usual.quantise, group=usual.group)
    shape = dataclasses.replace(shape, balance_rate=usual.balance_rate, balance_loss=usual.balance_loss)
    shape = dataclasses.replace(shape, model="", base="", adapter=usual.adapter)
    return _origin(recipe, student), shape, student.search if student.kind in SEARCHED else None


def search_key(recipe: FamilyRecipe, student: StudentRecipe) -> Any:
    """Everything that the drop order of blocks depends on; for a student that drops none its name."""
    return (student.kind, _origin(recipe, student), student.search) if student.kind == "depth" else student.name


def asked_text(recipe: FamilyRecipe, student: StudentRecipe) -> Any:
    """Everything that the teacher-generated text depends on; for a student without such text its name."""
    if student.regime.kind != "sequence":
        return student.name
    return (student.teachers or recipe.teachers)[0].model, dataclasses.replace(student.regime, soft=False)


def signals_keys(recipe: FamilyRecipe, student: StudentRecipe) -> set[Any]:
    """Keys of the stored signals of a student: teacher, kind and text."""
    if student.signals.kind == "none" or not asks_teachers(recipe.distillation(student)):
        return set()
    text = asked_text(recipe, student) if student.regime.kind == "sequence" else "train"
    return {(_asked(teacher), student.signals, text) for teacher in student.teachers or recipe.teachers}


def _models(recipe: FamilyRecipe) -> list[tuple[str, ...]]:
    """All distinct teachers, starting with the family's."""
    listed = [*recipe.teachers, *(teacher for student in recipe.students for teacher in student.teachers)]
    return list(dict.fromkeys(_asked(teacher) for teacher in listed))


def _asked(teacher: Any) -> tuple[str, ...]:
    return teacher.model, teacher.name, teacher.system, teacher.system_file
