"""Asking what bears on the cost of tokens: every model on every chip, with elasticities, bindings and doublings."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flashstill.arch import Architecture
from flashstill.codesign.doubling import Gains, doubled, followed
from flashstill.codesign.elasticities import sensitivities
from flashstill.codesign.questions import Question
from flashstill.codesign.subjects import Subject, entries_of, subject_of
from flashstill.codesign.whatif_answer import Pair, WhatIfs, bindings_of
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import placements_of
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.space import SearchSpace, check_search, check_size, normalised
from flashstill.plan.tables import candidates


def what_ifs(
    facts: Facts,
    models: Sequence[Architecture],
    scenario: Scenario,
    space: SearchSpace,
    price: str,
    doubling: bool,
) -> WhatIfs:
    """Elasticities of every model on every chip of `space`; the scenario's model is ignored.

    doubling: also what a doubling of each number buys, and how far what binds stays what binds.
    Raises BadInput for an impossible question; InfeasiblePlan, with counted reasons, if no pair has a feasible
    configuration.
    """
    if scenario.osl == 1:
        raise BadInput("with one output token nothing is decoded, so that it has no seconds per token; raise osl")
    space = normalised(facts, space)
    subjects = [subject_of(facts, name, price, space.tiers) for name in space.chips]
    reasons: Counter[str] = Counter()
    known: dict[Any, Any] = {}
    pairs = [
        pair
        for model in models
        for pair in _of_model(facts, model, _asked(scenario, model), space, subjects, doubling, reasons, known)
    ]
    if not any(pair.sensitivity.optima for pair in pairs):
        names = ", ".join(model.name for model in models)
        raise InfeasiblePlan(f"nothing serves {names} within these bounds", dict(reasons))
    return WhatIfs(pairs=tuple(pairs), notes=_notes(pairs, doubling))


def _asked(scenario: Scenario, model: Architecture) -> Scenario:
    return replace(scenario, model=model)


def _of_model(
    facts: Facts,
    model: Architecture,
    scenario: Scenario,
    space: SearchSpace,
    subjects: Sequence[Subject],
    doubling: bool,
    reasons: Counter[str],
    known: dict[Any, Any],
) -> list[Pair]:
    check_search(scenario, model, space)
    possible, refused = layouts_of(model, space.max_chips, space.redundant_experts)
    placements = [placements_of(space, subject.chip) for subject in subjects]
    combinations = len(space.precisions) * len(space.kv_precisions) * len(space.overlaps)
    check_size(len(possible), len(space.batches), sum(len(each) for each in placements) * combinations)
    chosen = candidates(possible, refused, space.batches)
    question = Question(model=model, scenario=scenario, chosen=chosen, stacks=known)
    counted = [Counter({why: times * len(space.batches) for why, times in refused.items()}) for _ in subjects]
    configurations = chosen.shape[0] * chosen.shape[1]
    entries = entries_of(facts, model, subjects, space, placements, counted, configurations, known)
    entries = entries if possible else []
    found = sensitivities(question, subjects, entries, counted)
    pairs = []
    for place, (subject, one) in enumerate(zip(subjects, found, strict=True)):
        reasons.update(one.infeasible)
        binding = bindings_of(subject.parameters, one.elasticities)
        gains: Gains = {}
        if doubling and one.optima:
            mine = [replace(entry, subject=0) for entry in entries if entry.subject == place]
            gains = doubled(question, subject, mine, one)
            binding = followed(question, subject, mine, binding)
        pairs.append(
            Pair(
                model=model.name,
                chip=subject.chip.name,
                parameters=subject.parameters,
                sensitivity=one,
                binding=binding,
                doubling=gains,
                price_basis=subject.price.basis,
            )
        )
    return pairs


def _notes(pairs: Sequence[Pair], doubling: bool) -> tuple[str, ...]:
    notes = []
    without = [f"{pair.model} on {pair.chip}" for pair in pairs if not pair.sensitivity.optima]
    if without:
        notes.append(f"no feasible configuration: {', '.join(without[:8])}{' and others' if len(without) > 8 else ''}")
    unpriced = dict.fromkeys(
        pair.chip for pair in pairs if pair.sensitivity.optima and "usd" not in pair.sensitivity.optima
    )
    if unpriced:
        notes.append(f"no price is known of {', '.join(itertools.islice(unpriced, 12))}: no elasticities of dollars")
    if not doubling:
        notes.append("doublings were not asked for (--doubling)")
    return tuple(notes)
