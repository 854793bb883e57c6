"""The stages of one distillation; each returns immediately if its result exists.

    text -> teacher-generated text -> signals -> initial weights -> training -> evaluation (evaluating.py)

Under torchrun every process builds its share of the signals and takes part in training; rank 0 does the rest.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.files import write_text
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.recipes.resuming import loop_keys
from flashstill.runs import budget, evaluating
from flashstill.runs.after_training import kept_after_errors
from flashstill.runs.aligned import aligned_source, tokenizer_of, windows_of
from flashstill.runs.ends import inherit_settings
from flashstill.runs.logging import logs_for
from flashstill.runs.models import Models
from flashstill.runs.regimes import TeacherText, asks_teachers, objective_of, source_of, train_recipe_of
from flashstill.runs.served import build_from, directories_of, origin_of
from flashstill.runs.shared_signals import one_builder, shared_place
from flashstill.runs.small_amounts import tell
from flashstill.runs.sources import kind_of, teacher_of
from flashstill.runs.students import (
    base_of,
    first_student,
    leave_student,
    made_ready,
    student_to_train,
)
from flashstill.runs.texts import pack_texts
from flashstill.runs.tokenizers import check_cut, known_ids
from flashstill.runs.validating import validation_of, validation_signals
from flashstill.runs.views import label_of, view_for
from flashstill.runs.workdir import DOMAINS, Workdir

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.models.arithmetic import Arithmetic
    from flashstill.distill.signals import Kind, Signals
    from flashstill.distill.signals.making import Built
    from flashstill.distill.teachers.spans import Spanned
    from flashstill.distill.training import TeacherSource, World


class Distillation:
    """The state that the stages of one distillation share.

    models: cache of loaded models, shared by the distillations of a run; located: the result of `directories_of` for
    the same teachers and student.
    """

    def __init__(
        self,
        recipe: DistillRecipe,
        workdir: Workdir,
        progress: Progress,
        world: World,
        models: Models | None = None,
        located: tuple[list[Path], str] | None = None,
    ) -> None:
        from flashstill.distill.models.devices import choose

        self.recipe, self.workdir, self.progress, self.world = recipe, workdir, progress, world
        self.taught = workdir.sequence if recipe.regime.kind == "sequence" else "train"
        self.directories, self.tokenizer = located or directories_of(recipe, progress)
        self.models = models or Models()
        choose(recipe.train.device)
        self.own = tokenizer_of(recipe, self.directories[0], progress)
        """directory of the student's tokenizer"""

    @functools.cached_property
    def arithmetic(self) -> Arithmetic:
        """The arithmetic of all models of this run; with several processes rank 0 decides."""
        from flashstill.distill.models.arithmetic import settled, shape_of

        asked = self.recipe.train.arithmetic
        return settled(asked, lambda: shape_of(self.directories[0]), self.workdir.arithmetic)

    def model(self, index: int) -> Any:
        """The teacher of this index, loaded."""
        return self.models.load(self.directories[index], self.arithmetic.dtype, self.progress.say)

    def text(self) -> None:
        """Pack training, held-out and out-of-domain text."""
        if self.world.is_main:
            known = known_ids(self.recipe, self.directories)
            pack_texts(self.recipe, self.own, self.workdir.data, self.progress, self.directories[0], known)
            check_cut(self.directories, self.workdir.packing("train"))
        self.world.barrier()

    def packed(self, part: str) -> Packed:
        """The packed text `part`."""
        from flashstill.distill.data.packing import Packed

        return Packed.load(self.workdir.packing(part))

    def rows(self, part: str) -> Packed:
        """The packed text `part` in the teachers' tokens."""
        return windows_of(self.workdir.data, part).packed if self.recipe.align == "spans" else self.packed(part)

    def aligned(self, source: TeacherSource, part: str) -> Spanned:
        """The teachers' source on the rows of a packed text, aligned with the student's windows."""
        return aligned_source(source, windows_of(self.workdir.data, part), self.own, self.directories[0])

    def kind(self, part: str) -> Kind:
        """The kind of signals that is stored for a packed text."""
        return kind_of(self.recipe, part == self.taught)

    def _fingerprint(self, index: int) -> str:
        return self.models.fingerprint(self.recipe.teachers[index], self.directories[index])

    def teacher_text(self, share: tuple[int, int]) -> dict[str, Any]:
        """Generate the teacher's text, if the regime is "sequence"."""
        if self.recipe.regime.kind != "sequence":
            return {}
        prints = (self._fingerprint(0), self.tokenizer)
        text = TeacherText(self.recipe, self.workdir, self.packed("train"), self.directories[0], prints)
        written = text.write(lambda: self.model(0), self.progress, share)
        self.world.barrier()
        if self.world.is_main:
            text.join(self.progress)
        self.world.barrier()
        return written

    def _signals_at(self, index: int, part: str) -> tuple[Path, dict[str, Any]]:
        from flashstill.distill.signals import signal_key

        kind, view = self.kind(part), view_for(self, index, part)
        key = signal_key(kind, self._fingerprint(index), self.tokenizer, self.rows(part), view)
        if self.recipe.signals.dir:
            return shared_place(Path(self.recipe.signals.dir), key), key
        return self.workdir.signals_of(index, part, "" if kind.key["kind"] == "hidden" else label_of(kind)), key

    def signals(self, share: tuple[int, int]) -> dict[str, Any]:
        """Build the stored signals of the training text, and of that for validation; of a server first those of all
        other texts."""
        validation_signals(self, share)
        rates: dict[str, Any] = {}
        if not asks_teachers(self.recipe) or self.workdir.student.is_dir():
            return rates
        for index, teacher in enumerate(self.recipe.teachers):
            for domain in DOMAINS if teacher.served else ():
                self.build(index, domain, f"teacher on {domain} text", share)
            if self.recipe.signals.kind == "none":
                continue
            label = f"signals of {teacher.name or Path(teacher.model).name}"
            label += f", share {share[0]}/{share[1]}" if share[1] > 1 else ""
            built = self.build(index, self.taught, label, share)
            rates[teacher.model] = {
                **asdict(built),
                "kind": self.recipe.signals.kind,
                "tokens_per_s": round(built.tokens / built.seconds, 1) if built.seconds else None,
                "bytes_per_token": round(built.bytes / self.packed("train").token_count, 2),
            }
        return rates

    def build(self, index: int, part: str, label: str, share: tuple[int, int] = (0, 1)) -> Built:
        """Build one teacher's signals on a packed text, by running it or through its server."""
        from flashstill.distill.models import load_tokenizer
        from flashstill.distill.signals import build

        teacher, packed, kind = self.recipe.teachers[index], self.rows(part), self.kind(part)
        (directory, key), view = self._signals_at(index, part), view_for(self, index, part)
        with one_builder(directory, share, self.progress) if self.recipe.signals.dir else contextlib.nullcontext():
            if teacher.served:
                tokenizer = load_tokenizer(self.directories[index])
                return build_from(teacher, kind, key, packed, tokenizer, directory, self.progress, label, share, view)
            model, name = self.model(index), teacher.model
            return build(model, kind, key, packed, directory, self.progress, label, share, name, view)

    def open(self, index: int, part: str) -> Signals:
        """Open a teacher's stored signals on a packed text."""
        from flashstill.distill.signals import Signals

        return Signals(*self._signals_at(index, part), self.arithmetic.dtype)

    def first_weights(self, least_layers: int = 0) -> None:
        """Make the student's initial weights. least_layers: minimum over depth students that share the search."""
        from flashstill.distill.models import load_tokenizer, save_model

        if self.workdir.initial.is_dir():
            return
        origin, vocabulary = origin_of(
            self.recipe, self.own, lambda: self.model(0), self.progress, self.arithmetic.dtype
        )
        text, search = self.packed("train"), self.workdir.search
        student = first_student(self.recipe, origin, vocabulary, text, search, least_layers, self.progress)
        inherit_settings(student, origin)
        save_model(student, load_tokenizer(self.own), self.workdir.initial)
        self.models.forget(student)  # a copy is the teacher itself, which saving has rounded

    def train(self) -> None:
        """Train the student from its initial weights."""
        from flashstill.distill import training
        from flashstill.distill.models import load_tokenizer, parts
        from flashstill.distill.models.checksums import verify_checksums
        from flashstill.distill.models.documents import ROWS, separation
        from flashstill.measure.memory import Peak, release

        if self.workdir.student.is_dir():
            if self.world.is_main:
                verify_checksums(self.workdir.student)
            return
        packed, tokenizer = self.packed(self.taught), load_tokenizer(self.own)
        apart = packed.starts is not None
        student, files = student_to_train(self.recipe, self.workdir, self.arithmetic.dtype, self.world, apart)
        if apart and separation(parts(student)) == ROWS:
            self.progress.say(
                f"{type(student).__name__} keeps the documents of a window apart only where each is a row of its own:"
                " rows are padded, and passes take longer"
            )
        tell(self.progress, self.recipe, packed.windows, packed.length)
        after_step = made_ready(self.recipe, student)
        recipe = train_recipe_of(self.recipe)
        teacher, sizes = teacher_of(self, packed) if asks_teachers(self.recipe) else (None, [])
        objective = objective_of(self.recipe, teacher) if teacher else training.hard
        vocabulary = min([*sizes, parts(student).head.shape[0]])
        key = {"losses": [asdict(loss) for loss in self.recipe.losses], "hard_weight": self.recipe.hard_weight}
        source = source_of(self.recipe, packed, tokenizer, vocabulary, self.world, self.workdir, self.progress, student)
        label, folder = f"{'distil' if self.recipe.losses else 'train'} {self.recipe.name}", self.workdir.training
        release()
        with Peak() as peak, logs_for(self.recipe, self.workdir, self.progress, self.world.is_main) as logs:
            trained = training.train(
                student, source, objective, recipe, folder, self.progress, label, key, vocabulary, after_step,
                loop_keys(), files, validation=validation_of(self, teacher is not None), log=logs.add,
            )  # fmt: skip
        if self.world.is_main:
            with kept_after_errors("the training is finished", folder):
                if not (folder / budget.MEMORY).exists():  # if it does, this process has only read the last checkpoint
                    write_text(folder / budget.MEMORY, json.dumps({"bytes": peak.bytes}))
                base = base_of(self.recipe, self.workdir, self.directories[0], self.progress)
                shutil.rmtree(self.workdir.rollouts, ignore_errors=True)
                leave_student(self.recipe, trained, tokenizer, packed, self.workdir, base)
                if not self.workdir.keeps_state:
                    training.checkpoints.clear(folder)
        self.world.barrier()

    def evaluate(self) -> None:
        """Evaluate teacher, initial weights and student on held-out and out-of-domain text."""
        evaluating.evaluate(self)
