"""Dollars of a student's life: its training, the teacher's reading of the training text, and serving.

training   the fewest chips (powers of two) on which plan.train finds a layout that fits and ends in time, on the
           cheapest kind of chip;  tokens of a step = 0.58 D^0.571 (fact rows `training`), the nearest power of two of
           sequences
teacher    its prefill of one training sequence at the cheapest point of plan.search / tokens of the sequence x D,
           shared among the students that learn from the stored signals
serving    dollars per output token (its prompt included) at the cheapest point of plan.search x tokens served
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from flashstill.arch import Architecture
from flashstill.economics import hourly_price
from flashstill.errors import BadInput, InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import Configuration
from flashstill.plan.train import predict_training
from flashstill.plan.train_layouts import MOST_CHIPS, TrainingDeployment
from flashstill.plan.training_answer import TrainingScenario
from flashstill.targets.candidates import Variant
from flashstill.targets.question import TargetQuestion
from flashstill.units import SECONDS_PER_DAY, SECONDS_PER_HOUR, TOKENS_PER_MILLION
from flashstill.workload.training import model_flops

_MORE = 6
"""doublings of the chips beyond what a perfect machine needs, after which a kind is given up"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """One run. layout: degrees above 1, as text."""

    chip: str
    chips: int
    layout: str
    batch_tokens: int
    days: float
    mfu: float
    usd: float
    price_basis: str

    def usd_per_token(self, tokens: float) -> float:
        """Dollars of one training token of this run of `tokens`."""
        return self.usd / tokens


def batch_tokens(facts: Facts, tokens: float, length: int) -> int:
    """Tokens of an optimizer step of a run of `tokens`: a power of two of sequences, which replicas can share."""
    ratio, exponent = (facts.value("training", name) for name in ("batch_tokens_ratio", "batch_tokens_exponent"))
    wanted: float = ratio * tokens**exponent
    return length * int(2 ** max(0, round(math.log2(wanted / length))))


def training(facts: Facts, model: Architecture, tokens: float, question: TargetQuestion) -> Training:
    """The cheapest training in time; InfeasiblePlan with the reasons if no kind of chip trains it in time."""
    reasons: Counter[str] = Counter()
    runs = []
    for chip in question.train_chips:
        try:
            runs.append(_on(facts, model, tokens, question, chip))
        except InfeasiblePlan as error:
            reasons.update(error.reasons or {str(error): 1})
    if not runs:
        raise InfeasiblePlan(
            f"no chip of {', '.join(question.train_chips)} trains {model.name} in {question.train_days:g} days",
            dict(reasons),
        )
    return min(runs, key=lambda run: run.usd)


def _on(facts: Facts, model: Architecture, tokens: float, question: TargetQuestion, name: str) -> Training:
    chip, length = chip_from_facts(facts, name), question.train_length
    step = batch_tokens(facts, tokens, length)
    scenario = TrainingScenario(model=model, length=length, batch=step // length, tokens=math.ceil(tokens))
    peak = chip.flops_per_s[chip.precision(question.train_precision)]
    limit_s = question.train_days * SECONDS_PER_DAY
    fewest = flops_per_token(model, length) * tokens / (peak * limit_s)
    if fewest > MOST_CHIPS:
        raise InfeasiblePlan("", {f"it needs more than {MOST_CHIPS:,} x {name} to end in time": 1})
    chips = 2 ** max(0, math.ceil(math.log2(fewest)))
    reasons: Counter[str] = Counter()
    for doubling in range(_MORE):
        if chips * 2**doubling > MOST_CHIPS:
            break
        asked = TrainingDeployment(chip=name, chips=chips * 2**doubling, precision=question.train_precision)
        try:
            answer = predict_training(facts, scenario, asked, question.price)
        except InfeasiblePlan as error:
            reasons[f"{max(error.reasons, key=error.reasons.__getitem__)} on {chips * 2**doubling:,} x {name}"] += 1
            continue
        run = answer.run
        assert run is not None
        if run.usd is None:
            raise BadInput(f"no price of {name} is known, so that no cheapest model can be told; choose another chip")
        if run.days <= question.train_days:
            layout = " ".join(f"{axis}{count}" for axis, count in answer.degrees._asdict().items() if count > 1)
            return Training(
                chip=name, chips=answer.degrees.chips, layout=layout, batch_tokens=step, days=run.days,
                mfu=float(answer.cost.mfu), usd=run.usd, price_basis=answer.price.basis,
            )  # fmt: skip
        reasons[f"it ends too late on {name}"] += 1
    raise InfeasiblePlan("", dict(reasons))


def reading_usd_per_token(facts: Facts, question: TargetQuestion) -> float:
    """Dollars for the teacher's distribution on one training token; 0 without a teacher."""
    if question.teacher is None:
        return 0.0
    teacher, length = question.teacher.model, question.train_length
    prefill = Scenario(model=teacher, isl=length, osl=1)
    space = replace(question.space, precisions=("published",), kv_precisions=(None,), disaggregated=False)
    try:
        found = search(facts, prefill, space, question.price)
    except InfeasiblePlan as error:
        raise InfeasiblePlan(
            f"the teacher {teacher.name} runs on none of these chips: {error}", error.reasons
        ) from error
    return _cheapest(found.front, question.space.chips) / TOKENS_PER_MILLION / length / question.students


