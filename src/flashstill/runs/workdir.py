"""The output directory of a run, and what the stages share.

family.toml           the resolved recipe; another family's directory is refused
provenance.json       versions, machine, fingerprints, the built-in corpus
arithmetic.json       in which arithmetic and with how many threads it was begun, and so goes on
data/ signals/        packed text, and the teacher's hidden states on it
search.json           the order in which blocks were dropped
students/NAME/        Hugging Face directories, one a student and one a control
training/NAME/        checkpoints while training, metrics.jsonl afterwards
facts/                this machine as fact rows
stages/*.jsonl        records by stage;  records.jsonl holds them all
pace.json             what was measured and decided where the run is to end within so many minutes
report.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.arch import Architecture
from flashstill.arch.catalogue import read_config
from flashstill.progress import Progress
from flashstill.recipes import FamilyRecipe, StudentRecipe
from flashstill.records import Record, read_records
from flashstill.report.kept import provenance
from flashstill.runs import kept

if TYPE_CHECKING:
    from flashstill.distill.models.arithmetic import Arithmetic
    from flashstill.runs.pace import Pace

STAGE_NAMES = ("teacher", "text", "signals", "search", "distil", "evaluate", "measure", "cost", "report")
DOMAINS = ("heldout", "out-of-domain")


@dataclass(slots=True)
class Workspace:
    """The output directory of one run, and what its stages share."""

    recipe: FamilyRecipe
    out: Path
    progress: Progress
    command: str
    _teacher_directory: Path | None = None
    _model: Any = None
    _arithmetic: Arithmetic | None = None
    pace: Pace | None = None
    """where the run is to end within so many minutes"""

    @property
    def directory(self) -> Path:
        """The teacher's Hugging Face directory."""
        from flashstill.distill.teachers import resolve_teacher

        if self._teacher_directory is None:
            self._teacher_directory = resolve_teacher(self.recipe.teacher, self.progress)
        return self._teacher_directory

    @property
    def model(self) -> Any:
        """The teacher itself, loaded once."""
        from flashstill.distill.models import load_model

        if self._model is None:
            self._model = load_model(self.directory, self.arithmetic.dtype)
        return self._model

    @property
    def arithmetic(self) -> Arithmetic:
        """In which all models of this run are multiplied."""
        from flashstill.distill.models.arithmetic import FILE, settled, shape_of

        if self._arithmetic is None:
            wanted = self.recipe.distil.arithmetic
            self._arithmetic = settled(wanted, lambda: shape_of(self.directory), self.out / FILE)
        return self._arithmetic

    @property
    def provenance(self) -> dict[str, Any]:
        """What `teacher` wrote down."""
        return provenance(self.out / "provenance.json")

    def packed(self, part: str) -> Any:
        """A packed text: train, heldout or out-of-domain."""
        from flashstill.distill.data.packing import Packed

        return Packed.load(self.out / "data" / f"{part}.safetensors")

    def judged_text(self, part: str) -> Any:
        """A packed text as far as models are judged on it."""
        whole = self.packed(part)
        return whole.first(self.pace.windows(whole.windows)) if self.pace else whole

    def signals_of(self, part: str) -> Any:
        """The teacher's hidden states on a packed text."""
        from flashstill.distill.signals import Signals

        return Signals(self.out / "signals" / part, self.signal_key(part), self.arithmetic.dtype)

    def signal_key(self, part: str) -> dict[str, Any]:
        """What the signals on a packed text are known by."""
        from flashstill.distill.signals import Hidden, signal_key

        made = self.provenance
        return signal_key(Hidden(), made["teacher_fingerprint"], made["tokenizer_fingerprint"], self.packed(part))

    def student_directory(self, name: str) -> Path:
        """Where a student or control is written."""
        return self.out / "students" / name

    def architecture(self, name: str) -> Architecture:
        """The shape of the teacher or a student, through the cost arm's own adapter."""
        directory = self.directory if name == "teacher" else self.student_directory(name)
        return read_config(directory / "config.json", name)

    def stage_file(self, stage: str) -> Path:
        """The records that a stage leaves."""
        return self.out / "stages" / f"{stage}.jsonl"

    def records(self) -> list[Record]:
        """All records so far, in the order of the stages."""
        files = [self.stage_file(stage) for stage in STAGE_NAMES]
        return [record for file in files if file.exists() for record in read_records(file)]

    def kept(self, student: StudentRecipe) -> list[int]:
        """The teacher's blocks that a student keeps."""
        from flashstill.distill.students import kept_blocks

        found = kept.search(self.out / "search.json")
        return kept_blocks(found.depth, list(found.drops), student.keep_layers)

    def all_students_done(self) -> bool:
        """Whether every student and control is written."""
        names = [student.name for student in self.recipe.students]
        names += [f"{name}-control" for name in names if self.recipe.distil.control]
        return all(self.student_directory(name).is_dir() for name in names)
