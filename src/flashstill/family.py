"""The stages of a family's run, each skipped when its result is there and resumed where it was interrupted.

    teacher -> text -> signals -> search -> distil -> evaluate -> measure -> cost -> report

The output directory:

    family.toml           the resolved recipe; another family's directory is refused
    provenance.json       versions, machine, fingerprints, the built-in corpus
    data/ signals/        packed text, and the teacher's hidden states on it
    search.json           the order in which blocks were dropped
    students/NAME/        Hugging Face directories, one a student and one a control
    training/NAME/        checkpoints while training, metrics.jsonl afterwards
    facts/                this machine as fact rows
    stages/*.jsonl        records by stage;  records.jsonl holds them all
    report.html
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashstill import __version__
from flashstill.arch import Architecture
from flashstill.arch.catalogue import read_config
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.files import disk_errors, make_directory, write_text
from flashstill.hardware import chip_from_facts
from flashstill.progress import Progress
from flashstill.recipes import FamilyRecipe, StudentRecipe, to_toml
from flashstill.records import MeasuredRecord, ModelRecord, Record, read_records, write_records

STAGES = ("teacher", "text", "signals", "search", "distil", "evaluate", "measure", "cost", "report")
DOMAINS = ("heldout", "out-of-domain")


def run_family(recipe: FamilyRecipe, out: Path, progress: Progress, command: str = "") -> list[Record]:
    """Run every stage that is not done yet; returns all records.

    Raises BadInput for a directory that belongs to another family or is being worked on.
    """
    _check_cost(recipe)
    _claim(recipe, out)
    with _lock(out):
        stages = _Stages(recipe, out, progress, command)
        for number, name in enumerate(STAGES, start=1):
            progress.say(f"[{number}/{len(STAGES)}] {name}")
            getattr(stages, name)()
    return stages.records()


def _check_cost(recipe: FamilyRecipe) -> None:
    """Chips and precision are read before the first minute of work, not after the last."""
    facts = load()
    for name in recipe.cost.chips:
        chip_from_facts(facts, name).precision(recipe.cost.precision)


def _claim(recipe: FamilyRecipe, out: Path) -> None:
    """Make the directory this family's, or refuse it."""
    wanted = to_toml(recipe)
    recorded = out / "family.toml"
    if recorded.is_file():
        if recorded.read_text(encoding="utf-8") != wanted:
            raise BadInput(f"{out} belongs to another family ({_difference(recorded, wanted)}); give another --out")
        return
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; give a directory as --out")
    if out.is_dir() and any(entry.name not in (".lock",) for entry in out.iterdir()):
        raise BadInput(f"{out} is not empty and holds no family.toml; give an empty or new directory as --out")
    make_directory(out)
    write_text(recorded, wanted)


def _difference(recorded: Path, wanted: str) -> str:
    import tomllib

    try:
        old, new = tomllib.loads(recorded.read_text(encoding="utf-8")), tomllib.loads(wanted)
    except tomllib.TOMLDecodeError:
        return "its family.toml is broken"
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    shown = [f"{key} was {old.get(key)!r}" for key in keys if not isinstance(new.get(key), (dict, list))]
    return ", ".join(shown or [f"another [{key}]" for key in keys])


@contextlib.contextmanager
def _lock(out: Path) -> Iterator[None]:
    """One run at a time in a directory; the system drops the lock with the process."""
    with disk_errors(out), (out / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"another run is at work in {out}; wait for it or give another --out") from error
        yield


