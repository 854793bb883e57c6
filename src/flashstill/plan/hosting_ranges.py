"""How sure the dollars of hosting are: P10 to P90 over the ranges of the fact rows, and the rows that drive them.

The middle of the ranges of cached prompts and thinking tokens, on its configuration; what is predicted of the chips
(rates, watts) stands still, and every price, life, ratio and load that comes from a row is drawn from its range.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flashstill.economics.bill_of_materials import Rows
from flashstill.economics.draws import Values
from flashstill.economics.sensitivity import drawn, drivers, interval
from flashstill.economics.tco import owned_chip, owned_hour, terms_of, usd_per_watt_hour
from flashstill.economics.token_kinds import KINDS
from flashstill.economics.token_prices import OWNER
from flashstill.plan.hosted import Hosted
from flashstill.units import HOURS_PER_DAY, TOKENS_PER_MILLION

COUNT, SEED = 4096, 0
REQUEST, BREAK_EVEN = "usd_per_request", "break_even_requests_per_day"


def ranges_of(found: Hosted) -> dict[str, Any]:
    """interval: P10, P50 and P90 of a request's dollars and of the break-even, None where hosting never pays.

    drivers: the rows that move a request's dollars.
    """

    def figures(rows: Rows) -> dict[str, Values]:
        own, first = _request_usd(found, rows), _first(found, rows)
        return {REQUEST: own} if first is None else {REQUEST: own, BREAK_EVEN: first}

    draws = drawn(found.facts, figures, COUNT, SEED)
    moved = drivers(found.facts, lambda rows: _request_usd(found, rows), COUNT, SEED)
    return {
        "interval": {name: interval(values) for name, values in draws.items()},
        "drivers": [each.as_dict() for each in moved],
    }


def _request_usd(found: Hosted, rows: Rows) -> Values:
    """Dollars of a request: at the volume asked for, or at the mean load."""
    replica, asked = found.middle.replica, found.asked
    load = rows.value("server", "utilisation_ratio") if asked.utilisation_ratio is None else asked.utilisation_ratio
    standing, power = _replica_usd(found, rows)
    given = replica.requests_per_day * load
    if asked.requests_per_day is None:
        return np.asarray(standing / given + power)
    needed = np.maximum(np.ceil(asked.requests_per_day / given * (1.0 - 1e-12)), float(asked.least_replicas))
    return np.asarray(needed * standing / asked.requests_per_day + power)


def _first(found: Hosted, rows: Rows) -> Values | None:
    """Requests a day from which hosting is cheaper; infinite where never; None without an API."""
    replica, asked = found.middle.replica, found.asked
    api = _api_usd(found, rows)
    if api is None:
        return None
    load = rows.value("server", "utilisation_ratio") if asked.utilisation_ratio is None else asked.utilisation_ratio
    standing, power = _replica_usd(found, rows)
    saved = np.asarray(api - power)
    pays = saved * replica.requests_per_day * load > standing
    return np.where(pays, asked.least_replicas * standing / np.where(pays, saved, 1.0), np.inf)


def _replica_usd(found: Hosted, rows: Rows) -> tuple[Any, Any]:
    """Dollars of a replica that stands for a day, and of a request's power beyond that."""
    replica, watts = found.middle.replica, found.middle.configuration.watts_per_chip
    a_day = replica.chips * HOURS_PER_DAY
    chip = None if found.owned is None else owned_chip(found.facts, found.chip, rows)
    if chip is None:
        return a_day * _rent(found, rows), 0.0
    terms = terms_of(rows, utilisation_ratio=1.0)
    beyond = np.maximum(watts - chip.idle_w, 0.0) * usd_per_watt_hour(terms, chip)
    hours = a_day / replica.requests_per_day  # chip-hours of a request
    return a_day * owned_hour(terms, chip, chip.idle_w).usd, beyond * hours


def _rent(found: Hosted, rows: Rows) -> Any:
    """The rent; within its row's range where the price is the chip's first row."""
    row = found.facts.find(found.chip, "usd_per_hour")
    used = row is not None and row.value == found.price.usd_per_hour and row.source in found.price.basis
    return rows.value(found.chip, "usd_per_hour") if used else found.price.usd_per_hour


def _api_usd(found: Hosted, rows: Rows) -> Any:
    """Dollars of a request at the API; within the ranges of its rows where it has them."""
    api, tokens = found.api, found.middle.tokens
    if api is None:
        return None
    owner = OWNER + api.name.lower()
    paid: Any = 0.0
    for kind in KINDS:
        row = found.facts.find(owner, f"usd_per_million_{kind}") or found.facts.find(owner, "usd_per_million_input")
        price = getattr(api, kind) if row is None else rows.value(row.name, row.quantity)
        paid = paid + price * getattr(tokens, kind) / TOKENS_PER_MILLION
    return paid
