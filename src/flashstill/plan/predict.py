"""Time, energy and price of many cases; cases with the same machine and model are priced in one vectorised call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flashstill.cost import Load, StepCost, serve
from flashstill.cost.disaggregated import serve_apart
from flashstill.cost.footprint import layout_room_bytes, token_bytes
from flashstill.economics import RENTED, HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.errors import BadInput, FlashstillError, joined_notes
from flashstill.facts import Facts
from flashstill.parallel import Layout
from flashstill.plan.bands import Bands, across_nodes, bands_of
from flashstill.plan.case import Case
from flashstill.plan.deployment import GREEDY, Deployment
from flashstill.plan.hardwired import answer_hardwired, is_hardwired
from flashstill.plan.kinds import usd_by_kind
from flashstill.plan.layouts import layout_of
from flashstill.plan.notes import empty_notes
from flashstill.plan.pool_answers import pool_notes, pools_of
from flashstill.plan.prediction import NOT_FITTING, Prediction, sound
from flashstill.plan.resolve import Resolved, Resolver, resolve
from flashstill.plan.setup import Setup
from flashstill.workload import Quantity

__all__ = ["GREEDY", "Case", "Outcome", "Prediction", "completed", "outcomes", "predict"]


class Outcome(NamedTuple):
    """A prediction, its fully resolved deployment, and the error if the question is invalid."""

    prediction: Prediction
    deployment: Resolved | Deployment
    error: FlashstillError | None = None


def predict(facts: Facts, cases: Sequence[Case], price: str = RENTED) -> list[Prediction]:
    """One prediction per case, in order; an invalid case gets a reason instead of figures.

    price: the price basis for all chips (economics/prices.py).
    """
    return [outcome.prediction for outcome in outcomes(facts, cases, price)]


def outcomes(facts: Facts, cases: Sequence[Case], price: str = RENTED) -> list[Outcome]:
    """As `predict`, with the resolved deployments, and the errors as exceptions."""
    decided: dict[int, Outcome] = {}
    resolver = Resolver(facts)
    groups: dict[tuple[int, bool], list[tuple[int, Resolved]]] = defaultdict(list)
    for index, case in enumerate(cases):
        try:
            if is_hardwired(facts, case.deployment.chip):
                decided[index] = Outcome(sound(answer_hardwired(facts, case, price)), _on_one_chip(case.deployment))
                continue
            _check_serving(case)
            resolved = resolver.resolve(case.scenario, case.deployment)
        except FlashstillError as error:
            decided[index] = Outcome(Prediction(fits=False, reason=str(error)), case.deployment, error)
            continue
        groups[id(resolved.setup), resolved.prefill is not None].append((index, resolved))
    for members in groups.values():
        indices, group = zip(*members, strict=True)
        for index, resolved, answer in zip(indices, group, _answers(facts, group[0].setup, group, price), strict=True):
            decided[index] = Outcome(sound(answer), resolved)
    return [decided[index] for index in range(len(cases))]


_of_load = attrgetter(
    "isl", "osl", "batch", "batching_steps", "burst_share", "cohort", "cached_tokens", "isl_cv", "osl_cv"
)


def _on_one_chip(deployment: Deployment) -> Deployment:
    return replace(deployment, chips=1, tp=1, pp=1, ep=1, dp=1)


def completed(facts: Facts, case: Case) -> Case:
    """The case with all defaults filled in; a FlashstillError for an invalid case."""
    if is_hardwired(facts, case.deployment.chip):
        answer_hardwired(facts, case)
        return Case(case.scenario, _on_one_chip(case.deployment))
    _check_serving(case)
    return Case(case.scenario, resolve(facts, case.scenario, case.deployment).deployment)


def _check_serving(case: Case) -> None:
    if case.scenario.context is not None:
        raise BadInput("a prediction is of serving requests: give isl and osl, not the context of one step")


def _answers(facts: Facts, setup: Setup, group: Sequence[Resolved], price: str) -> list[Prediction]:
    """Predictions of cases that differ only in load and layout."""
    model, conditions, drafting = setup.model, setup.conditions, setup.speculation
    layout, load = stacked(setup, group)
    if group[0].prefill is None:
        served, of_pools = serve(model, conditions, layout, load, drafting), {}
    else:
        apart = serve_apart(model, conditions, pools_of(group, layout), load, drafting)
        served, of_pools = apart, {"kv_transfer_s": apart.transfer_s, "prefill_busy_share": apart.busy_share}
    bands = bands_of(facts, model, conditions)
    of_nodes = across_nodes(facts, bands) if any(each.spans_nodes for each in group) else bands
    paid = hourly_price(facts, conditions.chip.name, price)
    drafted = drafting.tokens_per_step if drafting else 1.0
    figures = [getattr(served, name) for name in _SERVED]
    figures += [served.decode.seconds, served.decode.total_joules / (np.maximum(served.batch, 1e-9) * drafted)]
    figures += [served.decode.watts_per_chip]
    small = drafting.draft if drafting else None
    figures += [layout_room_bytes(model, conditions, layout, small), served.fitting, *of_pools.values()]
    kv_bytes = token_bytes(model, conditions.precisions.widths)
    shape = np.shape(load.isl)
    columns = [_as_of(figure, shape).tolist() for figure in figures]
    bounds = [_bounds(served.decode, len(group))] * 2
    if any(each.scenario.osl == 1 for each in group):  # without decode steps
        bounds[1] = _bounds(served.prefill, len(group))
    names = (
        *_SERVED,
        "decode_s",
        "decode_joules",
        "decode_watts_per_chip",
        "cache_room_bytes",
        "sequences_fit",
        *of_pools,
    )
    return [
        _prediction(
            each,
            {"kv_bytes_per_token": kv_bytes, **dict(zip(names, values, strict=True))},
            of_nodes if each.spans_nodes else bands,
            paid,
            drafted,
            decoding if each.scenario.osl > 1 else filling,
        )
        for each, values, decoding, filling in zip(group, zip(*columns, strict=True), *bounds, strict=True)
    ]


def _as_of(figure: Quantity, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """A figure of each case, as an array of their shape."""
    is_one = isinstance(figure, np.ndarray) and figure.shape == shape
    return figure if is_one else np.broadcast_to(figure, shape)  # type: ignore[return-value]


def stacked(setup: Setup, group: Sequence[Resolved]) -> tuple[Layout, Load]:
    """The layouts and loads of cases with the same setup, as arrays over the cases."""
    layout = layout_of(np.array([each.degrees for each in group], dtype=np.float64).T)
    loads = [_of_load(each.scenario) for each in group]
    isl, osl, concurrency, batching, bursts, cohort, cached, isl_cv, osl_cv = np.array(loads, dtype=np.float64).T
    return layout, Load(
        isl=isl,
        osl=osl,
        concurrency=concurrency,
        chunk=setup.chunk,
        batching_steps=batching,
        burst_share=bursts,
        cohort=cohort,
        cached=cached,
        isl_cv=isl_cv,
        osl_cv=osl_cv,
    )


_SERVED = (
    "batch", "ttft_s", "tpot_s", "output_tokens_per_s", "joules_per_output_token", "watts_per_chip", "input_share",
    "cached_share",
)  # fmt: skip


def _bounds(step: StepCost, count: int) -> list[str]:
    bound = step.bound
    return [bound] * count if isinstance(bound, str) else bound


def _prediction(
    resolved: Resolved,
    figures: dict[str, float],
    bands: Bands,
    paid: HourlyPrice,
    drafted: float,
    bound: str,
) -> Prediction:
    """The prediction of one case. drafted: expected tokens per step."""
    scenario, chips, apart = resolved.scenario, float(resolved.degrees.chips), resolved.prefill is not None
    rate, running = figures["output_tokens_per_s"], figures["batch"]
    first, joules, watts = figures["ttft_s"], figures["joules_per_output_token"], figures["watts_per_chip"]
    notes = list(resolved.notes)
    if running < (1e-9 if apart else 1.0):
        return Prediction(fits=False, reason=NOT_FITTING, note=joined_notes(notes))
    if apart:
        notes += pool_notes(resolved, figures)
    elif running < scenario.batch - 0.05:
        notes.append(f"memory holds {running:,.1f} of {scenario.batch} requests at a time; the others wait")
    notes += empty_notes(resolved.model, resolved.degrees, running)
    tpot: float | None = figures["tpot_s"]
    decode_s: float | None = figures["decode_s"]
    decode_usd = usd_per_million_tokens(
        paid, figures["decode_s"], chips, running * drafted, figures["decode_watts_per_chip"]
    )
    paid_as_predicted, dollars = (
        paid.at(watts),
        usd_per_million_tokens(paid, 1.0, float(resolved.all_chips), rate, watts),
    )
    if scenario.osl == 1:
        tpot = decode_s = decode_usd = None
        notes.append("with one output token there is none after the first, and so no time per output token")
    return Prediction(
        fits=True,
        kv_bytes_per_token=figures["kv_bytes_per_token"],
        cache_room_bytes=figures["cache_room_bytes"],
        sequences_fit=figures["sequences_fit"],
        ttft_s=first,
        tpot_s=tpot,
        tpot_low_s=None if tpot is None else tpot * bands.tpot[0],
        tpot_high_s=None if tpot is None else tpot * bands.tpot[1],
        output_tokens_per_s=rate,
        joules_per_output_token=joules,
        watts_per_chip=watts,
        usd_per_million_output_tokens=dollars,
        **usd_by_kind(scenario, dollars, figures["input_share"], figures["cached_share"]),
        bound=bound,
        note=joined_notes(notes),
        usd_per_chip_hour=paid_as_predicted.usd_per_hour,
        price_basis=paid_as_predicted.basis,
        running=running,
        decode_step_s=decode_s,
        decode_joules_per_token=None if decode_s is None else figures["decode_joules"],
        decode_usd_per_million_tokens=decode_usd,
        kv_transfer_s=figures.get("kv_transfer_s"),
        prefill_busy_share=figures.get("prefill_busy_share"),
        ttft_low_s=first * bands.ttft[0],
        ttft_high_s=first * bands.ttft[1],
        output_tokens_per_s_low=rate * bands.output_rate[0],
        output_tokens_per_s_high=rate * bands.output_rate[1],
        joules_per_output_token_low=joules * bands.joules[0],
        joules_per_output_token_high=joules * bands.joules[1],
        band_basis=bands.basis,
    )
