"""Predictions: cases in, time, energy and price out; equal machines and models are priced in one vectorised call."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import Load, Serving, precisions_of, serve, setting
from flashstill.economics import hourly_price
from flashstill.errors import BadInput, FlashstillError, unknown
from flashstill.facts import Facts
from flashstill.hardware import BYTES_PER_VALUE, Chip, Software, chip_from_facts, software_of
from flashstill.hardware.calibration import ENGINES
from flashstill.parallel import Layout, layout_reason
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION

GREEDY = "greedy"
SAMPLINGS = (GREEDY, "top-p")
PRECISION_NAMES = {"mxfp4": "fp4", "nvfp4": "fp4", "fp8_block": "fp8-block", "fp16": "bf16", "bfloat16": "bf16"}
NOT_FITTING = "does not fit in memory"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is asked: a model on chips in a layout, under a load. None takes the default.

    chips: all of them.  tp: all chips not used otherwise.  precision: as the checkpoint stores it.
    sampling: the likeliest token each time, or drawn by top-k and top-p.
    """

    model: str
    chip: str
    chips: int | None = None
    tp: int | None = None
    pp: int = 1
    ep: int | None = None
    dp: int | None = None
    precision: str | None = None
    kv_precision: str | None = None
    isl: int = 1024
    osl: int = 1024
    concurrency: int = 16
    engine: str = "vllm"
    sampling: str = GREEDY


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The answer to a case. Seconds, joules at the chips, dollars; None where it does not fit or cannot be read."""

    fits: bool
    reason: str = ""
    ttft_s: float | None = None
    tpot_s: float | None = None
    tpot_low_s: float | None = None
    tpot_high_s: float | None = None
    output_tokens_per_s: float | None = None
    joules_per_output_token: float | None = None
    watts_per_chip: float | None = None
    usd_per_million_output_tokens: float | None = None
    bound: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Keys as in the case files' columns."""
        return asdict(self)

    @property
    def valid(self) -> bool:
        """Whether the question made sense: it fits, or it is known why it does not."""
        return self.fits or self.reason == NOT_FITTING


CASE_FIELDS = tuple(field.name for field in fields(Case))
PREDICTION_FIELDS = tuple(field.name for field in fields(Prediction))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Resolved:
    case: Case
    layout: tuple[int, int, int, int]
    group: tuple[Any, ...]


def predict(facts: Facts, cases: Sequence[Case]) -> list[Prediction]:
    """One prediction a case, in order; a case that makes no sense is answered with its reason."""
    answers: list[Prediction | None] = [None] * len(cases)
    groups: dict[tuple[Any, ...], list[tuple[int, _Resolved]]] = defaultdict(list)
    for index, case in enumerate(cases):
        try:
            resolved = _resolve(facts, case)
        except FlashstillError as error:
            answers[index] = Prediction(fits=False, reason=str(error))
            continue
        groups[resolved.group].append((index, resolved))
    for group, members in groups.items():
        for (index, _), answer in zip(members, _answer(facts, group, [each for _, each in members]), strict=True):
            answers[index] = answer
    return [answer for answer in answers if answer is not None]


def check_case(facts: Facts, case: Case) -> None:
    """Raise a FlashstillError for a case that makes no sense."""
    _resolve(facts, case)


@lru_cache(maxsize=256)
def _architecture(name: str) -> Architecture:
    return load_architecture(name)


def _resolve(facts: Facts, case: Case) -> _Resolved:
    """Check a case and work out its layout; a FlashstillError says what is wrong."""
    model = _architecture(case.model)
    machine = facts.machine(case.chip)
    known_engine(case.engine)
    if case.sampling not in SAMPLINGS:
        raise BadInput(unknown("sampling", case.sampling, SAMPLINGS))
    for name in ("isl", "osl", "concurrency", "pp"):
        if getattr(case, name) < 1:
            raise BadInput(f"{name} must be at least 1, not {getattr(case, name)}")
    for name in ("chips", "tp", "ep", "dp"):
        value = getattr(case, name)
        if value is not None and value < 1:
            raise BadInput(f"{name} must be at least 1, not {value}")
    if case.isl + case.osl > model.context:
        raise BadInput(
            f"isl + osl = {case.isl + case.osl} is beyond the {model.context} tokens that {model.name} was made for"
        )
    layout = _layout(model, case)
    reason = layout_reason(model, *layout)
    if reason:
        raise BadInput(reason)
    precision, kv = _precision(case.precision), _precision(case.kv_precision)
    chip_from_facts(facts, machine.name).precision(precision or "bf16")
    group = (case.model, machine.name, precision, kv, case.engine, case.sampling)
    return _Resolved(case=case, layout=layout, group=group)


