"""What serving a model costs: the cheapest deployment within the latency bounds, and its dollars per million tokens.

A model of which only the parameters are known costs what the known model nearest to it does (in the logarithms of all
and of active parameters), times its active parameters over those: a labelled guess.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from flashstill.arch import known_models
from flashstill.economics.prices import earned_hour, hourly_price
from flashstill.errors import InfeasiblePlan, MissingFact
from flashstill.facts import Facts
from flashstill.family.models import Model, model_of
from flashstill.family.spec import Member, Serving
from flashstill.family.training import TOLD
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import Configuration, SearchSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """Dollars per million output tokens, their prompts included, and on what; or None and the reason why not.

    usd_per_chip_hour: of an hour by the search.  watts_per_chip: predicted.  owned: its chips are bought.
    """

    usd_per_million_tokens: float | None
    on: str
    price_basis: str = ""
    chip: str = ""
    usd_per_chip_hour: float | None = None
    tpot_s: float | None = None
    ttft_s: float | None = None
    joules_per_token: float | None = None
    watts_per_chip: float = 0.0
    owned: bool = False


def served(facts: Facts, model: Model, member: Member, serving: Serving, price: str) -> Served:
    """The cheapest way to serve a model. Raises MissingFact if none of the chips has a price."""
    if member.usd_per_million_tokens:
        return Served(usd_per_million_tokens=member.usd_per_million_tokens, on=TOLD, price_basis=TOLD)
    if model.architecture is None:
        return _as_the_nearest(facts, model, serving, price)
    scenario = Scenario(
        model=model.architecture,
        isl=serving.isl,
        osl=serving.osl,
        max_ttft_s=serving.max_ttft_s,
        max_tpot_s=serving.max_tpot_s,
    )
    space = SearchSpace(chips=serving.chips, max_chips=serving.max_chips, precisions=(serving.precision,))
    try:
        front = search(facts, scenario, space, price).front
    except InfeasiblePlan as refused:
        return Served(usd_per_million_tokens=None, on=str(refused))
    paid = [each for each in front if each.usd_per_million_output_tokens is not None]
    if not paid:
        raise MissingFact(f"none of serving.chips ({', '.join(serving.chips)}) has a price that is known")
    usd, best = min(((_earned_usd(facts, each, serving, price), each) for each in paid), key=lambda pair: pair[0])
    return Served(
        usd_per_million_tokens=usd,
        on=f"{best.chips} x {best.chip}, {best.batch} at a time, {best.precision}",
        price_basis=best.price_basis,
        chip=best.chip,
        usd_per_chip_hour=best.usd_per_chip_hour,
        tpot_s=best.tpot_s,
        ttft_s=best.ttft_s,
        joules_per_token=best.joules_per_output_token,
        watts_per_chip=best.watts_per_chip,
        owned=hourly_price(facts, best.chip, price).usd_per_watt_hour > 0.0,
    )


def _earned_usd(facts: Facts, found: Configuration, serving: Serving, price: str) -> float:
    """Dollars per million output tokens, with the hours in which the chips wait."""
    assert found.usd_per_million_output_tokens is not None
    hour = found.usd_per_chip_hour
    if serving.utilisation is None or not hour:
        return found.usd_per_million_output_tokens
    earned = earned_hour(facts, found.chip, price, found.watts_per_chip, serving.utilisation).usd_per_hour
    assert earned is not None  # it has a price
    return found.usd_per_million_output_tokens * earned / hour


def _as_the_nearest(facts: Facts, model: Model, serving: Serving, price: str) -> Served:
    if not model.active_parameters:
        return Served(usd_per_million_tokens=None, on="its size is not known")
    nearest = _nearest(model.parameters, model.active_parameters, serving.isl + serving.osl)
    found = served(facts, nearest, Member(), serving, price)
    if found.usd_per_million_tokens is None:
        return replace(found, on=f"as {nearest.name}: {found.on}")
    times = model.active_parameters / nearest.active_parameters
    return replace(
        found,
        usd_per_million_tokens=found.usd_per_million_tokens * times,
        on=f"{found.on}, priced as {times:.3g} x {nearest.name}",
        tpot_s=None,
        ttft_s=None,
        joules_per_token=None,
    )


@lru_cache(maxsize=64)
def _nearest(parameters: float, active_parameters: float, length: int) -> Model:
    """The known model of the nearest size that takes sequences of `length` tokens; of any, if none does."""

    def distance(known: Model) -> float:
        off = known.parameters / parameters, known.active_parameters / active_parameters
        return sum(abs(math.log(each)) for each in off)

    known = [model_of(name) for name in known_models()]
    long_enough = [each for each in known if each.architecture is not None and each.architecture.context >= length]
    return min(long_enough or known, key=distance)
