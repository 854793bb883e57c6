"""The search: every candidate priced, the cheapest first; then once more between the sizes around the best.

    total = usd_train(N, experts) D  +  usd_teacher D  +  usd_serve(N, experts, format, chip) V
    D = tokens of the law with which the candidate reaches the target;  V = output tokens served

Dollars of training a token and of serving a token come from plan.train and plan.search for each architecture; tokens
are one array.  Candidates whose training would cost over FAR_ABOVE times the best total on a perfect machine are not
priced further.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flashstill.errors import InfeasiblePlan
from flashstill.facts import Facts
from flashstill.plan.space import NO_PRECISION, Configuration
from flashstill.progress import Progress, Silent
from flashstill.targets.answer import TargetPlan
from flashstill.targets.candidates import (
    FAR,
    NO_SHAPE,
    NO_TOKENS,
    Shape,
    Variant,
    check_work,
    reachable,
    shapes,
    tokens_of,
    variants,
    within,
)  # fmt: skip
from flashstill.targets.costs import Training, peak_usd, prices, reading_usd_per_token, serving, training
from flashstill.targets.doubt import doubt
from flashstill.targets.priced import Priced
from flashstill.targets.question import TargetQuestion
from flashstill.targets.target import TrainedModel
from flashstill.targets.told import different, notes_of, reference_of
from flashstill.targets.told import student as shown_student
from flashstill.units import TOKENS_PER_MILLION

SIZES, REFINED = 14, 5
"""sizes of the first round for each number of experts, and sizes between the best and each of its neighbours"""
FAR_ABOVE = 3.0
"""times the best total beyond which a training on a perfect machine ends the pricing of a candidate"""
RUNNERS_UP = 5
_WITHOUT_TOKENS = (NO_SHAPE, NO_PRECISION)
"""reasons of what never became a candidate with tokens"""


@dataclass
class _Search:
    """What has been priced so far."""

    facts: Facts
    question: TargetQuestion
    loss: float
    teacher: float | None
    reading: float
    variants: list[Variant]
    reasons: Counter[str]
    priced: list[Priced] = field(default_factory=list)
    evaluated: int = 0

    @property
    def best(self) -> Priced | None:
        return min(self.priced, key=lambda each: each.usd, default=None)

    def price(self, chosen: Sequence[Shape], progress: Progress, name: str) -> None:
        """Price every shape in every variant."""
        pairs = [(shape, variant) for shape in chosen for variant in self.variants]
        if not pairs:
            return
        self.evaluated += len(pairs)
        needed = tokens_of(self.question, self.question.law, self.loss, self.teacher, pairs)
        by_shape: dict[Shape, list[tuple[Variant, float]]] = {}
        for (shape, variant), tokens in zip(pairs, needed.tolist(), strict=True):
            by_shape.setdefault(shape, []).append((variant, tokens))
        with progress.task(name, len(by_shape), "sizes") as advance:
            for shape, rows in sorted(by_shape.items(), key=lambda item: self._bound(item[0], item[1])):
                self._price_shape(shape, rows)
                best = self.best
                advance(1, "" if best is None else f"{best.shape.model.name}: ${best.usd:,.0f}")

    def _bound(self, shape: Shape, rows: list[tuple[Variant, float]]) -> float:
        """Least dollars of training; infinite where no variant reaches the loss."""
        fewest = min(tokens for _, tokens in rows)
        return peak_usd(self.facts, shape.model, fewest, self.question) if math.isfinite(fewest) else math.inf

    def _price_shape(self, shape: Shape, rows: list[tuple[Variant, float]]) -> None:
        possible = []
        for variant, tokens in rows:
            if not math.isfinite(tokens):
                self.reasons[NO_TOKENS] += 1
            elif not within(self.question.law, shape, tokens):
                self.reasons[FAR] += 1
            else:
                possible.append((variant, tokens))
        if not possible:
            return
        best = self.best
        if best is not None and self._bound(shape, possible) > FAR_ABOVE * best.usd:
            self.reasons["its training alone costs several times the best"] += len(possible)
            return
        most = max(tokens for _, tokens in possible)
        try:
            run = training(self.facts, shape.model, most, self.question)
        except InfeasiblePlan as error:
            self.reasons[f"training: {main_reason(error)}"] += len(possible)
            return
        for variant, tokens in possible:
            try:
                point = serving(self.facts, shape.model, variant, self.question)
            except InfeasiblePlan as error:
                self.reasons[f"serving on {variant.chip}: {main_reason(error)}"] += 1
                continue
            self.priced.append(_priced(shape, variant, tokens, run, most, self.reading, point, self.question))


def main_reason(error: InfeasiblePlan) -> str:
    """The reason that was counted most often."""
    return max(error.reasons, key=lambda reason: error.reasons[reason], default=str(error))


def _priced(
    shape: Shape,
    variant: Variant,
    tokens: float,
    run: Training,
    run_tokens: float,
    reading: float,
    point: Configuration,
    question: TargetQuestion,
) -> Priced:
    assert point.usd_per_million_output_tokens is not None
    return Priced(
        shape=shape, variant=variant, tokens=tokens, training=run, training_usd_per_token=run.usd_per_token(run_tokens),
        reading_usd_per_token=reading, point=point,
        serving_usd=point.usd_per_million_output_tokens / TOKENS_PER_MILLION * question.tokens_served,
        days=run.days * tokens / run_tokens,
    )  # fmt: skip


def plan_target(facts: Facts, question: TargetQuestion, progress: Progress | None = None) -> TargetPlan:
    """The cheapest student that reaches the target, runners-up, and what the law's interval does to the choice.

    Raises BadInput for a chip without a price, and InfeasiblePlan with the reasons counted if the target cannot be
    reached: below the law's least loss, not below the teacher's, or with no candidate that fits.
    """
    shown = progress or Silent()
    bases = prices(facts, question)
    law = question.law
    target = question.target
    loss = target.loss(law).item() if isinstance(target, TrainedModel) else target
    teacher = _teacher_loss(question, loss)
    reasons: Counter[str] = Counter()
    formats = variants(facts, question, reasons)
    check_work(question, SIZES, formats)
    ranges = reachable(question, loss, teacher)
    work = _Search(
        facts=facts, question=question, loss=loss, teacher=teacher, reading=reading_usd_per_token(facts, question),
        variants=formats, reasons=reasons,
    )  # fmt: skip
    first = [
        shape
        for experts, (low, high) in ranges.items()
        for shape in shapes(question, np.geomspace(low, high, SIZES).tolist(), experts, reasons)
    ]
    work.price(first, shown, "sizes, experts, formats and chips")
    if work.best is None:
        raise InfeasiblePlan(
            f"no model like {question.like.name} reaches a loss of {loss:.4g} within these bounds", dict(reasons)
        )
    near = _between(work.best, [each.shape for each in work.priced])
    known = {shape.model for shape in first}
    new = [shape for shape in shapes(question, near, work.best.shape.experts, reasons) if shape.model not in known]
    work.price(new, shown, "sizes around the best")
    return _answer(work, ranges, bases)


def _between(best: Priced, tried: Sequence[Shape]) -> list[float]:
    """Sizes between the best one and its neighbours with as many experts."""
    sizes = sorted({shape.size for shape in tried if shape.experts == best.shape.experts})
    place = sizes.index(best.shape.size)
    low, high = sizes[max(0, place - 1)], sizes[min(len(sizes) - 1, place + 1)]
    ends = [(low, best.shape.size), (best.shape.size, high)]
    return [float(size) for a, b in ends if a < b for size in np.geomspace(a, b, REFINED + 2)[1:-1]]


def _teacher_loss(question: TargetQuestion, loss: float) -> float | None:
    """The teacher's loss; InfeasiblePlan if the target is not above it, as the loss of its students stays."""
    if question.teacher is None:
        return None
    known = question.law.support.teacher_loss
    stated = question.teacher_loss if question.teacher_loss is not None else known
    teacher = stated if stated is not None else question.teacher.loss(question.law).item()
    if loss <= teacher:
        raise InfeasiblePlan(
            f"the target is a loss of {loss:.4g}, and the teacher {question.teacher.name} has {teacher:.4g} itself: its"
            " students stay above; take a better teacher, or train on the text alone",
            {"the target is beyond the teacher": 1},
        )
    return teacher


def _answer(work: _Search, ranges: dict[float | None, tuple[float, float]], bases: dict[str, str]) -> TargetPlan:
    question, best = work.question, work.best
    assert best is not None
    law, target = question.law, question.target
    in_order = sorted(work.priced, key=lambda each: each.usd)
    around = doubt(question, work.loss, work.teacher, work.priced, best)
    return TargetPlan(
        target=f"as {target.name}" if isinstance(target, TrainedModel) else f"a loss of {target:g}",
        loss=work.loss,
        teacher=None if question.teacher is None else question.teacher.name,
        teacher_loss=work.teacher,
        law=law.name,
        law_kind=law.kind,
        law_source=law.source,
        scale=law.scale,
        tokens_served=question.tokens_served,
        best=shown_student(best),
        runners_up=tuple(shown_student(each) for each in different(in_order)[1 : RUNNERS_UP + 1]),
        reference=reference_of(work.facts, question, work.variants),
        doubt=around,
        evaluated=work.evaluated + sum(work.reasons[reason] for reason in _WITHOUT_TOKENS),
        priced=len(work.priced),
        reasons=dict(work.reasons),
        prices=bases,
        notes=notes_of(question, best, work.teacher, ranges[best.shape.experts]),
    )
