"""The state of a family's run, which its stages share.

family.toml           the resolved recipe; another family's directory is refused
provenance.json       versions, machine, fingerprints, the built-in corpus
students/NAME/        Hugging Face directories, one a student and one a control
packed/NAME/          quantised students in as many bits as their formats have
training/NAME/        checkpoints while training, metrics.jsonl afterwards
facts/                this machine as fact rows
stages/*.jsonl        records by stage;  records.jsonl holds them all
pace.json             what was measured and decided where the run is to end within so many minutes
report.html

and what students share, until the report is written (runs/workdir.py, runs/sharing.py).
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
    """asked: the recipe as it was asked for; recipe: as all decisions so far make it, where the run has minutes."""

    def __init__(self, recipe: FamilyRecipe, out: Path, progress: Progress, command: str) -> None:
        self.asked, self.recipe, self.out, self.progress, self.command = recipe, recipe, out, progress, command
        self.models = Models()
        self.pace: Pace | None = None
        self._located: dict[str, tuple[list[Path], str]] = {}

    @functools.cached_property
    def directory(self) -> Path:
        """The Hugging Face directory of the teacher."""
        from flashstill.distill.teachers import resolve_teacher

        return resolve_teacher(self.recipe.teacher, self.progress)

    @functools.cached_property
    def arithmetic(self) -> Arithmetic:
        """In which all models of this run are multiplied."""
        from flashstill.distill.models.arithmetic import settled, shape_of

        asked = self.recipe.students[0].train.arithmetic
        return settled(asked, lambda: shape_of(self.directory), Workdir.alone(self.out).arithmetic)

    @property
    def model(self) -> Any:
        """The teacher itself."""
        return self.models.load(self.directory, self.arithmetic.dtype)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the stage `teacher` wrote down."""
        return provenance(self.out / "provenance.json")

    def located(self, student: StudentRecipe) -> tuple[list[Path], str]:
        """The directories of a student's teachers and their tokenizer; BadInput where they or the student cannot be."""
        if student.name not in self._located:
            try:
                directories = directories_of(self.recipe.distillation(student), self.progress)
            except BadInput as error:
                sentence = str(error).removeprefix("student.")  # whose keys stand in [[students]] itself
                raise BadInput(f"student {student.name}: {sentence}") from error
            self._located[student.name] = directories
        return self._located[student.name]

    def distillation(self, student: StudentRecipe) -> Distillation:
        """A student as the engine trains it. student: of the recipe as it is now."""
        return self._of(student, student.name)

    def control(self, student: StudentRecipe) -> Distillation | None:
        """The same start and steps without a teacher, if the family has controls."""
        return self._of(student, f"{student.name}-control") if self.recipe.control_of(student) else None

    def _of(self, student: StudentRecipe, name: str) -> Distillation:
        from flashstill.distill.training import World

        recipe = self.recipe.distillation(student) if name == student.name else self.recipe.control_of(student)
        assert recipe is not None
        return Distillation(
            recipe, self.workdir(student, name), self.progress, World(), self.models, self.located(student)
        )

    def judge(self) -> Distillation:
        """The family's teacher by itself: what it says of held-out texts is what all models are judged against."""
        from flashstill.distill.training import World

        first = self.recipe.students[0]
        recipe = dataclasses.replace(self.recipe.distillation(first), teachers=self.recipe.teachers[:1])
        workdir = dataclasses.replace(self.workdir(first), teachers=("teacher-0",))
        located = ([self.directory], self.provenance["tokenizer_fingerprint"])
        return Distillation(recipe, workdir, self.progress, World(), self.models, located)

    def judged(self, whole: Packed) -> Packed:
        """A packed text as far as models are judged on it."""
        return whole.first(self.pace.windows(whole.windows)) if self.pace else whole

    def workdir(self, student: StudentRecipe, name: str = "") -> Workdir:
        """Where a student or its control, which is called `name`, finds and leaves its files."""
        return workdir_of(self.asked, self.as_asked(student), self.out, name or student.name)

    def as_asked(self, student: StudentRecipe) -> StudentRecipe:
        """The student as the recipe was asked for, by which what it shares is named."""
        return next(each for each in self.asked.students if each.name == student.name)

    def architecture(self, student: StudentRecipe | None, as_served: bool = False) -> Architecture:
        """The shape of a student, or of the teacher, through the cost arm's own adapter.

        as_served: with the number formats in which the student is packed, where its recipe quantises it.
        """
        if student is None:
            return read_config(self.directory / "config.json", "teacher")
        place = self.workdir(student)
        directory = place.packed_student if as_served and student.quantise else place.student
        return read_config(directory / "config.json", student.name)

    def stage_file(self, stage: str) -> Path:
        """The records that a stage leaves."""
        return self.out / "stages" / f"{stage}.jsonl"

    def records(self) -> list[Record]:
        """All records so far, in the order of the stages."""
        files = [self.stage_file(stage) for stage in STAGE_NAMES]
        return [record for file in files if file.exists() for record in read_records(file)]
