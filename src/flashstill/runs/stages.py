"""The stages of a family's run: each leaves its result on the disk, and returns at once when it is there.

teacher -> text -> signals -> search -> distil -> evaluate -> measure -> cost -> report
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Callable
from typing import Any

from flashstill import __version__
from flashstill.arch import Architecture
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.files import write_text
from flashstill.recipes import FamilyRecipe
from flashstill.records import MeasuredRecord, ModelRecord, Record, write_records
from flashstill.runs.limits import check_candidates
from flashstill.runs.training import model_record, train_student
from flashstill.runs.workdir import DOMAINS, Workspace


def teacher(work: Workspace) -> None:
    """Find or convert the teacher; write down what everything else depends on."""
    from flashstill.distill.data.text import corpus_label
    from flashstill.distill.models import fingerprint, load_tokenizer, tokenizer_fingerprint

    path = work.out / "provenance.json"
    current = fingerprint(work.directory)
    if path.exists():
        if work.provenance["teacher_fingerprint"] != current:
            raise BadInput(
                f"the teacher {work.recipe.teacher} has changed since {work.out} was begun; give another --out"
            )
        return
    load_tokenizer(work.directory)
    _check_against(work.architecture("teacher"), work.recipe)
    provenance = {
        "command": work.command,
        "teacher_fingerprint": current,
        "tokenizer_fingerprint": tokenizer_fingerprint(work.directory),
        "corpus": corpus_label() if work.recipe.data.startswith("cpython-") else work.recipe.data,
        "versions": _versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "begun": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }
    write_text(path, json.dumps(provenance, indent=1))


def _check_against(teacher: Architecture, recipe: FamilyRecipe) -> None:
    """Refuse a recipe that asks for more layers or longer texts than the teacher has, before the work begins."""
    for student in recipe.students:
        if student.keep_layers > teacher.depth:
            raise BadInput(
                f"student {student.name} keeps {student.keep_layers} layers, but the teacher has {teacher.depth}"
            )
    check_candidates(recipe.search, teacher.depth)
    asked = {
        "text.window_tokens": recipe.text.window_tokens,
        "measure.context": recipe.measure.context,
        "cost.context": recipe.cost.context,
    }
    for key, tokens in asked.items():
        if tokens > teacher.context:
            raise BadInput(f"{key} is {tokens}, but the teacher was made for {teacher.context} tokens")


def text(work: Workspace) -> None:
    """Load, deduplicate, split by document, and pack the text."""
    from flashstill.distill.data.splits import packed_splits
    from flashstill.distill.models import load_tokenizer

    folder = work.out / "data"
    if all((folder / f"{part}.safetensors").exists() for part in ("train", *DOMAINS)):
        return
    recipe, sizes = work.recipe, work.recipe.text
    packings = packed_splits(
        recipe.data,
        recipe.out_of_domain_source,
        load_tokenizer(work.directory),
        sizes.window_tokens,
        sizes.train_tokens,
        sizes.heldout_tokens,
        sizes.out_of_domain_tokens,
        recipe.seed,
    )
    for part, packed in packings.items():
        packed.save(folder / f"{part}.safetensors")
        work.progress.say(f"{part}: {packed.token_count:,} tokens in {packed.windows} windows")


def signals(work: Workspace) -> None:
    """The teacher's final hidden states on all three texts."""
    from flashstill.distill.signals import Hidden, build

    for part in ("train", *DOMAINS):
        needs_training = part == "train" and not work.all_students_done()
        if needs_training or (part != "train" and not work.stage_file("evaluate").exists()):
            build(
                work.model,
                Hidden(),
                work.signal_key(part),
                work.packed(part),
                work.out / "signals" / part,
                work.progress,
                f"teacher on {part} text",
            )


def search(work: Workspace) -> None:
    """Which blocks to drop, measured on training text."""
    import numpy as np
    import torch

    from flashstill.distill.students import greedy_drops, order_by_influence

    path = work.out / "search.json"
    if path.exists():
        return
    wanted = work.recipe.search
    packed = work.packed("train")
    spread = np.linspace(0, packed.windows - 1, min(wanted.windows, packed.windows)).round().astype(np.int64)
    tokens = torch.from_numpy(packed.tokens[spread, :-1].astype(np.int64))
    depth = work.architecture("teacher").depth
    drops = depth - min(student.keep_layers for student in work.recipe.students)
    if wanted.method == "greedy":
        dropped = greedy_drops(work.model, tokens, drops, wanted.candidates, work.progress)
    else:
        dropped = order_by_influence(work.model, tokens)[:drops]
    write_text(path, json.dumps({"depth": depth, "method": wanted.method, "drops": dropped}))


