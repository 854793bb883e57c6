"""Dollars of a training run: what a million trained tokens of a model cost, and runs as multiples of it.

    by the training model   chip-seconds per token of the fastest layout that fits (plan/train.py) / goodput
    by FLOPs                6 active parameters (or the FLOPs told) / (peak of the precision x MFU);  an MFU that is
                            told is one of the whole run, so that no goodput comes on top; else the fact row's range

A framework of the maker's own ("own") has unmeasured overheads: the range lies between those of none and of the public
framework of its chips, the value at their geometric mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from flashstill.economics import HourlyPrice, hourly_price
from flashstill.errors import BadInput, InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.family.models import READ_FLOPS, TRAINED_FLOPS, Model
from flashstill.family.spec import OWN, Member, Training
from flashstill.hardware import chip_from_facts
from flashstill.hardware.software import ALONE
from flashstill.plan.train import predict_training
from flashstill.plan.train_layouts import TrainingDeployment
from flashstill.plan.training_answer import TrainingAnswer, TrainingScenario
from flashstill.units import HOURS_PER_DAY, SECONDS_PER_HOUR

TOLD = "told"
WORTH_HALVING = 0.95
"""chip-hours on half the chips, over those on all, from which on twice the days are not worth it"""
FORWARD_SHARE = READ_FLOPS / TRAINED_FLOPS
"""of the arithmetic of a trained token, what reading it takes"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """What one trained token takes. low_ratio, high_ratio: range of the chip-hours, over their value.

    how: in words.  notes: guesses and changes, as sentences.
    """

    flops: float
    mfu: float
    chip: str
    chips: int
    chip_hours: float
    low_ratio: float
    high_ratio: float
    price: HourlyPrice
    how: str
    notes: tuple[str, ...] = ()

    @property
    def usd_per_hour(self) -> float:
        """Of a chip."""
        assert self.price.usd_per_hour is not None  # checked where the rate is made
        return self.price.usd_per_hour

    @property
    def usd(self) -> float:
        """Dollars of a trained token."""
        return self.chip_hours * self.usd_per_hour


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A training run, or the dollars told for one. chips, days: 0 where not known.  usd_low, usd_high: of the hours."""

    tokens: float
    flops: float
    mfu: float
    chip: str
    chips: int
    chip_hours: float
    days: float
    usd: float
    usd_low: float
    usd_high: float
    price_basis: str
    how: str


def settings_of(training: Training, member: Member) -> Training:
    """The family's training settings with those of one member in their place."""
    names = ("chip", "chips", "length", "batch", "precision", "framework", "usd_per_chip_hour")
    return replace(training, **{name: getattr(member, name) for name in names if getattr(member, name)})


def rate_of(facts: Facts, model: Model, member: Member, training: Training, price: str, thrifty: bool = False) -> Rate:
    """What a trained token of a model takes.

    Raises MissingFact for an unknown chip or one without a price, BadInput for impossible settings, InfeasiblePlan if
    no layout fits on the chips, nor on fewer where the family's number was not told for this model.
    thrifty: where it was not, fewer chips are taken as long as that saves chip-hours.  A model that exists is never
    trained, only read, so that it needs no layout: it goes by its FLOPs.
    """
    asked = settings_of(training, member)
    paid = _price(facts, asked, price)
    if model.architecture is None or member.exists or member.mfu or member.flops:
        return _by_flops(facts, model, member, asked, paid)
    if not asked.chips:
        raise BadInput(f"training.chips is missing: on how many {asked.chip} is {member.name or member.model} trained?")
    return _by_model(facts, model, asked, paid, fewer=not member.chips, thrifty=thrifty and not member.chips)


def run_of(rate: Rate, tokens: float) -> Run:
    """A run of so many tokens."""
    hours = rate.chip_hours * tokens
    usd = rate.usd * tokens
    return Run(
        tokens=tokens,
        flops=rate.flops * tokens,
        mfu=rate.mfu,
        chip=rate.chip,
        chips=rate.chips,
        chip_hours=hours,
        days=hours / rate.chips / HOURS_PER_DAY if rate.chips else 0.0,
        usd=usd,
        usd_low=usd * rate.low_ratio,
        usd_high=usd * rate.high_ratio,
        price_basis=rate.price.basis,
        how=rate.how,
    )


def told_run(usd: float, tokens: float = 0.0) -> Run:
    """A run whose dollars are told."""
    return Run(
        tokens=tokens, flops=0.0, mfu=0.0, chip="", chips=0, chip_hours=0.0, days=0.0, usd=usd, usd_low=usd,
        usd_high=usd, price_basis=TOLD, how="dollars as told",
    )  # fmt: skip


