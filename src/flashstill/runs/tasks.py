"""The tasks of a family: checked before any work, and run with its teacher, students and controls.

Initial weights are left out: what they know of a task is next to nothing, and takes as long to measure.
"""

from __future__ import annotations

from flashstill.records import QualityRecord
from flashstill.runs.family import Family


def check_tasks(family: Family) -> None:
    """BadInput for a task that cannot be run: unknown, unreadable, with code, without its data or a template."""
    from flashstill.distill.models import load_tokenizer
    from flashstill.distill.models.arithmetic import Arithmetic
    from flashstill.evaluate.entrants import Entrant
    from flashstill.evaluate.tasks.running import TaskRun
    from flashstill.evaluate.unfinished import Unfinished

    asked = family.recipe.evaluate
    if asked.tasks:
        asked_as_chats = {"teacher": family.directory} if asked.chat else {}
        entrants = [
            Entrant(name=name, role="", directory=directory, tokenizer=load_tokenizer(directory))
            for name, directory in asked_as_chats.items()
        ]
        TaskRun(
            entrants=entrants, items=asked.items or None, attempts=asked.attempts, may_run_code=asked.allow_task_code,
            arithmetic=Arithmetic(precision="fp32", threads=1), seed=family.recipe.seed, unfinished=Unfinished(None),
            progress=family.progress, chat=asked.chat,
        ).check(asked.tasks)  # fmt: skip


def task_records(family: Family) -> list[QualityRecord]:
    """Scores of teacher, students and controls on the family's tasks; finished ones are kept until all are."""
    from flashstill.distill.models import load_tokenizer
    from flashstill.evaluate.entrants import Entrant
    from flashstill.evaluate.tasks.running import TaskRun
    from flashstill.evaluate.unfinished import Unfinished

    asked = family.recipe.evaluate
    if not asked.tasks:
        return []
    directories = {"teacher": family.directory}
    for student in family.recipe.students:
        directories[student.name] = family.distillation(student).workdir.student
        control = family.control(student)
        if control is not None:
            directories[control.recipe.name] = control.workdir.student
    entrants = [
        Entrant(name=name, role="", directory=directory, tokenizer=load_tokenizer(directory))
        for name, directory in directories.items()
    ]
    run = TaskRun(
        entrants=entrants, items=asked.items or None, attempts=asked.attempts, may_run_code=asked.allow_task_code,
        arithmetic=family.arithmetic, seed=family.recipe.seed, unfinished=Unfinished(family.stage_file("evaluate")),
        progress=family.progress, chat=asked.chat,
    )  # fmt: skip
    return list(run.results(asked.tasks).records)


def forget_unfinished(family: Family) -> None:
    """Remove the scores that were kept while the stage was not done."""
    from flashstill.evaluate.unfinished import Unfinished

    if family.recipe.evaluate.tasks:
        Unfinished(family.stage_file("evaluate")).remove()
