"""The files of a distillation: standalone, as an arm of a study, or as a student of a family.

data/ signals/        packed texts, and each teacher's signals on them
text/                 shards of teacher-generated text, in the regime "sequence"
arithmetic.json       arithmetic and number of threads of the run, kept when it is resumed
search.json           a teacher's blocks in drop order
initial/ or starts/   initial weights
student/              the result, a Hugging Face directory
adapter/              its adapter, if the recipe trains one: student/ is the base model with it
packed/               the same at the bit width of its format, if the recipe quantises it
rollouts/             weights for a server that samples for the student, during training
training/             checkpoints during training, metrics.jsonl, and a directory of each logger

A standalone run keeps all of them in one directory.  Distillations with the same tokenizer and seed may share texts;
with the same teachers also signals; with the same start also initial weights.  The first one to run makes the shared
files; two must not run at the same time.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from flashstill.files import remove_leftovers, remove_orphans

ARITHMETIC = "arithmetic.json"
DOMAINS = ("heldout", "out-of-domain")
"""evaluation texts"""


def packing_file(folder: Path, part: str) -> Path:
    """The file of a packed text: of a large one PART.npy, which is read by memory map, else PART.safetensors."""
    large = folder / f"{part}.npy"
    return large if large.with_suffix(".json").exists() else folder / f"{part}.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Workdir:
    """out: directory of the run's own files, such as recipe, lock and records.

    sequence: name of the packed teacher-generated text; teachers: the folder of each teacher under `signals`;
    keeps_state: whether the last checkpoint stays, so that a finished run can go on with more tokens.
    """

    out: Path
    data: Path
    signals: Path
    text: Path
    arithmetic: Path
    search: Path
    initial: Path
    student: Path
    packed_student: Path
    adapter: Path
    training: Path
    sequence: str = "sequence"
    teachers: tuple[str, ...] = ()
    keeps_state: bool = False

    @staticmethod
    def alone(out: Path) -> Workdir:
        """All files in one directory, not shared."""
        return Workdir(
            out=out, data=out / "data", signals=out / "signals", text=out / "text", arithmetic=out / ARITHMETIC,
            search=out / "search.json", initial=out / "initial", student=out / "student",
            packed_student=out / "packed", adapter=out / "adapter", training=out / "training",
        )  # fmt: skip

    @staticmethod
    def arm(place: Path, name: str, start: str, signals: str = "signals") -> Workdir:
        """One of several distillations under `place`, in arms/NAME; the same `start` means shared initial weights."""
        return dataclasses.replace(
            Workdir.alone(place / "arms" / name), data=place / "data", signals=place / signals,
            arithmetic=place / ARITHMETIC, initial=place / "starts" / start,
        )  # fmt: skip

    @property
    def rollouts(self) -> Path:
        """Weights that a server which samples for the student is given, during training."""
        return self.out / "rollouts"

    def packing(self, part: str) -> Path:
        """The file of a packed text."""
        return packing_file(self.data, part)

    def signals_of(self, teacher: int, part: str, kind: str) -> Path:
        """The directory of one teacher's signals on a packed text; kind: empty for hidden states."""
        names = self.teachers or tuple(f"teacher-{index}" for index in range(teacher + 1))
        return self.signals / names[teacher] / (f"{part}-{kind}" if kind else part)

    def tidy(self) -> None:
        """Remove unfinished files of a killed run; in `signals` only orphans: other processes may build shares."""
        remove_leftovers(self.data)
        for place in {self.out, self.initial.parent, self.student.parent, *self.signals.glob("**/")}:
            remove_orphans(place)
