"""Candidates for a target: sizes x experts x (chip, format), and the fewest training tokens with which each reaches it.

sizes      from the smallest that reaches the loss on 1,000 times the tokens of the FLOP-cheapest model, up to 4
           times that model's size, evenly in log N: beyond either end both training and serving cost more
tokens     D(N, experts, format) of the law; a format below 16 bits counts as quantisation-aware training in it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.arch.scaling import scaled
from flashstill.cost import precisions_of
from flashstill.errors import BadInput, InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.hardware import BYTES_PER_VALUE, chip_from_facts
from flashstill.plan.deployment import AS_PUBLISHED
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.space import MOST_CONFIGURATIONS, NO_PRECISION
from flashstill.quality import Law
from flashstill.quality.optimum import Life, cheapest
from flashstill.targets.question import TargetQuestion
from flashstill.targets.target import counts_embeddings, mixture, size_of

Values = npt.NDArray[np.float64]
MOST_TOKENS_RATIO, LARGEST_RATIO = 1000.0, 4.0
SIXTEEN = 16.0
MOST_CANDIDATES = 2000
"""shapes in every format on every chip: five minutes, as about ten a second are priced"""
NO_SHAPE = "no model of this shape has the size"
NO_TOKENS = "no number of training tokens reaches the loss"
FAR = "size or tokens beyond what the law answers for"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A chip and the formats of serving on it, and the bits by which the law counts them."""

    chip: str
    precision: str
    kv_precision: str | None
    weight_bits: float
    activation_bits: float
    cache_bits: float

    @property
    def conditions(self) -> dict[str, float]:
        """The conditions of a law: none where everything has 16 bits or more."""
        bits = {name: getattr(self, name) for name in ("weight_bits", "activation_bits", "cache_bits")}
        return {} if min(bits.values()) >= SIXTEEN else bits


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A student's architecture, and its N as the law counts it. experts: as asked for, None for as many as `like`."""

    model: Architecture
    size: float
    experts: float | None


def variants(facts: Facts, question: TargetQuestion, refused: Counter[str]) -> list[Variant]:
    """Every chip with every format of serving; chips that cannot multiply in one are counted."""
    found = []
    for name in question.space.chips:
        chip = chip_from_facts(facts, name)
        for precision in question.space.precisions:
            for kv in question.space.kv_precisions:
                asked = None if precision == AS_PUBLISHED else precision
                formats = precisions_of(_plain(question.like), asked, kv)
                try:
                    multiplied = chip.precision(formats.linear)
                except MissingFact:
                    refused[NO_PRECISION] += 1
                    continue
                found.append(
                    Variant(
                        chip=chip.name, precision=precision, kv_precision=kv,
                        weight_bits=8 * BYTES_PER_VALUE[formats.linear],
                        activation_bits=min(SIXTEEN, 8 * BYTES_PER_VALUE[multiplied]),
                        cache_bits=8 * BYTES_PER_VALUE[formats.kv],
                    )
                )  # fmt: skip
    return found


def _plain(like: Architecture) -> Architecture:
    return scaled(like, like.active_parameters)  # whose weights are bf16, as every student's


def reachable(question: TargetQuestion, loss: float, teacher: float | None) -> dict[float | None, tuple[float, float]]:
    """The range of sizes for each number of experts; InfeasiblePlan, with the reason, if none reaches the loss."""
    ranges: dict[float | None, tuple[float, float]] = {}
    reasons: Counter[str] = Counter()
    said = ""
    law = question.law.extrapolating()
    for experts in question.experts:
        conditions = _conditions(question, teacher, experts)
        try:
            with np.errstate(over="ignore"):
                best = cheapest(law, loss, Life(teacher_parameters=_teacher_size(question)), **conditions)
                smallest = float(law.parameters_for(loss, MOST_TOKENS_RATIO * best.tokens, **conditions))
        except InfeasiblePlan as error:
            reasons.update(error.reasons)
            said = str(error)
            continue
        ranges[experts] = (1.001 * smallest, LARGEST_RATIO * float(best.parameters))
    if not ranges:
        raise InfeasiblePlan(said, dict(reasons))
    return ranges


