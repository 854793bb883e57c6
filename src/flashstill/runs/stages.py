"""The stages of a family's run: each writes its result to disk, and returns immediately if it exists.

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
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.files import write_text
from flashstill.recipes import StudentRecipe
from flashstill.records import MeasuredRecord, Record, write_records
from flashstill.runs.cards import leave_cards
from flashstill.runs.evaluating import held_texts
from flashstill.runs.family import Family
from flashstill.runs.model_records import teacher_record, trained_record, untrained_record
from flashstill.runs.sharing import least_layers
from flashstill.runs.students import rounded_plainly
from flashstill.runs.tasks import check_tasks, forget_unfinished, task_records
from flashstill.runs.tokenizers import tokenizers_differ
from flashstill.runs.unchanged import check_students, check_unchanged


def teacher(family: Family) -> None:
    """Find or convert the teachers; check every student against them; write provenance.json."""
    from flashstill.distill.data.text import corpus_label
    from flashstill.distill.models import fingerprint, load_tokenizer, tokenizer_fingerprint

    path = family.out / "provenance.json"
    if path.exists():
        check_unchanged(family)
        return
    load_tokenizer(family.directory)
    own = tokenizer_fingerprint(family.directory)
    for student in family.recipe.students:
        difference = tokenizers_differ(family.directory, family.located(student)[0][0])
        if difference:
            raise BadInput(
                f"student {student.name} has teachers of another vocabulary than {family.recipe.teacher}: {difference};"
                " all of a family share one tokenizer"
            )
    _check_contexts(family)
    check_tasks(family)
    recipe = family.recipe
    provenance = {
        "command": family.command,
        "teacher_fingerprint": fingerprint(family.directory),
        "tokenizer_fingerprint": own,
        "corpus": corpus_label() if recipe.data.startswith("cpython-") else recipe.data,
        "versions": _versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "begun": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }
    check_students(family)
    write_text(path, json.dumps(provenance, indent=1))


def _check_contexts(family: Family) -> None:
    """Raise BadInput before any work if a text exceeds the teacher's context length."""
    recipe, most = family.recipe, family.architecture(None).context
    asked = {
        "text.window_tokens": recipe.text.window_tokens,
        "measure.context": recipe.measure.context,
        "cost.context": recipe.cost.context,
    }
    for key, tokens in asked.items():
        if tokens > most:
            raise BadInput(f"{key} is {tokens}, but the teacher was made for {most} tokens")


def text(family: Family) -> None:
    """Load, deduplicate, split by document, and pack the text."""
    for student in family.recipe.students:  # the first makes it; each checks that its teachers read it alike
        family.distillation(student).text()


def signals(family: Family) -> None:
    """Teacher-generated text and signals on the training text, and the teacher's signals on the evaluation texts."""
    if not family.stage_file("distil").exists():
        for student in family.recipe.students:
            distillation = family.distillation(student)
            distillation.teacher_text((0, 1))
            distillation.signals((0, 1))
    if not family.stage_file("evaluate").exists():
        held_texts(family.judge())


def search(family: Family) -> None:
    """Initial weights of every student: blocks, neurons or experts are chosen on training text."""
    if not family.stage_file("evaluate").exists():
        for student in family.recipe.students:
            family.distillation(student).first_weights(least_layers(family.asked, family.as_asked(student)))


def distil(family: Family) -> None:
    """Train every student by its recipe, and its control on the text alone."""
    path = family.stage_file("distil")
    if path.exists():
        return
    records: list[Record] = [teacher_record(family)]
    for student in family.recipe.students:
        decided = family.pace.student(student) if family.pace else student
        distillation, control = family.distillation(decided), family.control(decided)
        distillation.train()
        records += [trained_record(family, decided, distillation), untrained_record(family, decided)]
        if control is not None:
            control.train()
            records.append(trained_record(family, decided, control))
    write_records(path, records)


