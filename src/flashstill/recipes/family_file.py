"""Read a family.toml: students are completed with the family's tables, and paths are taken from its directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashstill.checked import built
from flashstill.errors import BadInput, shortened
from flashstill.recipes.distillation import with_paths
from flashstill.recipes.family import AS_A_WHOLE, KEY_BY_KEY, FamilyRecipe, problems
from flashstill.recipes.reader import located, read_tree
from flashstill.recipes.signals import named_by_directory, with_directory
from flashstill.recipes.teachers import TeacherRecipe


def built_in(name: str) -> FamilyRecipe:
    """A built-in recipe."""
    return read_recipe(Path(__file__).parent / f"{name}.toml")


def read_recipe(path: Path) -> FamilyRecipe:
    """Read and check a family.toml. Paths in it are taken from the directory of the file.

    Raises BadInput naming the key that is wrong.
    """
    tree, shown = named_by_directory(read_tree(path)), shortened(str(path), 200)
    if "student" in tree and "students" not in tree:
        raise BadInput(f"{shown} is the recipe of one student (it has [student]): flashstill distill {shown} runs it")
    if "distil" in tree:
        raise BadInput(
            f"{shown}: a family has no table [distil] any more: write [train] (windows_per_step is 4 by default), a"
            " temperature into [[losses]], and control at the top"
        )
    if "teacher" in tree:
        if "teachers" in tree:
            raise BadInput(f"{shown}: it has both teacher and [[teachers]]; leave one out")
        tree["teachers"] = [{"model": tree.pop("teacher")}]
    if isinstance(tree.get("students"), list):
        tree["students"] = [named_by_directory(each) if isinstance(each, dict) else each for each in tree["students"]]
    # validated before defaults are merged in, so that messages name the keys as written
    built(FamilyRecipe, tree, shown)
    tree["students"] = [_completed(student, tree) for student in tree["students"]]
    recipe = built(FamilyRecipe, tree, shown)
    for problem in problems(recipe):
        raise BadInput(f"{path}: {problem}")
    placed: FamilyRecipe = with_paths(recipe, path, "", "data", "out_of_domain")
    return dataclasses.replace(
        placed,
        teachers=_located(placed.teachers, path, ""),
        chat=with_paths(placed.chat, path, "chat.", "template"),
        signals=with_directory(placed.signals, path, "signals.dir"),
        evaluate=dataclasses.replace(
            placed.evaluate,
            tasks=tuple(located(task, path.parent, path, "evaluate.tasks") for task in placed.evaluate.tasks),
        ),
        students=tuple(
            dataclasses.replace(
                with_paths(student, path, f"students[{place}].", "config", "model", "tokenizer", "base"),
                teachers=_located(student.teachers, path, f"students[{place}]."),
                signals=with_directory(student.signals, path, f"students[{place}].signals.dir"),
            )
            for place, student in enumerate(placed.students)
        ),
    )


def _located(teachers: tuple[TeacherRecipe, ...], where: Path, prefix: str) -> tuple[TeacherRecipe, ...]:
    return tuple(
        with_paths(teacher, where, f"{prefix}teachers[{place}].", "model", "data", "tokenizer", "base", "system_file")
        for place, teacher in enumerate(teachers)
    )


def _completed(student: Mapping[str, Any], family: Mapping[str, Any]) -> dict[str, Any]:
    """A student's tables, completed with the family's."""
    completed = {**{name: family[name] for name in AS_A_WHOLE if name in family}, **student}
    for name in KEY_BY_KEY:
        completed[name] = {**family.get(name, {}), **student.get(name, {})}
    return completed
