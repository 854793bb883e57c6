"""Where a distillation finds and leaves its files: alone, as an arm of a study, or as a student of a family.

data/ signals/        packed texts, and what each teacher says of them
text/                 what a teacher wrote, by shards, in a regime of kind sequence
arithmetic.json       in which arithmetic and with how many threads the run was begun, and so goes on
search.json           a teacher's blocks in the order in which they are dropped
initial/ or starts/   first weights
student/              the result, a Hugging Face directory
packed/               the same in as many bits as its format has, where the recipe quantises it
training/             checkpoints while training, metrics.jsonl and TensorBoard events

Alone all of them lie in one directory.  Distillations of one tokenizer and seed may share texts, those of the same
teachers their signals as well, and those that begin alike their first weights: what is shared is made by whichever
comes first, and two never work in it at a time.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from flashstill.files import remove_leftovers, remove_orphans

ARITHMETIC = "arithmetic.json"
DOMAINS = ("heldout", "out-of-domain")
"""texts on which models are judged"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workdir:
    """out: what belongs to the run as a whole, its recipe, lock and records among it.

    sequence: the packing of what a teacher wrote, by name; teachers: the folder of each teacher under `signals`.
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
    training: Path
    sequence: str = "sequence"
    teachers: tuple[str, ...] = ()

    @staticmethod
    def alone(out: Path) -> Workdir:
        """All in one directory, which is shared with nobody."""
        return Workdir(
            out=out, data=out / "data", signals=out / "signals", text=out / "text", arithmetic=out / ARITHMETIC,
            search=out / "search.json", initial=out / "initial", student=out / "student",
            packed_student=out / "packed", training=out / "training",
        )  # fmt: skip

    @staticmethod
    def arm(place: Path, name: str, start: str, signals: str = "signals") -> Workdir:
        """One of several distillations under `place`, in arms/NAME; those that begin alike name the same start."""
        return dataclasses.replace(
            Workdir.alone(place / "arms" / name), data=place / "data", signals=place / signals,
            arithmetic=place / ARITHMETIC, initial=place / "starts" / start,
        )  # fmt: skip

    def packing(self, part: str) -> Path:
        """The file of a packed text."""
        return self.data / f"{part}.safetensors"

    def signals_of(self, teacher: int, part: str, kind: str) -> Path:
        """The shards of one kind of signal of one teacher on a packed text; kind: empty for hidden states."""
        names = self.teachers or tuple(f"teacher-{index}" for index in range(teacher + 1))
        return self.signals / names[teacher] / (f"{part}-{kind}" if kind else part)

    def tidy(self) -> None:
        """Remove what a killed run left unfinished; other processes may build shares of the signals by now."""
        remove_leftovers(self.data)
        for place in {self.out, self.initial.parent, self.student.parent, *self.signals.glob("**/")}:
            remove_orphans(place)