def distil(work: Workspace) -> None:
    """Train every student on the teacher's signals, and its control on the text itself."""
    path = work.stage_file("distil")
    if path.exists():
        return
    records: list[Record] = [model_record(work, "teacher", "teacher", "teacher", 0, 0.0, work.directory)]
    for wanted in work.recipe.students:
        student = work.pace.student(wanted) if work.pace else wanted
        tokens, seconds, steps = train_student(work, student, soft=True)
        records.append(
            model_record(
                work,
                student.name,
                "student",
                student.name,
                tokens,
                seconds,
                work.student_directory(student.name),
                steps,
            )
        )
        records.append(model_record(work, f"{student.name}-untrained", "untrained", student.name, 0, 0.0, None))
        if work.recipe.distil.control:
            control = f"{student.name}-control"
            tokens, seconds, steps = train_student(work, student, soft=False)
            records.append(
                model_record(
                    work, control, "control", student.name, tokens, seconds, work.student_directory(control), steps
                )
            )
    write_records(path, records)


def evaluate(work: Workspace) -> None:
    """Every model on held-out and out-of-domain text."""
    from flashstill.distill.models import keep_layers, load_model
    from flashstill.evaluate import score_tokens, summarise

    path = work.stage_file("evaluate")
    if path.exists():
        return
    if work.pace:
        work.pace.evaluation()
    models = [record for record in work.records() if isinstance(record, ModelRecord)]
    texts = {domain: (work.judged_text(domain), work.signals_of(domain)) for domain in DOMAINS}
    kept = {student.name: work.kept(student) for student in work.recipe.students}
    loaded: dict[str, Any] = {}
    for entry in models:
        if entry.role == "teacher":
            loaded[entry.model] = None  # it is judged by its signals, and not run again
        elif entry.role == "untrained":
            loaded[entry.model] = keep_layers(work.model, kept[entry.of])
        else:
            loaded[entry.model] = load_model(work.out / entry.path, work.arithmetic.dtype)
    records: list[Record] = []
    total = len(models) * sum(packed.token_count for packed, _ in texts.values())
    with work.progress.task("evaluate", total, "tokens") as advance:
        for domain, (packed, signals) in texts.items():
            for name, scores in score_tokens(loaded, packed, signals, advance).items():
                records += summarise(scores, name, domain, work.recipe.seed)
    write_records(path, records)


def measure(work: Workspace) -> None:
    """This machine as fact rows, and the speed of teacher and students on it."""
    from flashstill.distill.models import load_model
    from flashstill.facts.table import to_csv
    from flashstill.measure import measure_machine, measure_models

    path = work.stage_file("measure")
    seconds = work.pace.measuring() if work.pace and not path.exists() else math.inf
    rows = work.out / "facts" / "this-machine.csv"
    if not rows.exists():
        write_text(rows, to_csv(measure_machine(load(), work.progress, work.arithmetic)))
    if path.exists():
        return
    wanted = work.recipe.measure
    models = {"teacher": work.model}
    for student in work.recipe.students:
        models[student.name] = load_model(work.student_directory(student.name), work.arithmetic.dtype)
    write_records(path, measure_models(models, wanted.batches, wanted.context, wanted.repeats, work.progress, seconds))


def cost(work: Workspace) -> None:
    """What a token costs on every chip of the recipe, and what this machine should have needed."""
    from flashstill.measure.sweep import MACHINE
    from flashstill.plan.grid import price_grid

    path = work.stage_file("cost")
    if path.exists():
        return
    facts = load([work.out / "facts"])
    wanted, timed = work.recipe.cost, work.recipe.measure
    shapes = [work.architecture(name) for name in ("teacher", *(student.name for student in work.recipe.students))]
    records: list[Record] = []
    records += price_grid(facts, shapes, wanted.chips, wanted.batches, wanted.context, wanted.precision, wanted.price)
    precision = next(record.precision for record in work.records() if isinstance(record, MeasuredRecord))
    records += price_grid(facts, shapes, [MACHINE], timed.batches, timed.context, precision)
    write_records(path, records)


def report(work: Workspace) -> None:
    """records.jsonl, report.html; signals are dropped once nothing needs them."""
    from flashstill.report import write_report

    shutil.rmtree(work.out / "signals", ignore_errors=True)
    write_records(work.out / "records.jsonl", work.records())
    write_report(work.out)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "transformers", "numpy", "safetensors", "tokenizers", "plotly")
    return {"flashstill": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}


STAGES: dict[str, Callable[[Workspace], None]] = {
    "teacher": teacher,
    "text": text,
    "signals": signals,
    "search": search,
    "distil": distil,
    "evaluate": evaluate,
    "measure": measure,
    "cost": cost,
    "report": report,
}
