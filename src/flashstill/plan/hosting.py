"""What serving a model costs per token and per day on the chips that a search finds, beside the price of an API.

The share of prompts found in a cache and the thinking tokens are ranges: every corner of them gets its own
configuration of the same chip, the cheapest within the bounds, and answers are spans over the corners.  The middle of
both ranges is the value.  A day is served by whole replicas (economics/self_hosting.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from flashstill.arch import Architecture, load_architecture
from flashstill.economics import HourlyPrice, hourly_price
from flashstill.economics.self_hosting import break_even, replica_of, replicas_for
from flashstill.economics.tco import OwnedChip, Terms, owned_chip, owned_hour, terms_of
from flashstill.economics.token_kinds import KINDS
from flashstill.economics.token_prices import TokenPrice, tokens_of
from flashstill.errors import BadInput, InfeasiblePlan, check_counts
from flashstill.facts import Facts
from flashstill.plan.hosted import Corner, Hosted, Hosting
from flashstill.plan.priced_chips import priced_chips
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import Configuration, SearchSpace
from flashstill.units import TOKENS_PER_MILLION

FEWEST, MOST = 16, 1024
"""chips of a replica at the most, if the user names no number: doubled from the first until the model fits"""
LEAST_LOAD, MOST_PER_DAY = 0.01, 1e20
"""mean load over the day, of what a replica could do, as the fact row server.utilisation_ratio may be at the least"""


def host(facts: Facts, asked: Hosting, api: TokenPrice | None = None) -> Hosted:
    """Search the chips, price every corner, and compare with the API.

    Raises BadInput for impossible numbers or where no price is known, InfeasiblePlan if no configuration fits.
    """
    model = load_architecture(asked.model) if isinstance(asked.model, str) else asked.model
    utilisation = asked.utilisation_ratio
    utilisation = facts.value("server", "utilisation_ratio") if utilisation is None else utilisation
    _check(asked, utilisation)
    cached, thinking = (sum(span) / 2.0 for span in (asked.cached_ratio, asked.thinking_ratio))
    named = tuple(facts.machine(name).name for name in asked.chips) or priced_chips(facts, asked.price)
    for name in named:
        if hourly_price(facts, name, asked.price).usd_per_hour is None:
            raise BadInput(f"no price is known of {name}; give one with --set {name}.usd_per_hour=2, or --facts DIR")
    best = _cheapest(facts, asked, model, named, cached, thinking)
    price = hourly_price(facts, best.chip, asked.price)
    chip = owned_chip(facts, best.chip) if price.usd_per_watt_hour else None
    owned = None if chip is None else (terms_of(facts, utilisation_ratio=1.0), chip)
    ends = dict.fromkeys(itertools.product(asked.cached_ratio, asked.thinking_ratio))
    corners = [_corner(facts, asked, best, owned, price, api, utilisation, (cached, thinking))]
    for end in ends:
        if end != (cached, thinking):
            found = _cheapest(facts, asked, model, (best.chip,), *end)
            corners.append(_corner(facts, asked, found, owned, price, api, utilisation, end))
    return Hosted(
        facts=facts,
        asked=asked,
        model=model,
        chip=best.chip,
        price=price,
        utilisation_ratio=utilisation,
        owned=owned,
        hour=None if owned is None else owned_hour(*owned, best.watts_per_chip),
        api=api,
        corners=tuple(corners),
    )


def scenario_of(asked: Hosting, model: Architecture, cached_ratio: float, thinking_ratio: float) -> Scenario:
    """Steady traffic of requests at one point of the ranges. A single token has no time per output token to bound."""
    osl = max(round(asked.osl * (1.0 + thinking_ratio)), 1)
    return Scenario(
        model=model,
        isl=asked.isl,
        osl=osl,
        burst_share=0.0,
        cached_ratio=cached_ratio,
        max_ttft_s=asked.max_ttft_s,
        max_tpot_s=None if osl == 1 else asked.max_tpot_s,
    )


def _cheapest(
    facts: Facts, asked: Hosting, model: Architecture, chips: Sequence[str], cached: float, thinking: float
) -> Configuration:
    """The configuration of the fewest dollars per token; of equally dear ones, the fastest."""
    scenario, most = scenario_of(asked, model, cached, thinking), asked.max_chips or FEWEST
    while True:
        space = SearchSpace(
            chips=tuple(chips),
            max_chips=most,
            precisions=(asked.precision,),
            engine=asked.engine,
            overlaps=asked.overlaps,
            redundant_experts=asked.redundant_experts,
            disaggregated=asked.disaggregated,
        )
        try:
            front = search(facts, scenario, space, asked.price).front
        except InfeasiblePlan:
            if asked.max_chips is not None or most >= MOST:
                raise
            most *= 2
            continue
        return min(front, key=_dearness)


def _dearness(point: Configuration) -> tuple[float, float]:
    usd = point.usd_per_million_output_tokens
    return math.inf if usd is None else usd, -point.tokens_per_s_per_chip


def most_chips(asked: Hosting, chosen: int) -> int:
    """The most chips of a replica that were tried, where one of `chosen` was found."""
    most = asked.max_chips or FEWEST
    while most < chosen:
        most *= 2
    return most


def _corner(
    facts: Facts,
    asked: Hosting,
    found: Configuration,
    owned: tuple[Terms, OwnedChip] | None,
    price: HourlyPrice,
    api: TokenPrice | None,
    utilisation: float,
    place: tuple[float, float],
) -> Corner:
    tokens = tokens_of(float(asked.isl), float(asked.osl), *place)
    machine = facts.machine(found.chip)
    replica = replica_of(
        found.chips,
        found.output_tokens_per_s / tokens.output,
        found.watts_per_chip,
        price,
        owned,
        facts.value(machine.name, "idle_w"),
        facts.value(machine.chip_class, "server_power_ratio") * facts.value("facility", "pue_ratio"),
    )
    prices = {kind: getattr(found, f"{kind}_usd_per_million_tokens") or 0.0 for kind in KINDS}
    api_usd, requests = None if api is None else api.usd(tokens), asked.requests_per_day
    return Corner(
        cached_ratio=place[0],
        thinking_ratio=place[1],
        tokens=tokens,
        configuration=found,
        replica=replica,
        parts={kind: prices[kind] * getattr(tokens, kind) / TOKENS_PER_MILLION for kind in KINDS},
        api_usd=api_usd,
        break_even=None if api_usd is None else break_even(replica, api_usd, utilisation, asked.least_replicas),
        replicas=None if requests is None else replicas_for(requests, replica, utilisation, asked.least_replicas),
    )


def _check(asked: Hosting, utilisation: float) -> None:
    check_counts({"max_chips": asked.max_chips, "least_replicas": asked.least_replicas})
    if not LEAST_LOAD <= utilisation <= 1.0:
        raise BadInput(f"utilisation must be at least {LEAST_LOAD:g} and at most 1, not {utilisation:g}")
    for number in asked.redundant_experts:
        if number is not None and number < 0:
            raise BadInput(f"redundant_experts must be at least 0, not {number}")
    for name, span, most in (
        ("cached", asked.cached_ratio, 1.0), ("thinking", asked.thinking_ratio, 1000.0),
    ):  # fmt: skip
        low, high = span
        if not 0.0 <= low <= high <= most:
            raise BadInput(
                f"{name} is {low:g} to {high:g}; it must be LOW,HIGH from 0 to {most:g}, the lower end first"
            )
    if asked.requests_per_day is not None and not 0.0 < asked.requests_per_day <= MOST_PER_DAY:
        raise BadInput(f"requests_per_day must be above 0 and at most {MOST_PER_DAY:g}, not {asked.requests_per_day:g}")
