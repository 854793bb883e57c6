"""Notices models of a family that change between the beginning of its run and its continuation.

A teacher's directory may have moved (its new path stands in the recipe) if it holds the same model, by its fingerprint,
and if the students still share what they shared: files that several students use are named by who uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flashstill.checked import built, toml_tree
from flashstill.errors import BadInput
from flashstill.recipes import FamilyRecipe
from flashstill.recipes.resuming import Change, has_moved
from flashstill.runs.origins import check_origins
from flashstill.runs.sharing import workdir_of

if TYPE_CHECKING:
    from flashstill.runs.family import Family


def check_unchanged(family: Family) -> None:
    """BadInput if the teacher has changed since the run was begun, or a model that a student is made from has while
    the run was not finished."""
    from flashstill.distill.models import fingerprint

    is_begun = (family.out / "provenance.json").exists()
    if is_begun and family.provenance["teacher_fingerprint"] != fingerprint(family.directory):
        raise BadInput(
            f"the teacher {family.recipe.teacher} has changed since {family.out} was begun, which would mix two models;"
            " put it back as it was, or give another --out"
        )
    if not family.stage_file("evaluate").exists():
        check_students(family)


def check_students(family: Family) -> None:
    """BadInput if a model that a student is made from has changed; what is not on record yet is noted."""
    for student in family.recipe.students:
        check_origins(
            family.recipe.distillation(student), family.located(student)[0], family.models, family.out,
            f"students.{student.name}.",
        )  # fmt: skip


def check_moved(family: Family, changes: Sequence[Change], recorded: Path) -> None:
    """BadInput if a teacher that was moved is another model now, or if students would share other files.

    recorded: the recipe as it was, before the changes are adopted.
    """
    moved = [change for change in changes if has_moved(change)]
    if not moved:
        return
    was = built(FamilyRecipe, toml_tree(recorded), str(recorded))
    for before, now in zip(was.students, family.asked.students, strict=True):
        if workdir_of(was, before, family.out, now.name) != workdir_of(family.asked, now, family.out, now.name):
            raise BadInput(
                f"{moved[0]}, but not wherever the recipe names it, so that student {now.name} would share other files"
                " than before; change all of them alike"
            )
    check_unchanged(family)
    check_students(family)
