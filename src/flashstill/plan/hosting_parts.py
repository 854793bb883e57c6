"""Parts of the answer about hosting: what a price is made of, power by place, keeping a cache, carbon, assumptions."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from flashstill.economics.footprint import carbon_row, water_row
from flashstill.economics.tco import TERM_ROWS, annuity
from flashstill.facts import Fact
from flashstill.plan.case import Case
from flashstill.plan.deployment import PREFILL, Deployment
from flashstill.plan.explain import explain
from flashstill.plan.hosted import Hosted
from flashstill.plan.hosting import scenario_of
from flashstill.plan.predict import predict
from flashstill.units import HOURS_PER_DAY, HOURS_PER_YEAR, SECONDS_PER_HOUR, TOKENS_PER_MILLION


def steps_of(found: Hosted) -> list[dict[str, Any]]:
    """What a million output tokens (thinking included, prompts paid by them) cost, part by part up to the whole."""
    middle, requests = found.middle, found.asked.requests_per_day
    chosen = middle.configuration
    whole = middle.usd_per_request(requests, found.utilisation_ratio) / middle.tokens.output * TOKENS_PER_MILLION
    hours = chosen.chips / chosen.output_tokens_per_s / SECONDS_PER_HOUR * TOKENS_PER_MILLION  # chip-hours of a million
    source = found.price.at(chosen.watts_per_chip).basis
    if found.hour is None:
        parts = {"rent": (found.price.usd_per_hour or 0.0) * hours}
        sources = {"rent": source}
    else:
        parts = {name: float(dollars) * hours for name, dollars in found.hour.parts().items()}
        sources = {name: _source_of(found, name, source) for name in parts}
    idle = whole - sum(parts.values())
    reason = f"whole replicas at {middle.replicas} x {found.utilisation_ratio:.0%} of their rate or less"
    if requests is None:
        reason = f"a mean load of {found.utilisation_ratio:.0%} of the full rate"
    steps = [{"name": name, "usd": dollars, "source": sources[name]} for name, dollars in parts.items()]
    return [*steps, {"name": "hours without work", "usd": idle, "source": reason}]


_ROWS_OF_PARTS = {
    "server": ("server", "capital_ratio"),
    "network": ("network", "capital_share_ratio"),
    "building": ("building", "usd_per_w"),
    "interest": ("capital", "interest_ratio"),
    "power": ("facility", "usd_per_kwh"),
}


def _source_of(found: Hosted, part: str, otherwise: str) -> str:
    row = found.facts.get(*_ROWS_OF_PARTS[part]) if part in _ROWS_OF_PARTS else None
    return otherwise if row is None else f"{row.source}, {row.as_of}"


def power_of(found: Hosted) -> dict[str, Any]:
    """Where the power goes, by the shares of a decode step; dollars only where the chips are owned."""
    chosen = found.middle.configuration
    step = explain(found.facts, *_case(found), found.asked.price)
    joules = {level: value for level, value in step.joules_per_token.items() if level != "total" and value}
    whole = sum(joules.values())
    dollars = None if found.hour is None else float(found.hour.power_usd)
    hours = chosen.chips / chosen.output_tokens_per_s / SECONDS_PER_HOUR * TOKENS_PER_MILLION
    return {
        "watts_per_chip": chosen.watts_per_chip,
        "joules_per_output_token": chosen.joules_per_output_token,
        "decode_share_by_place": {level: value / whole for level, value in joules.items()},
        "usd_per_million_output_tokens_by_place": None
        if dollars is None
        else {level: dollars * hours * value / whole for level, value in joules.items()},
    }


def _case(found: Hosted) -> Case:
    """The middle of the ranges on its configuration; of two pools, on the one that decodes."""
    chosen, middle = found.middle.configuration, found.middle
    layout = {
        each.name: getattr(chosen, each.name)
        for each in fields(Deployment)
        if not each.name.startswith(PREFILL) and each.name not in ("topology", "sampling", "chips")
    }
    scenario = scenario_of(found.asked, found.model, middle.cached_ratio, middle.thinking_ratio)
    return Case(replace(scenario, batch=chosen.batch), Deployment(**layout))


def keeping_of(found: Hosted) -> dict[str, Any]:
    """Dollars to keep the cache of a million tokens for an hour: in the host's memory, or in that of the chips."""
    middle, facts = found.middle, found.facts
    (answer,) = predict(facts, [_case(found)], found.asked.price)
    per_token, room = answer.kv_bytes_per_token or 0.0, answer.cache_room_bytes or 0.0
    memory, years = facts.get("host-memory", "usd_per_byte"), facts.value("server", "lifetime_years")
    yearly = memory.value * float(annuity(facts.value("capital", "interest_ratio"), years))
    in_chips = middle.replica.standing_usd / HOURS_PER_DAY * per_token / room if room else None
    return {
        "cache_bytes_per_token": per_token,
        "host_usd_per_million_token_hours": yearly / HOURS_PER_YEAR * per_token * TOKENS_PER_MILLION,
        "chip_usd_per_million_token_hours": None if in_chips is None else in_chips * TOKENS_PER_MILLION,
        "source": f"{memory.source}; in the chips' memory: as if it were all that a replica is paid for",
    }


