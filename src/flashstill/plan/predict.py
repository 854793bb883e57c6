"""Predictions: cases in, time, energy and price out; equal machines and models are priced in one vectorised call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np

from flashstill.cost import Load, StepCost, serve
from flashstill.cost.footprint import layout_room_bytes, most_sequences, token_bytes
from flashstill.economics import RENTED, HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.hardware import Chip, Software
from flashstill.parallel import Layout
from flashstill.plan.case import (
    AS_PUBLISHED,
    CASE_FIELDS,
    GREEDY,
    LOAD_FIELDS,
    NOT_FITTING,
    PREDICTION_FIELDS,
    Case,
    Prediction,
    sound,
)
from flashstill.plan.deployment import empty_notes, settled
from flashstill.plan.hardwired import answer_hardwired, is_hardwired
from flashstill.plan.resolve import Group, Resolved, group_conditions, resolve, speculation

__all__ = ["CASE_FIELDS", "GREEDY", "PREDICTION_FIELDS", "Case", "Prediction", "band", "completed", "predict"]


def predict(facts: Facts, cases: Sequence[Case], price: str = RENTED) -> list[Prediction]:
    """One prediction a case, in order; a case that makes no sense is answered with its reason.

    price: the basis on which all chips are priced (economics/prices.py).
    """
    answers: list[Prediction | None] = [None] * len(cases)
    alike: dict[tuple[Any, ...], Resolved] = {}
    groups: dict[Group, list[tuple[int, Resolved]]] = defaultdict(list)
    for index, case in enumerate(cases):
        try:
            if is_hardwired(facts, case.chip):
                answers[index] = answer_hardwired(facts, case, price)
                continue
            key = _without_load(case)
            resolved = alike[key] = resolve(facts, case, alike.get(key))
        except FlashstillError as error:
            answers[index] = Prediction(fits=False, reason=str(error))
            continue
        groups[resolved.group].append((index, resolved))
    for group, members in groups.items():
        for (index, _), answer in zip(
            members, _answer(facts, group, [each for _, each in members], price), strict=True
        ):
            answers[index] = answer
    return [sound(answer) for answer in answers if answer is not None]


_without_load = attrgetter(*(name for name in CASE_FIELDS if name not in LOAD_FIELDS))


def completed(facts: Facts, case: Case) -> Case:
    """The case with all defaults filled in; a FlashstillError for one that makes no sense."""
    if is_hardwired(facts, case.chip):
        answer_hardwired(facts, case)
        return replace(case, chips=1, tp=1, pp=1, ep=1, dp=1)
    found = resolve(facts, case)
    decided = settled(group_conditions(facts, found.group, found.model), found.degrees)
    return replace(case, chip=found.group.chip, precision=found.group.precision or AS_PUBLISHED, **decided)


def _answer(facts: Facts, group: Group, members: list[Resolved], price: str) -> list[Prediction]:
    model = members[0].model
    conditions = group_conditions(facts, group, model)
    degrees = np.array([each.degrees for each in members], dtype=np.float64).T
    layout = Layout(tp=degrees[0], pp=degrees[1], ep=degrees[2], dp=degrees[3])
    asked = [(each.case.isl, each.case.osl, each.case.concurrency) for each in members]
    isl, osl, concurrency = np.array(asked, dtype=np.float64).T
    load = Load(isl=isl, osl=osl, concurrency=concurrency, chunk=group.chunk)
    drafting = speculation(model, *group.draft) if group.draft else None
    found = serve(model, conditions, layout, load, drafting)
    span = band(facts, conditions.chip, conditions.software)
    paid = hourly_price(facts, group.chip, price)
    drafted = drafting.tokens_per_step if drafting else 1.0
    figures = [getattr(found, name) for name in _FOUND]
    figures += [found.decode.seconds, found.decode.total_joules / (np.maximum(found.batch, 1e-9) * drafted)]
    small = drafting.draft if drafting else None
    figures += [
        layout_room_bytes(model, conditions, layout, small),
        most_sequences(model, conditions, layout, isl + osl / 2.0, small),
    ]
    kv_bytes = token_bytes(model, conditions.precisions.widths)
    columns = [np.broadcast_to(figure, isl.shape).tolist() for figure in figures]
    bounds = [_bounds(step, len(members)) for step in (found.decode, found.prefill)]
    names = (*_FOUND, "decode_s", "decode_joules", "cache_room_bytes", "sequences_fit")
    return [
        _one(
            each,
            {"kv_bytes_per_token": kv_bytes, **dict(zip(names, values, strict=True))},
            span,
            paid,
            drafted,
            decoding if each.case.osl > 1 else filling,
        )
        for each, values, decoding, filling in zip(members, zip(*columns, strict=True), *bounds, strict=True)
    ]


_FOUND = ("batch", "ttft_s", "tpot_s", "output_tokens_per_s", "joules_per_output_token", "watts_per_chip")


def _bounds(step: StepCost, count: int) -> list[str]:
    return [step.bound] * count if isinstance(step.bound, str) else step.bound


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
    each: Resolved, found: dict[str, float], span: tuple[float, float], paid: HourlyPrice, drafted: float, bound: str
) -> Prediction:
    rate, running, chips = found["output_tokens_per_s"], found["batch"], each.degrees.chips
    notes = [each.note] if each.note else []
    if running < 1.0:
        return Prediction(fits=False, reason=NOT_FITTING, note="; ".join(notes))
    if running < each.case.concurrency:
        notes.append(f"memory holds {running:,.1f} of {each.case.concurrency} requests at a time; the others wait")
    notes += empty_notes(each.model, each.degrees, running)
    tpot: float | None = found["tpot_s"]
    decode_s: float | None = found["decode_s"]
    if each.case.osl == 1:
        tpot = decode_s = None
        notes.append("with one output token there is none after the first, and so no time per output token")
    return Prediction(
        fits=True,
        kv_bytes_per_token=found["kv_bytes_per_token"],
        cache_room_bytes=found["cache_room_bytes"],
        sequences_fit=found["sequences_fit"],
        ttft_s=found["ttft_s"],
        tpot_s=tpot,
        tpot_low_s=None if tpot is None else tpot * span[0],
        tpot_high_s=None if tpot is None else tpot * span[1],
        output_tokens_per_s=rate,
        joules_per_output_token=found["joules_per_output_token"],
        watts_per_chip=found["watts_per_chip"],
        usd_per_million_output_tokens=usd_per_million_tokens(paid, 1.0, float(chips), rate),
        bound=bound,
        note="; ".join(notes),
        usd_per_chip_hour=paid.usd_per_hour,
        price_basis=paid.basis,
        running=running,
        decode_step_s=decode_s,
        decode_joules_per_token=None if decode_s is None else found["decode_joules"],
        decode_usd_per_million_tokens=None
        if decode_s is None
        else usd_per_million_tokens(paid, decode_s, float(chips), running * drafted),
    )
