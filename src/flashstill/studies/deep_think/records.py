"""ModelRecords of a deep-think study: the teacher and the student of every arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from flashstill.arch.catalogue import read_config
from flashstill.records import ModelRecord
from flashstill.runs import kept
from flashstill.studies.deep_think.arms import LABELS, Taught, main_arm
from flashstill.studies.deep_think.work import Work


def model_records(work: Work, students: Mapping[str, Taught]) -> Iterator[ModelRecord]:
    """The teacher, then every student; the one trained on the task's answers is the control of the main student."""
    yield _record(work, "teacher", "teacher", "teacher", work.teacher_directory, 0)
    for name, student in students.items():
        is_control = name == LABELS
        role, of = ("control", main_arm(work)) if is_control else ("student", name)
        yield _record(work, name, role, of, student.directory, student.tokens)


def _record(work: Work, name: str, role: str, of: str, directory: Path, tokens: int) -> ModelRecord:
    shape = read_config(directory / "config.json", name)
    rows = kept.steps(work.out / "training" / name) if tokens else []
    return ModelRecord(
        model=name, role=role, of=of, parameters=shape.parameters, layers=shape.depth, training_tokens=tokens,
        training_s=sum(row["step_s"] for row in rows), training_steps=len(rows), arithmetic=str(work.arithmetic),
        path=directory.relative_to(work.out).as_posix() if directory.is_relative_to(work.out) else "",
    )  # fmt: skip