@dataclass(slots=True)
class _Stages:
    """The stages of one run; each method leaves its result on the disk and returns at once when it is there."""

    recipe: FamilyRecipe
    out: Path
    progress: Progress
    command: str
    _teacher_directory: Path | None = None
    _model: Any = None

    # -- what the stages share

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
            self._model = load_model(self.directory)
        return self._model

    @property
    def provenance(self) -> dict[str, Any]:
        """What `teacher` wrote down."""
        found: dict[str, Any] = json.loads((self.out / "provenance.json").read_text(encoding="utf-8"))
        return found

    def packed(self, part: str) -> Any:
        """A packed text: train, heldout or out-of-domain."""
        from flashstill.distill.packing import Packed

        return Packed.load(self.out / "data" / f"{part}.safetensors")

    def signals_of(self, part: str) -> Any:
        """The teacher's hidden states on a packed text."""
        from flashstill.distill.signals import load_hidden

        return load_hidden(self.out / "signals" / part, self.provenance["teacher_fingerprint"], self.packed(part))

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
        files = [self.stage_file(stage) for stage in STAGES]
        return [record for file in files if file.exists() for record in read_records(file)]

    def kept(self, student: StudentRecipe) -> list[int]:
        """The teacher's blocks that a student keeps."""
        from flashstill.distill.students import kept_blocks

        found = json.loads((self.out / "search.json").read_text(encoding="utf-8"))
        return kept_blocks(found["depth"], found["drops"], student.keep_layers)

    # -- the stages

    def teacher(self) -> None:
        """Find or convert the teacher; write down what everything else depends on."""
        from flashstill.distill.models import fingerprint, load_tokenizer
        from flashstill.distill.text import corpus_label

        path = self.out / "provenance.json"
        current = fingerprint(self.directory)
        if path.exists():
            if self.provenance["teacher_fingerprint"] != current:
                raise BadInput(
                    f"the teacher {self.recipe.teacher} has changed since {self.out} was begun; give another --out"
                )
            return
        load_tokenizer(self.directory)
        self.architecture("teacher")
        depth = self.architecture("teacher").depth
        for student in self.recipe.students:
            if student.keep_layers > depth:
                raise BadInput(
                    f"student {student.name} keeps {student.keep_layers} layers, but the teacher has {depth}"
                )
        provenance = {
            "command": self.command,
            "teacher_fingerprint": current,
            "corpus": corpus_label() if self.recipe.data.startswith("cpython-") else self.recipe.data,
            "versions": _versions(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "begun": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        }
        write_text(path, json.dumps(provenance, indent=1))

    def text(self) -> None:
        """Load, deduplicate, split by document, and pack the text."""
        from flashstill.distill.models import load_tokenizer
        from flashstill.distill.packing import pack
        from flashstill.distill.text import load_documents, shuffled, without_leaks

        folder = self.out / "data"
        if all((folder / f"{part}.safetensors").exists() for part in ("train", *DOMAINS)):
            return
        recipe, sizes = self.recipe, self.recipe.text
        tokenizer, length = load_tokenizer(self.directory), sizes.window_tokens
        documents = shuffled(load_documents(recipe.data), recipe.seed)
        if len(documents) < 2:
            raise BadInput(f"data {recipe.data!r} is one document; at least two are needed, to hold one out")
        # A sample speaks for many documents when it takes a little of each.
        most = 2 * length
        held = _documents_to_hold_out([len(document.text) for document in documents], sizes.heldout_tokens, most)
        training = documents[held:]
        unseen = without_leaks(documents[:held], training)
        strangers = without_leaks(shuffled(load_documents(recipe.out_of_domain_source), recipe.seed), documents)
        packings = {
            "train": pack(training, tokenizer, length, max(1, sizes.train_tokens // length)),
            "heldout": pack(unseen, tokenizer, length, max(1, sizes.heldout_tokens // length), most),
            "out-of-domain": pack(strangers, tokenizer, length, max(1, sizes.out_of_domain_tokens // length), most),
        }
        for part, packed in packings.items():
            packed.save(folder / f"{part}.safetensors")
            self.progress.say(f"{part}: {packed.token_count:,} tokens in {packed.windows} windows")

    def signals(self) -> None:
        """The teacher's final hidden states on all three texts."""
        from flashstill.distill.signals import build_hidden

        for part in ("train", *DOMAINS):
            needs_training = part == "train" and not self._all_students_done()
            if needs_training or (part != "train" and not self.stage_file("evaluate").exists()):
                build_hidden(
                    self.model,
                    self.provenance["teacher_fingerprint"],
                    self.packed(part),
                    self.out / "signals" / part,
                    self.progress,
                    f"teacher on {part} text",
                )

    def search(self) -> None:
        """Which blocks to drop, measured on training text."""
        import numpy as np
        import torch

        from flashstill.distill.students import greedy_drops, order_by_influence

        path = self.out / "search.json"
        if path.exists():
            return
        wanted = self.recipe.search
        tokens = torch.from_numpy(self.packed("train").tokens[: wanted.windows, :-1].astype(np.int64))
        depth = self.architecture("teacher").depth
        drops = depth - min(student.keep_layers for student in self.recipe.students)
        if wanted.method == "greedy":
            dropped = greedy_drops(self.model, tokens, drops, wanted.candidates, self.progress)
        else:
            dropped = order_by_influence(self.model, tokens)[:drops]
        write_text(path, json.dumps({"depth": depth, "method": wanted.method, "drops": dropped}))

    def distil(self) -> None:
        """Train every student on the teacher's signals, and its control on the text itself."""
        path = self.stage_file("distil")
        if path.exists():
            return
        records: list[Record] = [self._model_record("teacher", "teacher", "teacher", 0, 0.0, self.directory)]
        for student in self.recipe.students:
            tokens, seconds = self._train(student, soft=True)
            records.append(
                self._model_record(
                    student.name, "student", student.name, tokens, seconds, self.student_directory(student.name)
                )
            )
            records.append(self._model_record(f"{student.name}-untrained", "untrained", student.name, 0, 0.0, None))
            if self.recipe.distil.control:
                control = f"{student.name}-control"
                tokens, seconds = self._train(student, soft=False)
                records.append(
                    self._model_record(
                        control, "control", student.name, tokens, seconds, self.student_directory(control)
                    )
                )
        write_records(path, records)

    def _all_students_done(self) -> bool:
        names = [student.name for student in self.recipe.students]
        names += [f"{name}-control" for name in names if self.recipe.distil.control]
        return all(self.student_directory(name).is_dir() for name in names)

    def _model_record(
        self, name: str, role: str, of: str, tokens: int, seconds: float, directory: Path | None
    ) -> ModelRecord:
        shape = self.architecture(of)
        relative = (
            directory.relative_to(self.out).as_posix() if directory and directory.is_relative_to(self.out) else ""
        )
        return ModelRecord(
            model=name,
            role=role,
            of=of,
            parameters=shape.parameters,
            layers=shape.depth,
            training_tokens=tokens,
            training_s=seconds,
            path=relative,
        )

    def _train(self, student: StudentRecipe, soft: bool) -> tuple[int, float]:
        """Train one student or control unless it is there; returns its training tokens and seconds."""
        from flashstill.distill import checkpoints, trainer
        from flashstill.distill.models import keep_layers, load_tokenizer, parts, save_model

        name = student.name if soft else f"{student.name}-control"
        folder = self.out / "training" / name
        packed, wanted = self.packed("train"), self.recipe.distil
        recipe = trainer.TrainRecipe(
            tokens=self.recipe.tokens_of(student),
            windows_per_step=wanted.windows_per_step,
            learning_rate=wanted.learning_rate,
            warmup_fraction=wanted.warmup_fraction,
            final_fraction=wanted.final_fraction,
            weight_decay=wanted.weight_decay,
            clip_norm=wanted.clip_norm,
            temperature=wanted.temperature,
            checkpoint_every_steps=wanted.checkpoint_every_steps,
            seed=self.recipe.seed,
        )
        if not self.student_directory(name).is_dir():
            model = keep_layers(self.model, self.kept(student))
            if soft:
                signals, head = self.signals_of("train"), parts(self.model).head.detach()
                objective = trainer.soft_objective(packed, signals, head, wanted.temperature)
            else:
                objective = trainer.hard_objective(packed)
            trainer.train(
                model, objective, packed, recipe, folder, self.progress, f"distil {name}" if soft else f"train {name}"
            )
            save_model(model, load_tokenizer(self.directory), self.student_directory(name))
        checkpoints.clear(folder)
        metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        tokens = recipe.steps(packed.length) * recipe.windows_per_step * packed.length
        return tokens, sum(row["step_s"] for row in metrics)

    def evaluate(self) -> None:
        """Every model on held-out and out-of-domain text."""
        from flashstill.distill.models import keep_layers, load_model, parts
        from flashstill.evaluate import score_tokens, summarise

        path = self.stage_file("evaluate")
        if path.exists():
            return
        models = [record for record in self.records() if isinstance(record, ModelRecord)]
        texts = {domain: (self.packed(domain), self.signals_of(domain)) for domain in DOMAINS}
        kept = {student.name: self.kept(student) for student in self.recipe.students}
        head = parts(self.model).head.detach()
        loaded: dict[str, Any] = {}
        for entry in models:
            if entry.role == "teacher":
                loaded[entry.model] = self.model
            elif entry.role == "untrained":
                loaded[entry.model] = keep_layers(self.model, kept[entry.of])
            else:
                loaded[entry.model] = load_model(self.out / entry.path)
        records: list[Record] = []
        total = len(models) * sum(packed.token_count for packed, _ in texts.values())
        with self.progress.task("evaluate", total, "tokens") as advance:
            for domain, (packed, signals) in texts.items():
                for name, scores in score_tokens(loaded, packed, signals, head, advance).items():
                    records += summarise(scores, name, domain, self.recipe.seed)
        write_records(path, records)

    def measure(self) -> None:
        """This machine as fact rows, and the speed of teacher and students on it."""
        from flashstill.distill.models import load_model
        from flashstill.facts.table import to_csv
        from flashstill.measure import measure_machine, measure_models

        path = self.stage_file("measure")
        rows = self.out / "facts" / "this-machine.csv"
        if not rows.exists():
            write_text(rows, to_csv(measure_machine(load(), self.progress)))
        if path.exists():
            return
        wanted = self.recipe.measure
        models = {"teacher": self.model}
        for student in self.recipe.students:
            models[student.name] = load_model(self.student_directory(student.name))
        write_records(path, measure_models(models, wanted.batches, wanted.context, wanted.repeats, self.progress))

    def cost(self) -> None:
        """What a token costs on every chip of the recipe, and what this machine should have needed."""
        from flashstill.measure.sweep import MACHINE
        from flashstill.plan import price_grid

        path = self.stage_file("cost")
        if path.exists():
            return
        facts = load([self.out / "facts"])
        wanted, timed = self.recipe.cost, self.recipe.measure
        shapes = [self.architecture(name) for name in ("teacher", *(student.name for student in self.recipe.students))]
        context = min(wanted.context, min(shape.context for shape in shapes))
        records: list[Record] = []
        records += price_grid(facts, shapes, wanted.chips, wanted.batches, context, wanted.precision)
        precision = next(record.precision for record in self.records() if isinstance(record, MeasuredRecord))
        records += price_grid(facts, shapes, [MACHINE], timed.batches, timed.context, precision)
        write_records(path, records)

    def report(self) -> None:
        """records.jsonl, report.html; signals are dropped once nothing needs them."""
        from flashstill.report import write_report

        shutil.rmtree(self.out / "signals", ignore_errors=True)
        write_records(self.out / "records.jsonl", self.records())
        write_report(self.out)


def _documents_to_hold_out(characters: list[int], tokens: int, most_tokens: int) -> int:
    """How many leading documents to hold out for `tokens` of them, at most 30 % of the text and never all.

    A token is taken as 4 characters; half as many again are held, since leaking paragraphs will leave.
    """
    wanted, limit = 1.5 * 4.0 * tokens, 0.3 * sum(characters)
    count, useful, whole = 0, 0.0, 0.0
    while count < len(characters) - 1 and useful < wanted and (count == 0 or whole + characters[count] <= limit):
        useful += min(characters[count], 4.0 * most_tokens)
        whole += characters[count]
        count += 1
    return count


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "transformers", "numpy", "safetensors", "tokenizers", "plotly")
    return {"flashstill": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}