def _price(facts: Facts, asked: Training, price: str) -> HourlyPrice:
    if asked.usd_per_chip_hour:
        return HourlyPrice(usd_per_hour=asked.usd_per_chip_hour, basis=TOLD)
    paid = hourly_price(facts, asked.chip, price)
    if paid.usd_per_hour is None:
        raise MissingFact(f"no price of {asked.chip} is known; give training.usd_per_chip_hour")
    return paid


def _by_flops(facts: Facts, model: Model, member: Member, asked: Training, paid: HourlyPrice) -> Rate:
    chip = chip_from_facts(facts, asked.chip)
    peak = chip.flops_per_s[chip.precision(asked.precision)]
    row = facts.get("training", "mfu_ratio")
    mfu = member.mfu or row.value
    flops = member.flops / (member.tokens or 1.0) if member.flops else model.trained_flops
    how = "FLOPs told" if member.flops else "6 FLOPs per active parameter and token"
    return Rate(
        flops=flops,
        mfu=mfu,
        chip=chip.name,
        chips=asked.chips,
        chip_hours=flops / (peak * mfu) / SECONDS_PER_HOUR,
        low_ratio=1.0 if member.mfu else row.value / row.high,
        high_ratio=1.0 if member.mfu else row.value / row.low,
        price=paid,
        notes=()
        if member.mfu
        else (
            f"{member.name or model.name or 'the teacher'} goes by its FLOPs at {mfu:.3g} of the peak, as frontier runs"
            " do: tell its mfu where it is known",
        ),
        how=f"{how}, at the MFU told" if member.mfu else f"{how}, at the MFU of frontier runs ({row.source})",
    )


def _by_model(facts: Facts, model: Model, asked: Training, paid: HourlyPrice, fewer: bool, thrifty: bool) -> Rate:
    own = asked.framework == OWN
    answer, notes = _answer(facts, model, replace(asked, framework="" if own else asked.framework), fewer, thrifty)
    goodput = facts.get("training", "goodput_ratio")
    hours = _chip_hours(answer)
    low = high = hours
    how = f"the training model, {answer.conditions.software.name}"
    if own:
        alone, _ = _answer(facts, model, replace(asked, framework=ALONE, chips=answer.degrees.chips))
        low = _chip_hours(alone)
        hours = math.sqrt(low * high)
        how = f"the training model, between no overheads and those of {answer.conditions.software.name}"
    return Rate(
        flops=_flops(answer),
        mfu=float(answer.cost.mfu) * high / hours,
        chip=answer.conditions.chip.name,
        chips=answer.degrees.chips,
        chip_hours=hours / goodput.value,
        low_ratio=low / hours * goodput.value / goodput.high,
        high_ratio=high / hours * goodput.value / goodput.low,
        price=paid,
        how=f"{how}; {goodput.value:.0%} of the hours make progress",
        notes=notes,
    )


def _answer(
    facts: Facts, model: Model, asked: Training, fewer: bool = False, thrifty: bool = False
) -> tuple[TrainingAnswer, tuple[str, ...]]:
    """The step on the chips asked for; on half as many (and again) until one fits, or as long as that saves hours."""
    chips = asked.chips or None
    answer: TrainingAnswer | None = None
    while answer is None:
        try:
            answer = _step(facts, model, asked, chips)
        except InfeasiblePlan:
            if not (fewer and chips and chips > 1):
                raise
            chips //= 2
    why = f"no layout of it fits on {asked.chips}"
    while thrifty and chips and chips > 1:
        try:
            half = _step(facts, model, asked, chips // 2)
        except InfeasiblePlan:
            break
        if _chip_hours(half) > WORTH_HALVING * _chip_hours(answer):
            break
        answer, chips, why = half, chips // 2, f"on {asked.chips} it would take more chip-hours"
    if chips == (asked.chips or None):
        return answer, ()
    return answer, (f"{model.name} trains on {chips} chips: {why}",)


def _step(facts: Facts, model: Model, asked: Training, chips: int | None) -> TrainingAnswer:
    assert model.architecture is not None
    scenario = TrainingScenario(
        model=model.architecture, length=asked.length, batch=asked.batch, microbatch=asked.microbatch
    )
    deployment = TrainingDeployment(
        chip=asked.chip, chips=chips, precision=asked.precision, framework=asked.framework or None
    )
    return predict_training(facts, scenario, deployment)


def _chip_hours(answer: TrainingAnswer) -> float:
    """Chip-hours of a token."""
    return float(answer.cost.seconds) * answer.degrees.chips / answer.step_tokens / SECONDS_PER_HOUR


def _flops(answer: TrainingAnswer) -> float:
    """FLOPs of a token by definition of the MFU, attention over all pairs included."""
    return float(answer.cost.model_flops_per_s) * _chip_hours(answer) * SECONDS_PER_HOUR