def footprint_of(found: Hosted, grid: str, kwh: float, requests: float) -> dict[str, Any]:
    """CO2 and water by token and by day. kwh: at the wall, of a day with so many requests; grid: of its power."""
    carbon, water = carbon_row(found.facts, grid), water_row(found.facts)
    tokens = requests * found.middle.tokens.output

    def spread(row: Fact, scale: float) -> dict[str, float]:
        return {"low": row.low * scale, "value": row.value * scale, "high": row.high * scale}

    return {
        "grid": grid.lower(),
        "kwh_per_day": kwh,
        "co2_g_per_million_output_tokens": spread(carbon, kwh / tokens * TOKENS_PER_MILLION),
        "co2_kg_per_day": spread(carbon, kwh / 1e3),
        "water_l_per_million_output_tokens": spread(water, kwh / tokens * TOKENS_PER_MILLION),
        "water_l_per_day": spread(water, kwh),
        "sources": [f"{carbon.source}, {carbon.as_of}", f"{water.source}, {water.as_of}"],
    }


def assumptions_of(found: Hosted, grid: str) -> list[dict[str, Any]]:
    """Every number of a fact row in the answer, with its range, source and date."""
    facts, rows = found.facts, []
    if found.owned is not None:
        kept = {name: row for name, row in TERM_ROWS.items() if name != "utilisation_ratio"}
        rows += [facts.get(*row) for row in kept.values()]
        rows += [facts.get(found.chip, "usd_purchase"), facts.get(found.chip, "power_limit_w")]
    else:
        rents = facts.rows.get((found.chip, "usd_per_hour"), ())
        rows += [row for row in rents if f"{row.source}, {row.as_of}" in found.price.basis][:1]
        rows.append(facts.get("facility", "pue_ratio"))
    rows.append(facts.get(found.chip, "idle_w"))
    rows.append(facts.get(facts.machine(found.chip).chip_class, "server_power_ratio"))
    if found.asked.utilisation_ratio is None:
        rows.append(facts.get("server", "utilisation_ratio"))
    rows += [carbon_row(facts, grid), water_row(facts), facts.get("host-memory", "usd_per_byte")]
    if found.owned is None:  # a host's memory is paid over the life of its server
        rows += [facts.get("server", "lifetime_years"), facts.get("capital", "interest_ratio")]
    return [{name: getattr(row, name) for name in _OF_A_ROW} for row in rows]


_OF_A_ROW = ("name", "quantity", "value", "low", "high", "unit", "kind", "source", "as_of")