def evaluate(family: Family) -> None:
    """Evaluate every model on held-out and out-of-domain text, loading the models of one student at a time, and then on
    the tasks of the recipe."""
    from flashstill.evaluate import score_tokens, summarise

    path = family.stage_file("evaluate")
    if path.exists():
        return
    if family.pace:
        family.pace.evaluation()
    texts = {
        domain: (family.judged(packed), signals) for domain, (packed, signals) in held_texts(family.judge()).items()
    }
    records: list[Record] = []
    members = sum(3 if family.control(student) else 2 for student in family.recipe.students)
    total = (1 + members) * sum(packed.token_count for packed, _ in texts.values())
    with family.progress.task("evaluate", total, "tokens") as advance:
        for student in (None, *family.recipe.students):
            # the teacher is scored from its stored signals, not run again
            models = {"teacher": None} if student is None else _models_of(family, student)
            for domain, (packed, signals) in texts.items():
                for name, scores in score_tokens(models, packed, signals, advance).items():
                    records += summarise(scores, name, domain, family.recipe.seed)
    records += task_records(family)
    write_records(path, records)
    forget_unfinished(family)


def _models_of(family: Family, student: StudentRecipe) -> dict[str, Any]:
    """A student, its initial weights and its control, loaded."""
    from flashstill.distill.models import load_model

    distillation, control, dtype = family.distillation(student), family.control(student), family.arithmetic.dtype
    untrained = load_model(distillation.workdir.initial, dtype)
    rounded_plainly(distillation.recipe, untrained)
    loaded = {student.name: load_model(distillation.workdir.student, dtype), f"{student.name}-untrained": untrained}
    if control is not None:
        loaded[control.recipe.name] = load_model(control.workdir.student, dtype)
    return loaded


def measure(family: Family) -> None:
    """Measure this machine as fact rows, and the speed of teacher and students."""
    from flashstill.distill.models import load_model
    from flashstill.facts.csv_files import to_csv
    from flashstill.measure import measure_machine, measure_models

    path = family.stage_file("measure")
    seconds = family.pace.measuring() if family.pace and not path.exists() else math.inf
    rows = family.out / "facts" / "this-machine.csv"
    if not rows.exists():
        write_text(rows, to_csv(measure_machine(load(), family.progress, family.arithmetic)))
    if path.exists():
        return
    asked, dtype = family.recipe.measure, family.arithmetic.dtype
    models = {"teacher": family.model}
    models |= {each.name: load_model(family.workdir(each).student, dtype) for each in family.recipe.students}
    records = measure_models(models, asked.batches, asked.context, asked.repeats, family.progress, seconds)
    write_records(path, records)


def cost(family: Family) -> None:
    """Predict costs per token on every chip of the recipe, and predict this machine's times.

    A quantised student is priced in its own format; on this machine it was timed in the arithmetic of all models.
    """
    from flashstill.measure.sweep import MACHINE
    from flashstill.plan.grid import price_grid

    path = family.stage_file("cost")
    if path.exists():
        return
    facts = load([family.out / "facts"])
    asked, timed, models = family.recipe.cost, family.recipe.measure, (None, *family.recipe.students)
    served = [family.architecture(each, as_served=True) for each in models]
    records: list[Record] = []
    records += price_grid(facts, served, asked.chips, asked.batches, asked.context, asked.precision, asked.price)
    precision = next(record.precision for record in family.records() if isinstance(record, MeasuredRecord))
    run_here = [family.architecture(each) for each in models]
    records += price_grid(facts, run_here, [MACHINE], timed.batches, timed.context, precision)
    write_records(path, records)


def report(family: Family) -> None:
    """Write records.jsonl, model cards and report.html; delete files that only training and evaluation need."""
    from flashstill.report.page import write_report

    kept = any(student.adapter.rank and student.kind != "copy" for student in family.recipe.students)
    for folder in ("signals", "text") if kept else ("signals", "starts", "text"):  # adapters belong to a start
        shutil.rmtree(family.out / folder, ignore_errors=True)
    write_records(family.out / "records.jsonl", family.records())
    leave_cards(family.out, family.progress)
    write_report(family.out)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "transformers", "numpy", "safetensors", "tokenizers")
    return {"flashstill": __version__, "python": platform.python_version(), **{name: version(name) for name in names}}


STAGES: dict[str, Callable[[Family], None]] = {
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
