"""The state that the stages of a family's run share.

family.toml           the resolved recipe; a directory with a different one is refused
provenance.json       versions, machine, fingerprints, the built-in corpus
students/NAME/        Hugging Face directories of students and controls
packed/NAME/          quantised students, packed at the bit width of their formats
training/NAME/        checkpoints during training, metrics.jsonl afterwards
facts/                this machine as fact rows
stages/*.jsonl        records by stage;  records.jsonl: all of them
pace.json             measurements and decisions of a run with a time limit
report.html

and, until the report is written, the files that students share (runs/workdir.py, runs/sharing.py).
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.arch import Architecture
from flashstill.arch.catalogue import read_config
from flashstill.errors import BadInput
from flashstill.progress import Progress
from flashstill.recipes import FamilyRecipe, StudentRecipe
from flashstill.records import Record, read_records
from flashstill.report.kept import provenance
from flashstill.runs.engine import Distillation
from flashstill.runs.models import Models
from flashstill.runs.served import directories_of
from flashstill.runs.sharing import workdir_of
from flashstill.runs.workdir import Workdir

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.models.arithmetic import Arithmetic
    from flashstill.runs.pace import Pace

STAGE_NAMES = ("teacher", "text", "signals", "search", "distil", "evaluate", "measure", "cost", "report")


class Family:
    """asked: the recipe as given; recipe: as changed by the decisions so far, if the run has a time limit."""

    def __init__(self, recipe: FamilyRecipe, out: Path, progress: Progress, command: str) -> None:
        self.asked, self.recipe, self.out, self.progress, self.command = recipe, recipe, out, progress, command
        self.models = Models()
        self.pace: Pace | None = None
        self._located: dict[str, tuple[list[Path], str]] = {}

    @functools.cached_property
    def directory(self) -> Path:
        """The Hugging Face directory of the teacher."""
        from flashstill.distill.teachers import resolve_teacher

        return resolve_teacher(self.recipe.teacher, self.progress, base=self.recipe.teachers[0].base)

    @functools.cached_property
    def arithmetic(self) -> Arithmetic:
        """The arithmetic of all models of this run."""
        from flashstill.distill.models.arithmetic import settled, shape_of
        from flashstill.distill.models.devices import choose

        choose(self.recipe.students[0].train.device)
        asked = self.recipe.students[0].train.arithmetic
        return settled(asked, lambda: shape_of(self.directory), Workdir.alone(self.out).arithmetic)

    @property
    def model(self) -> Any:
        """The teacher, loaded."""
        return self.models.load(self.directory, self.arithmetic.dtype, self.progress.say)

    @property
    def provenance(self) -> dict[str, Any]:
        """Contents of provenance.json, written by the stage `teacher`."""
        return provenance(self.out / "provenance.json")

    def located(self, student: StudentRecipe) -> tuple[list[Path], str]:
        """The directories of a student's teachers and their tokenizer; BadInput if they or the student are invalid."""
        from flashstill.distill.models import tokenizer_fingerprint

        if student.name not in self._located:
            try:
                directories = directories_of(self.recipe.distillation(student), self.progress)
            except BadInput as error:
                sentence = str(error).removeprefix("student.")  # its keys are those of [[students]]
                raise BadInput(f"student {student.name}: {sentence}") from error
            # one for all: tokenizers that differ in their files alone are the same to students that share signals
            self._located[student.name] = directories[0], tokenizer_fingerprint(self.directory)
        return self._located[student.name]

    def distillation(self, student: StudentRecipe) -> Distillation:
        """The distillation of a student. student: from the current recipe."""
        return self._of(student, student.name)

    def control(self, student: StudentRecipe) -> Distillation | None:
        """The student's control: same initial weights and steps, no teacher; None if the family has no controls."""
        return self._of(student, f"{student.name}-control") if self.recipe.control_of(student) else None

    def _of(self, student: StudentRecipe, name: str) -> Distillation:
        from flashstill.distill.training import World

        recipe = self.recipe.distillation(student) if name == student.name else self.recipe.control_of(student)
        assert recipe is not None
        return Distillation(
            recipe, self.workdir(student, name), self.progress, World(), self.models, self.located(student)
        )

    def judge(self) -> Distillation:
        """A distillation of the family's teacher alone; all models are compared with its signals on held-out text."""
        from flashstill.distill.training import World

        first = self.recipe.students[0]
        recipe = dataclasses.replace(self.recipe.distillation(first), teachers=self.recipe.teachers[:1])
        workdir = dataclasses.replace(self.workdir(first), teachers=("teacher-0",))
        located = ([self.directory], self.provenance["tokenizer_fingerprint"])
        return Distillation(recipe, workdir, self.progress, World(), self.models, located)

    def judged(self, whole: Packed) -> Packed:
        """The windows of a packed text that are used in evaluation."""
        return whole.first(self.pace.windows(whole.windows)) if self.pace else whole

    def workdir(self, student: StudentRecipe, name: str = "") -> Workdir:
        """The files of a student, or of its control `name`."""
        return workdir_of(self.asked, self.as_asked(student), self.out, name or student.name)

    def as_asked(self, student: StudentRecipe) -> StudentRecipe:
        """The student in the recipe as given, which determines the names of shared files."""
        return next(each for each in self.asked.students if each.name == student.name)

    def architecture(self, student: StudentRecipe | None, as_served: bool = False) -> Architecture:
        """The architecture of a student, or of the teacher if None, from the cost model's adapter.

        as_served: with the number formats of the packed student, if it is quantised.
        """
        if student is None:
            return read_config(self.directory / "config.json", "teacher")
        place = self.workdir(student)
        directory = place.packed_student if as_served and student.quantise else place.student
        return read_config(directory / "config.json", student.name)

    def stage_file(self, stage: str) -> Path:
        """The file of a stage's records."""
        return self.out / "stages" / f"{stage}.jsonl"

    def records(self) -> list[Record]:
        """All records so far, in stage order."""
        files = [self.stage_file(stage) for stage in STAGE_NAMES]
        return [record for file in files if file.exists() for record in read_records(file)]
