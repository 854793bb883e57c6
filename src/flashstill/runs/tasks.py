"""The tasks of a family: checked before any work, and run with its teacher, students and controls.

Initial weights are left out: what they know of a task is next to nothing, and takes as long to measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flashstill.records import QualityRecord
from flashstill.runs.family import Family

if TYPE_CHECKING:
    from flashstill.distill.models.arithmetic import Arithmetic
    from flashstill.evaluate.tasks.running import TaskRun


def check_tasks(family: Family) -> None:
    """BadInput for a task that cannot be run: unknown, unreadable, with code, without its data or a template."""
    from flashstill.distill.models.arithmetic import Arithmetic

    asked = family.recipe.evaluate
    if asked.tasks:
        directories = {"teacher": family.directory} if asked.chat else {}
        _run(family, directories, Arithmetic(precision="fp32", threads=1), None).check(asked.tasks)


def task_records(family: Family) -> list[QualityRecord]:
    """Scores of teacher, students and controls on the family's tasks; finished ones are kept until all are."""
    asked = family.recipe.evaluate
    if not asked.tasks:
        return []
    directories = {"teacher": family.directory}
    for student in family.recipe.students:
        directories[student.name] = family.distillation(student).workdir.student
        control = family.control(student)
        if control is not None:
            directories[control.recipe.name] = control.workdir.student
    run = _run(family, directories, family.arithmetic, family.stage_file("evaluate"))
    return list(run.results(asked.tasks).records)


def _run(family: Family, directories: Mapping[str, Path], arithmetic: Arithmetic, kept_beside: Path | None) -> TaskRun:
    """The family's tasks with the models in `directories`, by name."""
    from flashstill.distill.models import load_tokenizer
    from flashstill.evaluate.entrants import Entrant
    from flashstill.evaluate.tasks.running import TaskRun
    from flashstill.evaluate.unfinished import Unfinished

    asked = family.recipe.evaluate
    entrants = [
        Entrant(name=name, role="", directory=directory, tokenizer=load_tokenizer(directory))
        for name, directory in directories.items()
    ]
    return TaskRun(
        entrants=entrants, items=asked.items or None, attempts=asked.attempts, may_run_code=asked.allow_task_code,
        arithmetic=arithmetic, seed=family.recipe.seed, unfinished=Unfinished(kept_beside), progress=family.progress,
        chat=asked.chat,
    )  # fmt: skip


def forget_unfinished(family: Family) -> None:
    """Remove the scores that were kept while the stage was not done."""
    from flashstill.evaluate.unfinished import Unfinished

    if family.recipe.evaluate.tasks:
        Unfinished(family.stage_file("evaluate")).remove()
