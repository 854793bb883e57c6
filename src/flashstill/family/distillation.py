"""One student from one recipe: text, signals, the student's first weights, training, evaluation.

distill.toml        the resolved recipe; another's directory is refused
data/ signals/      packed text; what each teacher says of it
text/               what the teacher wrote, in a regime of kind sequence
initial/ student/   Hugging Face directories: before and after
training/           checkpoints while training, metrics.jsonl and TensorBoard events
records.jsonl summary.json

Under torchrun every process builds its share of the signals and takes part in the training; the first does the rest.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.errors import BadInput
from flashstill.family.claim import claim, lock
from flashstill.family.outcome import leave_summary
from flashstill.family.regimes import TeacherText, asks_teachers, objective_of, source_of, taught_part
from flashstill.family.students import first_student, made_ready
from flashstill.family.texts import pack_texts
from flashstill.files import remove_leftovers
from flashstill.progress import Progress, Silent
from flashstill.recipes import DistillRecipe, to_toml

if TYPE_CHECKING:
    from flashstill.distill.packing import Packed
    from flashstill.distill.signals import Kind, Signals
    from flashstill.distill.training import TeacherSource, World

RECIPE = "distill.toml"


def run_distillation(recipe: DistillRecipe, out: Path, progress: Progress) -> dict[str, Any]:
    """Every stage that is not done yet; returns the summary, which summary.json holds as well.

    Raises BadInput for a directory that is another recipe's or being worked on.
    """
    from flashstill.distill.training import join_world

    world = join_world()
    shown = progress if world.leads else Silent()
    if world.leads:
        claim(to_toml(recipe), out, RECIPE)
    world.wait()
    with lock(out, f".lock-{world.rank}" if world.rank else ".lock"):
        if world.leads:
            remove_leftovers(out / "data")
        work = _Work(recipe, out, shown, world)
        work.text()
        work.teacher_text((world.rank, world.size))
        work.signals((world.rank, world.size))
        world.wait()
        if world.leads:
            work.first_weights()
        world.wait()
        work.train()
        if world.leads and not (out / "summary.json").exists():
            work.evaluate()
        world.wait()
    return work.summary


def build_signals(recipe: DistillRecipe, out: Path, progress: Progress, share: tuple[int, int]) -> dict[str, Any]:
    """Text and signals only, or the share (i, n) of the signals; returns bytes and rates by teacher."""
    from flashstill.distill.training import World

    claim(to_toml(recipe), out, RECIPE)
    if recipe.signals.kind == "none" and recipe.regime.kind != "sequence":
        raise BadInput("the recipe keeps no signals (signals.kind is none); nothing to build")
    work = _Work(recipe, out, progress, World())
    with lock(out, ".lock-text", wait=True):
        work.text()
    with lock(out, f".lock-signals-{share[0]}-of-{share[1]}"):
        text = work.teacher_text(share)
        return {**text, **work.signals(share)} if (out / "data" / f"{work.taught}.safetensors").exists() else text


class _Work:
    """The directory of one distillation and what its stages share."""

    def __init__(self, recipe: DistillRecipe, out: Path, progress: Progress, world: World) -> None:
        from flashstill.distill.models import tokenizer_fingerprint
        from flashstill.distill.teachers import resolve_teacher

        self.recipe, self.out, self.progress, self.world = recipe, out, progress, world
        self.taught = taught_part(recipe)
        self.directories = [resolve_teacher(teacher.model, progress) for teacher in recipe.teachers]
        tokenizers = {tokenizer_fingerprint(path): path for path in self.directories}
        if len(tokenizers) > 1:
            raise BadInput(_different_vocabularies(self.directories))
        (self.tokenizer,) = tokenizers
        self._models: dict[int, Any] = {}
        self._fingerprints: dict[int, str] = {}

    def model(self, index: int) -> Any:
        """A teacher, loaded once."""
        from flashstill.distill.models import load_model

        if index not in self._models:
            self._models[index] = load_model(self.directories[index])
        return self._models[index]

    def text(self) -> None:
        """Pack training and held-out text, and that of another domain."""
        if self.world.leads:
            pack_texts(self.recipe, self.directories[0], self.out / "data", self.progress)
        self.world.wait()

    def packed(self, part: str) -> Packed:
        """A packed text."""
        from flashstill.distill.packing import Packed

        return Packed.load(self.out / "data" / f"{part}.safetensors")

    def _kind(self, part: str) -> Kind:
        from flashstill.distill.signals import Hidden, kind

        wanted = self.recipe.signals
        return (
            Hidden()
            if part != taught_part(self.recipe)
            else kind(wanted.kind, wanted.draws, wanted.k, self.recipe.seed)
        )

    def _fingerprint(self, index: int) -> str:
        from flashstill.distill.models import fingerprint

        if index not in self._fingerprints:  # all weights are read for it
            self._fingerprints[index] = fingerprint(self.directories[index])
        return self._fingerprints[index]

    def teacher_text(self, share: tuple[int, int]) -> dict[str, Any]:
        """What the teacher writes for the student, in a regime where it does."""
        if self.recipe.regime.kind != "sequence":
            return {}
        prints = (self._fingerprint(0), self.tokenizer)
        text = TeacherText(self.recipe, self.out, self.packed("train"), self.directories[0], prints)
        found = text.write(lambda: self.model(0), self.progress, share)
        self.world.wait()
        if self.world.leads:
            text.join(self.progress)
        self.world.wait()
        return found

    def _signals_at(self, index: int, part: str) -> tuple[Path, dict[str, Any]]:
        from flashstill.distill.signals import signal_key

        key = signal_key(self._kind(part), self._fingerprint(index), self.tokenizer, self.packed(part))
        return self.out / "signals" / f"teacher-{index}" / part, key

    def signals(self, share: tuple[int, int]) -> dict[str, Any]:
        """What the teachers say of the training text, unless the recipe runs them on the way."""
        from flashstill.distill.signals import build

        if self.recipe.signals.kind == "none" or not asks_teachers(self.recipe) or (self.out / "student").is_dir():
            return {}
        found = {}
        for index, teacher in enumerate(self.recipe.teachers):
            directory, key = self._signals_at(index, self.taught)
            part = f", share {share[0]}/{share[1]}" if share[1] > 1 else ""
            label = f"signals of {Path(teacher.model).name}{part}"
            packed, kept = self.packed(self.taught), self._kind(self.taught)
            built = build(self.model(index), kept, key, packed, directory, self.progress, label, share)
            found[teacher.model] = {
                **asdict(built),
                "kind": self.recipe.signals.kind,
                "tokens_per_s": round(built.tokens / built.seconds, 1) if built.seconds else None,
                "bytes_per_token": round(built.bytes / packed.token_count, 2),
            }
        return found

    def _open(self, index: int, part: str) -> Signals:
        from flashstill.distill.signals import Signals

        return Signals(*self._signals_at(index, part))

    def first_weights(self) -> None:
        """The student as training finds it."""
        from flashstill.distill.models import load_tokenizer, save_model

        if (self.out / "initial").is_dir():
            return
        student = first_student(self.recipe, self.model(0), self.packed("train"), self.progress)
        save_model(student, load_tokenizer(self.directories[0]), self.out / "initial")

    def train(self) -> None:
        """From the first weights to the student."""
        from flashstill.distill import training
        from flashstill.distill.models import load_model, load_tokenizer, parts, save_model
        from flashstill.distill.students import settle

        if (self.out / "student").is_dir():
            return
        student, table = load_model(self.out / "initial"), self.recipe.train
        packed, tokenizer = self.packed(self.taught), load_tokenizer(self.directories[0])
        after_step = made_ready(self.recipe, student)
        recipe = training.TrainRecipe(**asdict(table), seed=self.recipe.seed)
        objective: training.Objective = training.hard
        sizes: list[int] = []
        if asks_teachers(self.recipe):
            teacher, sizes = self._teacher(packed)
            objective = objective_of(self.recipe, teacher)
        vocabulary = min([*sizes, parts(student).head.shape[0]])
        key = {"losses": [asdict(loss) for loss in self.recipe.losses], "hard_weight": self.recipe.hard_weight}
        source = source_of(self.recipe, packed, tokenizer, vocabulary, self.world)
        label = f"distil {self.recipe.name}"
        folder = self.out / "training"
        trained = training.train(
            student, source, objective, recipe, folder, self.progress, label, key, vocabulary, after_step
        )
        if self.world.leads:
            save_model(settle(trained), tokenizer, self.out / "student")
            training.checkpoints.clear(folder)
        self.world.wait()

    def _teacher(self, packed: Packed) -> tuple[TeacherSource, list[int]]:
        """The teachers as one source, and the sizes of their vocabularies."""
        from flashstill.distill.models import parts
        from flashstill.distill.teachers import Ensemble, Online, Router

        recipe, count = self.recipe, len(self.recipe.teachers)
        if recipe.signals.kind == "none":
            members: list[TeacherSource] = [Online(self.model(index)) for index in range(count)]
            sizes = [parts(self.model(index)).head.shape[0] for index in range(count)]
        else:
            opened = [self._open(index, self.taught) for index in range(count)]
            sizes = [signals.head.shape[0] for signals in opened if signals.head is not None]
            members = list(opened)
        if recipe.routed:
            assert packed.window_group is not None
            return Router(members, packed.window_group), sizes
        if count == 1:
            return members[0], sizes
        return Ensemble(members, [teacher.weight for teacher in recipe.teachers], recipe.mean), sizes

    def evaluate(self) -> None:
        """Teacher, first weights and student on held-out text and on that of another domain."""
        from flashstill.distill.models import load_model
        from flashstill.distill.signals import Signals, build

        models = {"teacher": self.model(0)}
        models |= {name: load_model(self.out / name) for name in ("initial", "student")}
        texts = {}
        for domain in ("heldout", "out-of-domain"):
            packed = self.packed(domain)
            directory, key = self._signals_at(0, domain)
            build(self.model(0), self._kind(domain), key, packed, directory, self.progress, f"teacher on {domain} text")
            texts[domain] = (packed, Signals(directory, key))
        leave_summary(self.recipe, self.out, models, texts, self.progress)

    @property
    def summary(self) -> dict[str, Any]:
        """What `evaluate` left."""
        found: dict[str, Any] = json.loads((self.out / "summary.json").read_text(encoding="utf-8"))
        return found


def _different_vocabularies(directories: list[Path]) -> str:
    from flashstill.distill.models import load_tokenizer

    counts = ", ".join(f"{path.name} {len(load_tokenizer(path)):,}" for path in directories)
    return f"the teachers have different vocabularies ({counts} tokens); they must share one tokenizer"
