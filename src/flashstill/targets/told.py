"""What the answer tells beside the best student: candidates as they are shown, the model of the target, and remarks."""

from __future__ import annotations

from collections.abc import Sequence

from flashstill.arch import Architecture
from flashstill.errors import InfeasiblePlan
from flashstill.facts import Facts
from flashstill.targets.answer import Reference, Student
from flashstill.targets.candidates import Variant
from flashstill.targets.costs import serving, training
from flashstill.targets.priced import Priced
from flashstill.targets.question import TargetQuestion
from flashstill.targets.target import TrainedModel
from flashstill.units import TOKENS_PER_MILLION

AT_THE_END = 1.1
"""ratio to the smallest or largest size searched within which the best one is said to lie there"""


def student(each: Priced) -> Student:
    """A priced candidate as it is shown."""
    model, point = each.shape.model, each.point
    return Student(
        model=model.name, parameters=model.parameters, active_parameters=model.active_parameters, width=model.width,
        depth=model.depth, counted_parameters=each.shape.size, experts=each.expansion,
        training_tokens=each.tokens, tokens_per_parameter=each.tokens / model.active_parameters,
        train_chip=each.training.chip, train_chips=each.training.chips, train_layout=each.training.layout,
        train_days=each.days, train_mfu=each.training.mfu, train_batch_tokens=each.training.batch_tokens,
        chip=point.chip, chips=point.chips, tp=point.tp, pp=point.pp, ep=point.ep, dp=point.dp, batch=point.batch,
        precision=point.precision, kv_precision=point.kv_precision, weights_in=point.weights_in,
        ttft_s=point.ttft_s, tpot_s=point.tpot_s, usd_per_million_output_tokens=point.usd_per_million_output_tokens,
        training_usd=each.training_usd, teacher_usd=each.reading_usd, serving_usd=each.serving_usd, usd=each.usd,
    )  # fmt: skip


def different(in_order: Sequence[Priced]) -> list[Priced]:
    """The cheapest variant of each architecture."""
    cheapest: dict[Architecture, Priced] = {}
    for each in in_order:
        cheapest.setdefault(each.shape.model, each)
    return list(cheapest.values())


def reference_of(facts: Facts, question: TargetQuestion, variants: Sequence[Variant]) -> Reference | None:
    """What the model named by the target would cost itself, trained on its tokens without a teacher and served."""
    target = question.target
    if not isinstance(target, TrainedModel):
        return None
    tokens = target.tokens_under(question.law)
    costs = []
    try:
        run = training(facts, target.model, tokens, question)
    except InfeasiblePlan:
        return Reference(model=target.name, training_tokens=tokens, training_usd=None, serving_usd=None)
    for variant in variants:
        try:
            point = serving(facts, target.model, variant, question)
        except InfeasiblePlan:
            continue
        assert point.usd_per_million_output_tokens is not None
        costs.append(point.usd_per_million_output_tokens / TOKENS_PER_MILLION * question.tokens_served)
    return Reference(
        model=target.name, training_tokens=tokens, training_usd=run.usd, serving_usd=min(costs, default=None)
    )


def notes_of(
    question: TargetQuestion, best: Priced, teacher_loss: float | None, sizes: tuple[float, float]
) -> tuple[str, ...]:
    """Assumptions, and where the answer lies beyond what the law saw. sizes: the smallest and largest searched."""
    law = question.law
    notes: list[str] = []
    for trained in (question.target, question.teacher):
        if isinstance(trained, TrainedModel):
            notes += trained.notes(law)
    conditions = {**best.variant.conditions, "teacher_loss": teacher_loss, "unique_tokens": question.unique_tokens}
    if best.expansion > 1:
        conditions["experts"] = best.expansion
    notes += law.remarks(best.shape.size, best.tokens, **conditions)
    low, high = sizes
    if best.shape.size <= AT_THE_END * low:
        notes.append(
            f"the best size is within {AT_THE_END - 1:.0%} of the smallest that reaches the target on any number of"
            " tokens: a small error of the law decides whether it does"
        )
    if best.shape.size >= high / AT_THE_END:
        notes.append("the best size lies at the upper end of the sizes that were searched")
    if question.teacher is not None:
        notes.append("the teacher's own training is not in the dollars: it exists, or its students share it")
    notes.append(f"students are shaped like {question.like.name}: width and depth grow together, head width stays")
    return tuple(dict.fromkeys(notes))
