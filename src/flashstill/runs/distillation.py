"""One student from one recipe: text, signals, the student's first weights, training, evaluation.

distill.toml        the resolved recipe; another's directory is refused
data/ signals/      packed text; what each teacher says of it
text/               what the teacher wrote, in a regime of kind sequence
initial/ student/   Hugging Face directories: before and after
packed/             the student in as many bits as its format has, where the recipe quantises it
arithmetic.json     in which arithmetic and with how many threads it was begun, and so goes on
training/           checkpoints while training, metrics.jsonl and TensorBoard events
records.jsonl summary.json

Under torchrun every process builds its share of the signals and takes part in the training; the first does the rest.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.errors import BadInput
from flashstill.files import write_text
from flashstill.progress import Progress, Silent
from flashstill.recipes import DistillRecipe, to_toml
from flashstill.runs import budget, kept
from flashstill.runs.outcome import leave_summary
from flashstill.runs.places import Places
from flashstill.runs.regimes import TeacherText, asks_teachers, objective_of, source_of, taught_part, train_recipe_of
from flashstill.runs.run_lock import claim, lock
from flashstill.runs.served import build_from, directories_of, origin_of, teacher_fingerprint
from flashstill.runs.sources import teacher_of
from flashstill.runs.students import first_student, leave_student, made_ready, rounded_plainly
from flashstill.runs.texts import pack_texts
from flashstill.runs.workdir import DOMAINS

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.models.arithmetic import Arithmetic
    from flashstill.distill.signals import Kind, Signals
    from flashstill.distill.signals.making import Built
    from flashstill.distill.training import World

RECIPE = "distill.toml"


def run_distillation(
    recipe: DistillRecipe, out: Path, progress: Progress, places: Places | None = None, judged: bool = True
) -> dict[str, Any]:
    """Every stage that is not done yet; returns the summary, which summary.json holds as well.

    places: what several distillations share, one after another; judged: False leaves evaluation and summary out, for
    whoever compares several students at once.  Raises BadInput for a directory that is another recipe's or in use.
    """
    from flashstill.distill.training import join_world

    world = join_world()
    shown = progress if world.is_main else Silent()
    if world.is_main:
        claim(to_toml(recipe), out, RECIPE)
    world.barrier()
    with lock(out, f".lock-{world.rank}" if world.rank else ".lock"):
        work = Work(recipe, out, shown, world, places)
        if world.is_main:
            work.places.tidy(out)
            shown.say(f"models run in {work.arithmetic}")
        world.barrier()
        work.text()
        work.recipe = budget.settled(work)
        work.teacher_text((world.rank, world.size))
        built = work.signals((world.rank, world.size))
        if world.is_main:
            budget.note_signals(recipe, out, built, work.packed("train").token_count // world.size)
        world.barrier()
        if world.is_main:
            work.first_weights()
        world.barrier()
        work.train()
        if judged and world.is_main and not (out / "summary.json").exists():
            work.evaluate()
        world.barrier()
    return work.summary if judged else {}


def build_signals(recipe: DistillRecipe, out: Path, progress: Progress, share: tuple[int, int]) -> dict[str, Any]:
    """Text and signals only, or the share (i, n) of the signals; returns bytes and rates by teacher."""
    from flashstill.distill.training import World

    claim(to_toml(recipe), out, RECIPE)
    if recipe.signals.kind == "none" and recipe.regime.kind != "sequence":
        raise BadInput("the recipe keeps no signals (signals.kind is none); nothing to build")
    work = Work(recipe, out, progress, World())
    with lock(out, ".lock-text", wait=True):
        progress.say(f"models run in {work.arithmetic}")
        work.text()
    with lock(out, f".lock-signals-{share[0]}-of-{share[1]}"):
        text = work.teacher_text(share)
        return {**text, **work.signals(share)} if (work.places.data / f"{work.taught}.safetensors").exists() else text


class Work:
    """The directory of one distillation and what its stages share."""

    def __init__(
        self, recipe: DistillRecipe, out: Path, progress: Progress, world: World, places: Places | None = None
    ) -> None:
        self.recipe, self.out, self.progress, self.world = recipe, out, progress, world
        self.places, self.taught = places or Places.within(out), taught_part(recipe)
        self.directories, self.tokenizer = directories_of(recipe, progress)
        self._models: dict[int, Any] = {}
        self._fingerprints: dict[int, str] = {}

    @functools.cached_property
    def arithmetic(self) -> Arithmetic:
        """In which all models of this run are multiplied; of several processes the first decides, before the others."""
        from flashstill.distill.models.arithmetic import settled, shape_of

        wanted = self.recipe.train.arithmetic
        return settled(wanted, lambda: shape_of(self.directories[0]), self.places.arithmetic)

    def model(self, index: int) -> Any:
        """A teacher, loaded once."""
        from flashstill.distill.models import load_model

        if index not in self._models:
            self._models[index] = load_model(self.directories[index], self.arithmetic.dtype)
        return self._models[index]

    def text(self) -> None:
        """Pack training and held-out text, and that of another domain."""
        if self.world.is_main:
            pack_texts(self.recipe, self.directories[0], self.places.data, self.progress)
        self.world.barrier()

    def packed(self, part: str) -> Packed:
        """A packed text."""
        from flashstill.distill.data.packing import Packed

        return Packed.load(self.places.data / f"{part}.safetensors")

    def kind(self, part: str) -> Kind:
        """What is kept of the teachers on a packed text."""
        from flashstill.distill.signals import Hidden, kind

        wanted = self.recipe.signals
        is_exact = part != self.taught and not self.recipe.teachers[0].served
        return Hidden() if is_exact else kind(wanted.kind, wanted.draws, wanted.k, self.recipe.seed)

    def _fingerprint(self, index: int) -> str:
        if index not in self._fingerprints:  # all weights are read for it
            self._fingerprints[index] = teacher_fingerprint(self.recipe.teachers[index], self.directories[index])
        return self._fingerprints[index]

    def teacher_text(self, share: tuple[int, int]) -> dict[str, Any]:
        """What the teacher writes for the student, in a regime where it does."""
        if self.recipe.regime.kind != "sequence":
            return {}
        prints, places = (self._fingerprint(0), self.tokenizer), (self.out / "text", self.places.data)
        text = TeacherText(self.recipe, places, self.packed("train"), self.directories[0], prints)
        found = text.write(lambda: self.model(0), self.progress, share)
        self.world.barrier()
        if self.world.is_main:
            text.join(self.progress)
        self.world.barrier()
        return found

    def _signals_at(self, index: int, part: str) -> tuple[Path, dict[str, Any]]:
        from flashstill.distill.signals import signal_key

        key = signal_key(self.kind(part), self._fingerprint(index), self.tokenizer, self.packed(part))
        return self.places.signals / f"teacher-{index}" / part, key

    def signals(self, share: tuple[int, int]) -> dict[str, Any]:
        """What the teachers say of the training text, if it is kept; of a server, which may go then, of all texts."""
        if self.recipe.signals.kind == "none" or not asks_teachers(self.recipe) or (self.out / "student").is_dir():
            return {}
        found = {}
        for index, teacher in enumerate(self.recipe.teachers):
            part = f", share {share[0]}/{share[1]}" if share[1] > 1 else ""
            label = f"signals of {teacher.name or Path(teacher.model).name}{part}"
            built = self._build(index, self.taught, label, share)
            for domain in DOMAINS if teacher.served else ():
                self._build(index, domain, f"teacher on {domain} text", share)
            found[teacher.model] = {
                **asdict(built),
                "kind": self.recipe.signals.kind,
                "tokens_per_s": round(built.tokens / built.seconds, 1) if built.seconds else None,
                "bytes_per_token": round(built.bytes / self.packed("train").token_count, 2),
            }
        return found

    def _build(self, index: int, part: str, label: str, share: tuple[int, int] = (0, 1)) -> Built:
        """What one teacher says of a packed text, by running it or by asking its server."""
        from flashstill.distill.models import load_tokenizer
        from flashstill.distill.signals import build

        teacher, packed, kind = self.recipe.teachers[index], self.packed(part), self.kind(part)
        directory, key = self._signals_at(index, part)
        if teacher.served:
            tokenizer = load_tokenizer(self.directories[index])
            return build_from(teacher, kind, key, packed, tokenizer, directory, self.progress, label, share)
        return build(self.model(index), kind, key, packed, directory, self.progress, label, share)

    def open(self, index: int, part: str) -> Signals:
        """What a teacher said of a packed text."""
        from flashstill.distill.signals import Signals

        return Signals(*self._signals_at(index, part), self.arithmetic.dtype)

    def first_weights(self) -> None:
        """The student as training finds it."""
        from flashstill.distill.models import load_tokenizer, save_model

        if self.places.initial.is_dir():
            return
        origin, vocabulary = origin_of(
            self.recipe, self.directories[0], lambda: self.model(0), self.progress, self.arithmetic.dtype
        )
        student = first_student(self.recipe, origin, vocabulary, self.packed("train"), self.progress)
        save_model(student, load_tokenizer(self.directories[0]), self.places.initial)

    def train(self) -> None:
        """From the first weights to the student."""
        from flashstill.distill import training
        from flashstill.distill.models import load_model, load_tokenizer, parts
        from flashstill.distill.models.checksums import verify_checksums
        from flashstill.measure.memory import Peak, release

        if (self.out / "student").is_dir():
            if self.world.is_main:
                verify_checksums(self.out / "student")
            return
        student = load_model(self.places.initial, self.arithmetic.dtype)
        packed, tokenizer = self.packed(self.taught), load_tokenizer(self.directories[0])
        after_step = made_ready(self.recipe, student)
        recipe = train_recipe_of(self.recipe)
        teacher, sizes = teacher_of(self, packed) if asks_teachers(self.recipe) else (None, [])
        objective = objective_of(self.recipe, teacher) if teacher else training.hard
        vocabulary = min([*sizes, parts(student).head.shape[0]])
        key = {"losses": [asdict(loss) for loss in self.recipe.losses], "hard_weight": self.recipe.hard_weight}
        source = source_of(self.recipe, packed, tokenizer, vocabulary, self.world)
        label, folder = f"distil {self.recipe.name}", self.out / "training"
        release()
        with Peak() as peak:
            trained = training.train(
                student, source, objective, recipe, folder, self.progress, label, key, vocabulary, after_step
            )
        if self.world.is_main:
            write_text(folder / budget.MEMORY, json.dumps({"bytes": peak.bytes}))
            leave_student(self.recipe, trained, tokenizer, self.out)
            training.checkpoints.clear(folder)
        self.world.barrier()

    def evaluate(self) -> None:
        """Teacher, first weights and student on held-out text and on that of another domain."""
        from flashstill.distill.models import load_model

        models = {} if self.recipe.teachers[0].served else {"teacher": self.model(0)}
        dtype = self.arithmetic.dtype
        models |= {
            "initial": load_model(self.places.initial, dtype),
            "student": load_model(self.out / "student", dtype),
        }
        rounded_plainly(self.recipe, models["initial"])
        leave_summary(self.recipe, self.out, models, self.held_texts(), self.progress, self.arithmetic)

    def held_texts(self) -> dict[str, tuple[Packed, Signals]]:
        """What is never trained on, by domain, with what the first teacher says of it."""
        for domain in DOMAINS:
            self._build(0, domain, f"teacher on {domain} text")
        return {domain: (self.packed(domain), self.open(0, domain)) for domain in DOMAINS}

    @property
    def summary(self) -> dict[str, Any]:
        """What `evaluate` left."""
        return kept.student_summary(self.out / "summary.json")
