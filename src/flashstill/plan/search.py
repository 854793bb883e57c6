"""Exhaustive search over chips, counts, layouts, batches, precisions, placements and speculation.

Every configuration gets time, energy, dollars and memory fit (plan/tables.py).  Infeasible ones are counted by reason.
The objectives of the Pareto front are time per output token, tokens/s per chip, joules and dollars per token.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import Conditions, Load, Speculation
from flashstill.economics import RENTED, HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.errors import InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.frontier import Values, non_dominated, thinned
from flashstill.hardware import Chip, chip_from_facts
from flashstill.hardware.wiring import WIRING
from flashstill.plan.deployment import TWO_BATCH, Deployment
from flashstill.plan.drafts import check_drafted, drafting_of
from flashstill.plan.feasible import NO_LINKS, impossible
from flashstill.plan.fronts import SHARES, Table, costs_of, front_of, worth_of
from flashstill.plan.hardwired import check_draft
from flashstill.plan.layouts import NOTHING_TO_HIDE, Degrees
from flashstill.plan.pool_search import Paired, paired
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.scenario import Scenario, broken_bounds
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.setup import conditions_of
from flashstill.plan.space import (
    NO_PRECISION,
    NO_TIER,
    OBJECTIVES,
    SearchResult,
    SearchSpace,
    check_search,
    check_size,
    normalised,
)
from flashstill.plan.tables import Candidates, Places, Priced, candidates, priced, room_for


def search(facts: Facts, scenario: Scenario, space: SearchSpace, price: str = RENTED) -> SearchResult:
    """Price all configurations; InfeasiblePlan with the reasons counted if none is feasible.

    The scenario's batch is ignored: the space lists the batches.  price: the price basis of all dollars.
    """
    model = load_architecture(scenario.model) if isinstance(scenario.model, str) else scenario.model
    space = normalised(facts, space)
    check_search(scenario, model, space)
    started = time.perf_counter()
    drafts, told = _drafts(scenario, model, space)
    reasons: Counter[str] = Counter()
    tables: list[Table] = []
    prices: dict[str, HourlyPrice] = {}
    chosen = candidates(*_layouts(facts, model, space, len(drafts)), space.batches)
    layouts, batches = chosen.shape
    refused = {reason: times * batches for reason, times in chosen.refused.items()}
    evaluated = priced_ones = feasible = 0
    load = Load(
        isl=scenario.isl, osl=scenario.osl, concurrency=chosen.batches, batching_steps=scenario.batching_steps,
        burst_share=scenario.burst_share, cohort=scenario.cohort, cached=float(scenario.cached_tokens),
    )  # fmt: skip
    for name in space.chips:
        chip = chip_from_facts(facts, name)
        check_draft(chip, scenario.draft)
        prices[name] = paid = hourly_price(facts, name, price)
        places = placements_of(space, chip)
        if not places:
            reasons[NO_TIER] += layouts * batches
            evaluated += layouts * batches
        for precision, kv, (weights, cache), overlap, drafting in itertools.product(
            space.precisions, space.kv_precisions, places, space.overlaps, drafts
        ):
            evaluated += layouts * batches + sum(refused.values())
            reasons.update(refused)
            deployment = Deployment(
                chip=name, precision=precision, kv_precision=kv, weights_in=weights, kv_in=cache, engine=space.engine,
                overlap=overlap,
            )  # fmt: skip
            conditions = conditions_of(facts, model, chip, deployment)
            try:
                chip.precision(conditions.precisions.linear)
            except MissingFact:
                reasons[NO_PRECISION] += layouts * batches
                continue
            label = {
                "chip": chip.name,
                "precision": precision,
                "kv_precision": conditions.precisions.kv,
                "weights_in": weights,
                "kv_in": cache,
                "speculation": drafting,
                "engine": conditions.software.asked_as,
                "overlap": overlap,
                "paid": paid,
            }
            possible = chosen.taken(_possible(model, conditions, chosen, scenario, label, reasons))
            if possible.at.size:
                figures = priced(model, conditions, possible, load, drafting)
                feasible += _keep(scenario, label, _columns(possible, figures, paid), reasons, tables)
            priced_ones += possible.at.size
            if space.disaggregated:
                pairs = paired(model, conditions, chosen, scenario, space.max_chips, drafting, paid)
                number, kept = _keep_pairs(scenario, chip, label, pairs, reasons, tables)
                evaluated, priced_ones, feasible = evaluated + number, priced_ones + number, feasible + kept
    if not feasible:
        raise InfeasiblePlan(f"nothing serves {model.name} within these bounds", dict(reasons))
    return SearchResult(
        evaluated=evaluated,
        priced=priced_ones,
        feasible=feasible,
        seconds=time.perf_counter() - started,
        infeasible=dict(reasons),
        front=front_of(tables, scenario),
        prices=prices,
        note="; ".join(filter(None, (model.note, told))),
        drafting=worth_of(tables) if scenario.draft is not None else {},
    )


def _drafts(scenario: Scenario, model: Architecture, space: SearchSpace) -> tuple[tuple[Speculation | None, ...], str]:
    """Speculation choices: none, and the scenario's draft with each number of drafted tokens; and a note on it.

    Numbers beyond the positions at which acceptance was measured are left out, unless all are.
    """
    if scenario.draft is None:
        return (None,), ""
    accepted = scenario.acceptance, scenario.acceptance_decay, scenario.measured_acceptance
    counts = sorted(space.draft_tokens)
    for count in counts:
        check_drafted(count)
    first = drafting_of(model, scenario.draft, counts[0], *accepted)
    most = len(first.speculation.measured) or counts[-1]
    choices = (replace(first.speculation, tokens=count) for count in counts if count <= most)
    return (None, *choices), first.note


def _layouts(facts: Facts, model: Architecture, space: SearchSpace, drafts: int) -> tuple[list[Degrees], Counter[str]]:
    """Layouts of the model on up to so many chips; BadInput if too many configurations would result."""
    possible, refused = layouts_of(model, space.max_chips, space.redundant_experts)
    placements = sum(len(placements_of(space, chip_from_facts(facts, name))) for name in space.chips)
    formats = len(space.precisions) * len(space.kv_precisions)
    check_size(len(possible), len(space.batches), placements * formats * len(space.overlaps) * drafts)
    return possible, refused


def placements_of(space: SearchSpace, chip: Chip) -> list[tuple[str, str]]:
    """Pairs of memory tiers for weights and cache, of the tiers requested that the chip has."""
    names = [tier.name for tier in chip.tiers if tier.name in space.tiers]
    return list(itertools.product([WIRING] if chip.wired else names, names))


def _columns(chosen: Candidates, figures: Priced, paid: HourlyPrice) -> dict[str, Values]:
    pace, chips = figures.pace, np.asarray(chosen.layout.chips)
    rate = np.asarray(pace.output_tokens_per_s)
    dollars = usd_per_million_tokens(paid, 1.0, chips, rate, pace.watts_per_chip)
    columns: dict[str, Any] = {
        "tpot_s": pace.tpot_s,
        "ttft_s": pace.ttft_s,
        "output_tokens_per_s": rate,
        "tokens_per_s_per_chip": rate / chips,
        "joules_per_output_token": pace.joules_per_output_token,
        "usd_per_million_output_tokens": np.inf if dollars is None else dollars,  # inf: never on the price front
        "watts_per_chip": pace.watts_per_chip,
        **{name: getattr(pace, name) for name in SHARES},
        "chips": chips,
        "batch": chosen.batches,
        **dict(zip(Degrees._fields, chosen.degrees, strict=True)),
    }
    return {name: np.broadcast_to(column, chosen.shape) for name, column in columns.items()}


def _possible(
    model: Architecture,
    conditions: Conditions,
    chosen: Candidates,
    scenario: Scenario,
    label: dict[str, Any],
    reasons: Counter[str],
) -> Places:
    """Flat places of the configurations that can run, found without pricing them; the others counted by reason."""
    room = room_for(model, conditions, chosen.layout, scenario.isl, scenario.osl, label["speculation"])
    refused = impossible(conditions.chip, chosen.layout, chosen.batches, label["overlap"], room)
    return _without(refused, chosen.shape, reasons)


def _without(refused: Mapping[str, Any], shape: tuple[int, ...], reasons: Counter[str]) -> Places:
    """Flat places that no reason refuses; the others are counted by their first reason."""
    left = np.ones(shape, dtype=bool)
    for reason, these in refused.items():
        count = int(np.count_nonzero(left & these))
        if count:
            reasons[reason] += count
            left &= ~these
    return np.flatnonzero(left)


def _keep(
    scenario: Scenario,
    label: dict[str, Any],
    columns: dict[str, Values],
    reasons: Counter[str],
    tables: list[Table],
) -> int:
    """Count configurations that break a bound, add the others' front to `tables`; return the feasible count."""
    broken = broken_bounds(scenario, columns["ttft_s"], columns["tpot_s"], columns["output_tokens_per_s"])
    left = _without(broken, columns["batch"].shape, reasons)
    if len(left):
        costs = costs_of([columns[name][left] for name in OBJECTIVES])
        few = thinned(costs)
        best = left[few[non_dominated(costs[few])]]
        tables.append(Table(label, {name: column[best] for name, column in columns.items()}))
    return len(left)


def _keep_pairs(
    scenario: Scenario,
    chip: Chip,
    label: dict[str, Any],
    pairs: Paired | None,
    reasons: Counter[str],
    tables: list[Table],
) -> tuple[int, int]:
    """As `_keep`, for pools of their own; (pairs of pools, feasible ones)."""
    if pairs is None:
        return 0, 0
    columns, topology, system = pairs.columns, chip.topology, chip.system
    apart = (columns["chips"] > system.domain_chips) & (not system.scale_out_bytes_per_s)
    broken = broken_bounds(scenario, columns["ttft_s"], columns["tpot_s"], columns["output_tokens_per_s"])
    refused = {
        NO_LINKS: apart | (not topology.link_bytes_per_s),
        NOTHING_TO_HIDE: (columns["dp"] == 1) & (label["overlap"] == TWO_BATCH),
        NOT_FITTING: ~pairs.fits,
    }
    left = _without(refused | broken, pairs.fits.shape, reasons)
    if len(left):
        best = left[non_dominated(costs_of([columns[name][left] for name in OBJECTIVES]))]
        tables.append(Table(label, {name: column[best] for name, column in columns.items()}))
    return len(pairs.fits), len(left)
