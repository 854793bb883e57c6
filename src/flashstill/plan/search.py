"""Exhaustive search over chips, counts, layouts, batches, precisions, placements and speculation.

Every configuration gets time, energy, dollars and memory fit (plan/tables.py).  Infeasible ones are counted by reason.
The objectives of the Pareto front are time per output token, tokens/s per chip, joules and dollars per token.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import Load, Speculation
from flashstill.economics import RENTED, HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.errors import InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.frontier import Values
from flashstill.hardware import Chip, chip_from_facts
from flashstill.hardware.wiring import WIRING
from flashstill.plan.deployment import Deployment
from flashstill.plan.drafts import check_drafted, drafting_of
from flashstill.plan.feasible import impossible
from flashstill.plan.fronts import SHARES, front_of, worth_of
from flashstill.plan.hardwired import check_draft
from flashstill.plan.layouts import Degrees
from flashstill.plan.pool_search import paired
from flashstill.plan.scenario import Scenario
from flashstill.plan.search_counts import SearchCounts
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.setup import conditions_of
from flashstill.plan.space import (
    NO_PRECISION,
    NO_TIER,
    SearchResult,
    SearchSpace,
    check_search,
    check_size,
    normalised,
)
from flashstill.plan.tables import Candidates, Priced, candidates, priced, room_for


def search(facts: Facts, scenario: Scenario, space: SearchSpace, price: str = RENTED) -> SearchResult:
    """Price all configurations; InfeasiblePlan with the reasons counted if none is feasible.

    The scenario's batch is ignored: the space lists the batches.  price: the price basis of all dollars.
    """
    model = load_architecture(scenario.model) if isinstance(scenario.model, str) else scenario.model
    space = normalised(facts, space)
    check_search(scenario, model, space)
    started = time.perf_counter()
    drafts, told = _drafts(scenario, model, space)
    chosen, counts = candidates(*_layouts(facts, model, space, len(drafts)), space.batches), SearchCounts()
    work = _Work(facts=facts, model=model, scenario=scenario, space=space, chosen=chosen, counts=counts)
    prices: dict[str, HourlyPrice] = {}
    for name in space.chips:
        chip = chip_from_facts(facts, name)
        check_draft(chip, scenario.draft)
        prices[name] = hourly_price(facts, name, price)
        work.try_chip(chip, prices[name], drafts)
    if not counts.feasible:
        raise InfeasiblePlan(f"nothing serves {model.name} within these bounds", dict(counts.reasons))
    return SearchResult(
        evaluated=counts.evaluated,
        priced=counts.priced,
        feasible=counts.feasible,
        seconds=time.perf_counter() - started,
        infeasible=dict(counts.reasons),
        front=front_of(counts.tables, scenario),
        prices=prices,
        note="; ".join(filter(None, (model.note, told))),
        drafting=worth_of(counts.tables) if scenario.draft is not None else {},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What is the same for all chips and formats. chosen: every layout with every batch."""

    facts: Facts
    model: Architecture
    scenario: Scenario
    space: SearchSpace
    chosen: Candidates
    counts: SearchCounts

    @property
    def size(self) -> int:
        """Layouts times batches, of those that can be built."""
        layouts, batches = self.chosen.shape
        return layouts * batches

    @property
    def load(self) -> Load:
        """The requests, as many at once as each batch."""
        asked = self.scenario
        return Load(
            isl=asked.isl, osl=asked.osl, concurrency=self.chosen.batches, batching_steps=asked.batching_steps,
            burst_share=asked.burst_share, cohort=asked.cohort, cached=float(asked.cached_tokens),
            isl_cv=asked.isl_cv, osl_cv=asked.osl_cv,
        )  # fmt: skip

    def try_chip(self, chip: Chip, paid: HourlyPrice, drafts: Sequence[Speculation | None]) -> None:
        """Price all candidates on a chip, with every format, placement, overlap and draft."""
        space, places = self.space, placements_of(self.space, chip)
        if not places:
            self.counts.refuse({NO_TIER: self.size})
            self.counts.evaluated += self.size
        for precision, kv, (weights, cache), overlap in itertools.product(
            space.precisions, space.kv_precisions, places, space.overlaps
        ):
            deployment = Deployment(
                chip=chip.name, precision=precision, kv_precision=kv, weights_in=weights, kv_in=cache,
                engine=space.engine, overlap=overlap,
            )  # fmt: skip
            for drafting in drafts:
                self._try_formats(chip, paid, deployment, drafting)

    def _try_formats(self, chip: Chip, paid: HourlyPrice, deployment: Deployment, drafting: Speculation | None) -> None:
        """Price all candidates in the formats and places of a deployment, whose layout they replace."""
        model, scenario, chosen, counts = self.model, self.scenario, self.chosen, self.counts
        refused = {reason: times * chosen.shape[1] for reason, times in chosen.refused.items()}
        counts.evaluated += self.size + sum(refused.values())
        counts.refuse(refused)
        conditions = conditions_of(self.facts, model, chip, deployment)
        try:
            chip.precision(conditions.precisions.linear)
        except MissingFact:
            counts.refuse({NO_PRECISION: self.size})
            return
        label = {
            "chip": chip.name,
            "precision": deployment.precision,
            "kv_precision": conditions.precisions.kv,
            "weights_in": deployment.weights_in,
            "kv_in": deployment.kv_in,
            "speculation": drafting,
            "engine": conditions.software.asked_as,
            "overlap": deployment.overlap,
            "paid": paid,
        }
        room = room_for(model, conditions, chosen.layout, self.load, drafting)
        cannot = impossible(conditions.chip, chosen.layout, chosen.batches, deployment.overlap, room)
        possible = chosen.taken(counts.left(cannot, chosen.shape))  # found without pricing them
        counts.priced += possible.at.size
        if possible.at.size:
            figures = priced(model, conditions, possible, self.load, drafting)
            counts.keep(scenario, label, _columns(possible, figures, paid))
        if self.space.disaggregated:
            pairs = paired(model, conditions, chosen, scenario, self.space.max_chips, drafting, paid)
            if pairs is not None:
                counts.keep_pairs(scenario, chip, label, pairs)


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