def _layout(model: Architecture, case: Case) -> tuple[int, int, int, int]:
    dp, pp = case.dp or 1, case.pp
    if case.tp is None:
        whole = case.chips or 1
        if whole % (dp * pp):
            raise BadInput(f"pp x dp = {pp * dp} does not divide {whole} chips")
        tp = whole // (dp * pp)
    else:
        tp = case.tp
        if case.chips is not None and case.dp is None and case.chips % (tp * pp) == 0:
            dp = case.chips // (tp * pp)
        if case.chips is not None and tp * pp * dp != case.chips:
            raise BadInput(f"tp x pp x dp = {tp * pp * dp} chips, but chips is {case.chips}")
    routed = any(layer.ffn.experts for layer in model.layers)
    ep = case.ep or (tp * dp if routed and dp > 1 else 1)
    return tp, pp, ep, dp


def known_engine(name: str) -> str:
    """The engine, or BadInput with the nearest ones."""
    if name not in ENGINES:
        raise BadInput(unknown("engine", name, ENGINES))
    return name


def _precision(name: str | None) -> str | None:
    return None if name is None else known_precision(name)


def known_precision(name: str) -> str:
    """The format that a name stands for; BadInput with the nearest ones."""
    lower = name.lower()
    found = PRECISION_NAMES.get(lower, lower)
    if found not in BYTES_PER_VALUE:
        raise BadInput(unknown("precision", name, [*BYTES_PER_VALUE, *PRECISION_NAMES]))
    return found


def _answer(facts: Facts, group: tuple[Any, ...], members: list[_Resolved]) -> list[Prediction]:
    model_name, chip_name, precision, kv, engine, sampling = group
    model, chip, software = _architecture(model_name), chip_from_facts(facts, chip_name), software_of(facts, engine)
    skew = facts.value("routing", "skew_exponent")
    precisions = precisions_of(model, precision, kv)
    conditions = setting(chip, precisions, software=software, skew=skew, sampled=sampling != GREEDY)
    degrees = np.array([each.layout for each in members], dtype=np.float64).T
    layout = Layout(tp=degrees[0], pp=degrees[1], ep=degrees[2], dp=degrees[3])
    asked = [(each.case.isl, each.case.osl, each.case.concurrency) for each in members]
    isl, osl, concurrency = np.array(asked, dtype=np.float64).T
    found = serve(model, conditions, layout, Load(isl=isl, osl=osl, concurrency=concurrency))
    low, high = band(facts, chip, software)
    dollars = hourly_price(facts, chip_name).usd_per_hour / SECONDS_PER_HOUR * np.asarray(layout.chips)
    return [
        _one(found, index, low, high, float(dollars[index]), chip.link_bytes_per_s, degrees[:, index])
        for index in range(len(members))
    ]


def band(facts: Facts, chip: Chip, software: Software) -> tuple[float, float]:
    """Factors from the prediction to the ends of its 80 % band; wider, in logs, where no anchor measured the chip."""
    low, high = software.tpot_low, software.tpot_high
    if facts.find(chip.name, "serving_measurements"):
        return low, high
    measured = {facts.machines[name].chip_class for name in facts.machines if facts.find(name, "serving_measurements")}
    same = chip.chip_class in measured
    wider = facts.value("band", "same_class_ratio" if same else "other_class_ratio")
    return low**wider, high**wider


def _one(
    found: Serving, index: int, low: float, high: float, usd_per_s: float, link: float, degrees: np.ndarray
) -> Prediction:
    def at(quantity: Any) -> float:
        return float(np.broadcast_to(quantity, np.shape(found.tpot_s))[index])

    if at(found.batch) < 1.0:
        return Prediction(fits=False, reason=NOT_FITTING)
    if not math.isfinite(at(found.tpot_s)):
        return Prediction(fits=False, reason=f"the chip has no links for {int(degrees.prod() / degrees[2])} chips")
    tpot, rate = at(found.tpot_s), at(found.output_tokens_per_s)
    bounds = found.decode.bound
    return Prediction(
        fits=True,
        ttft_s=at(found.ttft_s),
        tpot_s=tpot,
        tpot_low_s=tpot * low,
        tpot_high_s=tpot * high,
        output_tokens_per_s=rate,
        joules_per_output_token=at(found.joules_per_output_token),
        watts_per_chip=at(found.watts_per_chip),
        usd_per_million_output_tokens=usd_per_s / rate * TOKENS_PER_MILLION,
        bound=bounds if isinstance(bounds, str) else bounds[index],
    )