def _teacher_size(question: TargetQuestion) -> float:
    return 0.0 if question.teacher is None else float(question.teacher.model.active_parameters) / question.students


def _conditions(question: TargetQuestion, teacher: float | None, experts: float | None) -> dict[str, Any]:
    times = mixture(question.like).get("experts", 1.0) if experts is None else experts
    return {
        "teacher_loss": teacher,
        "unique_tokens": question.unique_tokens,
        "experts": times if times > 1 else None,
    }


def shapes(
    question: TargetQuestion, sizes: Iterable[float], experts: float | None, refused: Counter[str]
) -> list[Shape]:
    """Architectures of these sizes (as the law counts them), each once; sizes that no shape has are counted."""
    law, made = question.law, {}
    for size in sizes:
        try:
            model = scaled(question.like, size, experts, counts_embeddings(law))
        except BadInput:
            refused[NO_SHAPE] += 1
            continue
        made[model] = Shape(model=model, size=size_of(law, model), experts=experts)
    return list(made.values())


def tokens_of(
    question: TargetQuestion,
    law: Law,
    loss: Any,
    teacher: Any,
    chosen: Sequence[tuple[Shape, Variant]],
) -> Values:
    """Fewest tokens with which each pair of shape and variant reaches the loss; infinite where none do.

    law: with coefficients that may be draws [draws, 1]; loss, teacher: a number or draws [draws, 1].  One call for all
    pairs -> [pairs] or [draws, pairs].
    """
    sizes = np.array([shape.size for shape, _ in chosen])
    conditions: dict[str, Any] = {"teacher_loss": teacher, "unique_tokens": question.unique_tokens}
    experts = np.array([mixture(shape.model).get("experts", 1.0) for shape, _ in chosen])
    if np.any(experts > 1):
        conditions["experts"] = experts
    if any(variant.conditions for _, variant in chosen):
        for name in ("weight_bits", "activation_bits", "cache_bits"):
            conditions[name] = np.array([getattr(variant, name) for _, variant in chosen])
    with np.errstate(over="ignore"):
        return np.asarray(law.extrapolating().tokens_for(loss, sizes, **conditions))


def within(law: Law, shape: Shape, tokens: float) -> bool:
    """Whether the law answers for this size and number of tokens."""
    return law.support.times_beyond(shape.size, tokens) <= law.limit


def check_work(question: TargetQuestion, sizes: int, formats: Sequence[Variant]) -> None:
    """BadInput for more candidates, or more configurations of all of them, than are priced in some minutes.

    sizes: tried for each number of experts.
    """
    space, count = question.space, sizes * len(question.experts) * len(formats)
    most_experts = max((experts for experts in question.experts if experts is not None), default=None)
    shapes = [question.like, *([] if most_experts is None else [_with(question.like, most_experts)])]
    layouts = max(len(layouts_of(each, space.max_chips, space.redundant_experts)[0]) for each in shapes)
    configurations = count * layouts * len(space.batches) * len(space.tiers) ** 2 * len(space.overlaps)
    if count > MOST_CANDIDATES or configurations > MOST_CONFIGURATIONS:
        raise BadInput(
            f"{sizes} sizes x {len(question.experts)} numbers of experts x {len(formats):,} chips and formats are"
            f" {count:,} candidates with {configurations:,} configurations; a search for a student prices up to"
            f" {MOST_CANDIDATES:,} and {MOST_CONFIGURATIONS:,}: give fewer of --experts, --chips-from, --precision or"
            " --batch, or lower --max-chips"
        )


def _with(like: Architecture, experts: float) -> Architecture:
    """A shape with so many experts; `like` itself where none of its size has them."""
    try:
        return scaled(like, like.active_parameters, experts)
    except BadInput:
        return like
