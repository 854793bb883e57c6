"""Exhaustive search over chips, counts, layouts, batches, precisions, placements and speculation.

Every configuration is priced in time, energy, dollars and fit (plan/tables.py).  Infeasible ones are counted by reason.
The front keeps what no other configuration beats in time per output token, tokens/s per chip, joules and dollars per
token at once.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.cost import make_conditions
from flashstill.economics import HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.errors import InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts
from flashstill.plan.crossover import weights_dominate_below
from flashstill.plan.deployment import engine_of, formats_of
from flashstill.plan.front import Values, non_dominated
from flashstill.plan.question import NOT_FITTING, OBJECTIVES, Found, Point, Question, check, check_size
from flashstill.plan.tables import Candidates, Degrees, Priced, candidates, layouts_of, priced


@dataclass(frozen=True, slots=True)
class _Table:
    """The front of one kind of configurations: what they have in common, and their figures."""

    label: dict[str, Any]
    columns: dict[str, Values]


def search(facts: Facts, question: Question) -> Found:
    """Evaluate everything; InfeasiblePlan where nothing is feasible, with the reasons counted."""
    check(question)
    started = time.perf_counter()
    reasons: Counter[str] = Counter()
    tables: list[_Table] = []
    prices: dict[str, HourlyPrice] = {}
    chosen = candidates(*_layouts(facts, question), question.batches)
    layouts, batches = chosen.shape
    refused = {reason: times * batches for reason, times in chosen.refused.items()}
    evaluated = priced_ones = feasible = 0
    for name in question.chips:
        chip = chip_from_facts(facts, name)
        prices[chip.name] = paid = hourly_price(facts, name, question.price)
        software = engine_of(facts, chip, question.engine)
        for precision, kv, (weights, cache), speculation in itertools.product(
            question.precisions, question.kv_precisions, _placements(question, chip), question.speculations
        ):
            evaluated += layouts * batches + sum(refused.values())
            reasons.update(refused)
            precisions = formats_of(question.model, precision, kv)
            try:
                chip.precision(precisions.linear)
            except MissingFact:
                reasons["the chip lacks the precision"] += layouts * batches
                continue
            skew = facts.value("routing", "skew_exponent")
            conditions = make_conditions(chip, precisions, weights, cache, software, skew)
            found = priced(question.model, conditions, chosen, question.isl, question.osl, speculation)
            priced_ones += layouts * batches
            label = {
                "chip": chip.name,
                "precision": precision,
                "kv_precision": precisions.kv,
                "weights_in": weights,
                "kv_in": cache,
                "speculation": speculation,
                "engine": software.name,
                "usd_per_chip_hour": paid.usd_per_hour,
                "price_basis": paid.basis,
            }
            columns = _figures(chosen, found, paid)
            feasible += _keep(question, chip, chosen, label, columns, found, reasons, tables)
    if not feasible:
        raise InfeasiblePlan(f"nothing serves {question.model.name} within these bounds", dict(reasons))
    return Found(
        evaluated=evaluated,
        priced=priced_ones,
        feasible=feasible,
        seconds=time.perf_counter() - started,
        infeasible=dict(reasons),
        weights_dominate_below={name: _crossover(facts, question, name) for name in question.chips},
        front=_front(tables, question.osl > 1),
        prices=prices,
        note=question.model.note,
    )


def _layouts(facts: Facts, question: Question) -> tuple[list[Degrees], Counter[str]]:
    """Of the model on so many chips; BadInput where too much would have to be priced with them."""
    found, refused = layouts_of(question.model, question.max_chips)
    placements = sum(len(_placements(question, chip_from_facts(facts, name))) for name in question.chips)
    formats = len(question.precisions) * len(question.kv_precisions)
    check_size(len(found), len(question.batches), placements * formats * len(question.speculations))
    return found, refused


def _crossover(facts: Facts, question: Question, name: str) -> int | None:
    """With the first of the precisions that are asked for."""
    precisions = formats_of(question.model, question.precisions[0], question.kv_precisions[0])
    try:
        conditions = make_conditions(chip_from_facts(facts, name), precisions)
        return weights_dominate_below(question.model, conditions, question.isl + question.osl / 2.0)
    except (MissingFact, InfeasiblePlan):
        return None


def _placements(question: Question, chip: Chip) -> list[tuple[str, str]]:
    """Tiers for weights and for the cache: every pair of those that are asked for and that the chip has."""
    names = [tier.name for tier in chip.tiers if tier.name in question.tiers]
    return list(itertools.product(names, names))


def _figures(chosen: Candidates, found: Priced, paid: HourlyPrice) -> dict[str, Values]:
    pace, chips = found.pace, np.asarray(chosen.layout.chips)
    rate = np.asarray(pace.output_tokens_per_s)
    dollars = usd_per_million_tokens(paid, 1.0, chips, rate)
    columns: dict[str, Any] = {
        "tpot_s": pace.tpot_s,
        "ttft_s": pace.ttft_s,
        "output_tokens_per_s": rate,
        "tokens_per_s_per_chip": rate / chips,
        "joules_per_output_token": pace.joules_per_output_token,
        "usd_per_million_output_tokens": np.inf if dollars is None else dollars,  # no price never wins
        "watts_per_chip": pace.watts_per_chip,
        "chips": chips,
        "batch": chosen.batches,
        **dict(zip(("tp", "pp", "ep", "dp"), chosen.degrees, strict=True)),
    }
    return {name: np.broadcast_to(column, chosen.shape) for name, column in columns.items()}


def _keep(
    question: Question,
    chip: Chip,
    chosen: Candidates,
    label: dict[str, Any],
    columns: dict[str, Values],
    found: Priced,
    reasons: Counter[str],
    tables: list[_Table],
) -> int:
    """Count what is infeasible by its first reason, put the front of the rest into `tables`; how many remain."""
    layout, batches = chosen.layout, chosen.batches
    open_to = np.ones(chosen.shape, dtype=bool)
    for reason, refused in (
        ("the chip has no links: it stands alone", np.asarray(layout.chips > 1) & (not chip.topology.link_bytes_per_s)),
        (NOT_FITTING, found.room < batches),
        ("batch does not fill every group", batches < np.asarray(layout.dp)),
        ("ttft above the bound", columns["ttft_s"] > (question.max_ttft_s or np.inf)),
        ("tpot above the bound", columns["tpot_s"] > (question.max_tpot_s or np.inf)),
        ("throughput below the bound", columns["output_tokens_per_s"] < (question.min_tokens_per_s or 0.0)),
    ):
        hit = int(np.count_nonzero(open_to & refused))
        if hit:
            reasons[reason] += hit
            open_to &= ~refused
    left = np.flatnonzero(open_to)
    if len(left):
        best = left[non_dominated(_costs([columns[name].reshape(-1)[left] for name in OBJECTIVES]))]
        tables.append(_Table(label, {name: column.reshape(-1)[best] for name, column in columns.items()}))
    return len(left)


def _costs(columns: Sequence[Values]) -> Values:
    """OBJECTIVES as columns in which less is better."""
    signs = [-1.0 if name == "tokens_per_s_per_chip" else 1.0 for name in OBJECTIVES]
    return np.stack([sign * column for sign, column in zip(signs, columns, strict=True)], axis=1)


def _front(tables: Sequence[_Table], several: bool) -> tuple[Point, ...]:
    """The non-dominated points of all tables, fastest first. several: whether tokens follow the first."""
    sizes = [len(table.columns["tpot_s"]) for table in tables]
    owner = np.repeat(np.arange(len(tables)), sizes)
    place = np.concatenate([np.arange(size) for size in sizes])
    costs = _costs([np.concatenate([table.columns[name] for table in tables]) for name in OBJECTIVES])
    chosen = sorted(non_dominated(costs), key=lambda index: float(costs[index, 0]))
    return tuple(_point(tables[int(owner[index])], int(place[index]), several) for index in chosen)


def _point(table: _Table, index: int, several: bool) -> Point:
    values: dict[str, Any] = {name: float(column[index]) for name, column in table.columns.items()}
    for name in ("chips", "batch", "tp", "pp", "ep", "dp"):
        values[name] = round(values[name])
    if not several:
        values["tpot_s"] = None
    label = dict(table.label)
    if label["usd_per_chip_hour"] is None:
        values["usd_per_million_output_tokens"] = None
    speculation = label.pop("speculation")
    drafted = speculation.tokens if speculation else 0
    drafts = speculation.draft.name if speculation and speculation.draft else ""
    return Point(**label, **values, speculated_tokens=drafted, draft=drafts)
