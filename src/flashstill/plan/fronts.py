"""The Pareto front of a search: tables of configurations, and the points of their common front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.frontier import Values, non_dominated
from flashstill.plan.deployment import PREFILL_FIELDS
from flashstill.plan.kinds import usd_by_kind
from flashstill.plan.layouts import Degrees
from flashstill.plan.scenario import Scenario
from flashstill.plan.space import OBJECTIVES, Configuration

SHARES = ("input_share", "cached_share")
"""columns of a table, of the seconds that requests take"""


@dataclass(frozen=True, slots=True)
class Table:
    """Pareto front of configurations that share chip, precision, placement and draft, with their figures."""

    label: dict[str, Any]
    columns: dict[str, Values]


def costs_of(columns: Sequence[Values]) -> Values:
    """OBJECTIVES as columns to minimise."""
    signs = [-1.0 if name == "tokens_per_s_per_chip" else 1.0 for name in OBJECTIVES]
    return np.stack([sign * column for sign, column in zip(signs, columns, strict=True)], axis=1)


def front_of(tables: Sequence[Table], scenario: Scenario) -> tuple[Configuration, ...]:
    """Pareto front of all tables, fastest first."""
    sizes = [len(table.columns["tpot_s"]) for table in tables]
    owner = np.repeat(np.arange(len(tables)), sizes)
    place = np.concatenate([np.arange(size) for size in sizes])
    costs = costs_of([np.concatenate([table.columns[name] for table in tables]) for name in OBJECTIVES])
    chosen = sorted(non_dominated(costs), key=lambda index: float(costs[index, 0]))
    return tuple(_point(tables[int(owner[index])], int(place[index]), scenario) for index in chosen)


def worth_of(tables: Sequence[Table]) -> dict[str, dict[str, float | None]]:
    """The best value of each objective with a draft and without one, over all feasible configurations; None if there
    is no such configuration, or no price."""
    worth = {}
    for name in OBJECTIVES:
        best = max if name == "tokens_per_s_per_chip" else min
        values: dict[str, list[float]] = {"with": [], "without": []}
        for table in tables:
            side = "with" if table.label["speculation"] else "without"
            values[side] += [float(each) for each in table.columns[name] if np.isfinite(each)]
        worth[name] = {side: best(each) if each else None for side, each in values.items()}
    return worth


def _point(table: Table, index: int, scenario: Scenario) -> Configuration:
    values: dict[str, Any] = {name: float(column[index]) for name, column in table.columns.items()}
    for name in ("chips", "batch", *Degrees._fields, *PREFILL_FIELDS):
        if name in values:
            values[name] = round(values[name])
    if scenario.osl == 1:
        values["tpot_s"] = None
    label = dict(table.label)
    paid = label.pop("paid").at(values["watts_per_chip"])
    label |= {"usd_per_chip_hour": paid.usd_per_hour, "price_basis": paid.basis}
    if paid.usd_per_hour is None:
        values["usd_per_million_output_tokens"] = None
    values |= usd_by_kind(scenario, values["usd_per_million_output_tokens"], *map(values.pop, SHARES))
    speculation = label.pop("speculation")
    drafted = speculation.tokens if speculation else 0
    drafts = speculation.draft.name if speculation and speculation.draft else ""
    return Configuration(**label, **values, speculated_tokens=drafted, draft=drafts)
