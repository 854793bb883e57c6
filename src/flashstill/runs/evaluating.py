"""The evaluation of one distillation: its teacher, initial weights and student on texts that none was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flashstill.runs.aligned import judge_spans, windows_of
from flashstill.runs.outcome import judge, leave_summary
from flashstill.runs.students import rounded_plainly
from flashstill.runs.workdir import DOMAINS

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.signals import Signals
    from flashstill.runs.engine import Distillation


def evaluate(work: Distillation) -> None:
    """Judge all of them on held-out and out-of-domain text, and leave records and summary."""
    from flashstill.distill.models import load_model

    models = {} if work.recipe.teachers[0].served else {"teacher": work.model(0)}
    places = {"initial": work.workdir.initial, "student": work.workdir.student}
    models |= {name: load_model(place, work.arithmetic.dtype) for name, place in places.items()}
    rounded_plainly(work.recipe, models["initial"])
    if work.recipe.align == "spans":
        records = judge_spans(models, span_texts(work), work.recipe.seed, work.progress)
    else:
        loads = {name: lambda model=model: model for name, model in models.items() if name != "teacher"}
        records = judge(loads, held_texts(work), work.recipe.seed, work.progress)
    leave_summary(work.recipe, work.workdir, models, records, work.arithmetic)


def span_texts(work: Distillation) -> dict[str, Any]:
    """Evaluation texts by domain: the student's packing, the teacher's rows, its signals, aligned and plain."""
    for domain in DOMAINS:
        work.build(0, domain, f"teacher on {domain} text")
    opened = {domain: work.open(0, domain) for domain in DOMAINS}
    return {
        domain: (work.packed(domain), windows_of(work.workdir.data, domain), work.aligned(signals, domain), signals)
        for domain, signals in opened.items()
    }


def held_texts(work: Distillation) -> dict[str, tuple[Packed, Signals]]:
    """Evaluation texts by domain, with the first teacher's signals on them."""
    for domain in DOMAINS:
        work.build(0, domain, f"teacher on {domain} text")
    return {domain: (work.packed(domain), work.open(0, domain)) for domain in DOMAINS}