def _cheapest(front: tuple[Configuration, ...], chips: tuple[str, ...]) -> float:
    prices = [point.usd_per_million_output_tokens for point in front]
    priced = [price for price in prices if price is not None]
    if not priced:
        raise BadInput(f"no price of {', '.join(chips)} is known, so that no cheapest model can be told")
    return min(priced)


def serving(facts: Facts, model: Architecture, variant: Variant, question: TargetQuestion) -> Configuration:
    """The configuration that serves a student for the fewest dollars per output token within the bounds."""
    space = replace(
        question.space, chips=(variant.chip,), precisions=(variant.precision,), kv_precisions=(variant.kv_precision,)
    )
    if question.scenario.isl + question.scenario.osl > model.context:
        raise BadInput(
            f"requests of {question.scenario.isl + question.scenario.osl:,} tokens are beyond the {model.context:,}"
            f" that models like {question.like.name} are made for"
        )
    front = search(facts, replace(question.scenario, model=model), space, question.price).front
    least = _cheapest(front, space.chips)
    return next(point for point in front if point.usd_per_million_output_tokens == least)


def prices(facts: Facts, question: TargetQuestion) -> dict[str, str]:
    """Price basis of every chip; BadInput for a chip without a price."""
    names = dict.fromkeys((*question.space.chips, *question.train_chips))
    found = {name: hourly_price(facts, name, question.price) for name in names}
    for name, price in found.items():
        if price.usd_per_hour is None:
            raise BadInput(f"no price of {name} is known, so that no cheapest model can be told; choose another chip")
    return {name: price.basis for name, price in found.items()}


def peak_usd(facts: Facts, model: Architecture, tokens: float, question: TargetQuestion) -> float:
    """A lower bound of the training's dollars: every chip at its peak."""
    per_flop = []
    for name in question.train_chips:
        chip = chip_from_facts(facts, name)
        hour = hourly_price(facts, name, question.price).usd_per_hour or 0.0
        try:
            peak = chip.flops_per_s[chip.precision(question.train_precision)]
        except MissingFact:
            continue
        per_flop.append(hour / SECONDS_PER_HOUR / peak)
    return flops_per_token(model, question.train_length) * tokens * min(per_flop, default=0.0)


def flops_per_token(model: Architecture, length: int) -> float:
    """FLOPs of training on one token of a sequence of `length`, which no machine can do without."""
    return float(model_flops(model, 1, length, causal=True)) / length
