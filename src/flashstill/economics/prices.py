"""What an hour of a chip costs, and a million tokens with it.

    rented:  the price row of the chip
    owned:   purchase x server ratio / (lifetime x utilisation) + power limit x server ratio x PUE x electricity

A chip without a rental row is priced as owned; the basis is always said.
"""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.errors import MissingFact
from flashstill.facts import Facts
from flashstill.units import HOURS_PER_YEAR, JOULES_PER_KWH, SECONDS_PER_HOUR, TOKENS_PER_MILLION
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class HourlyPrice:
    """Dollars an hour of one chip, and where the figure comes from."""

    usd_per_hour: float
    basis: str


def hourly_price(facts: Facts, name: str) -> HourlyPrice:
    """The rental row of chip `name`, or what owning it costs; MissingFact where neither can be told."""
    machine = facts.machine(name)
    rented = facts.find(machine.name, "usd_per_hour")
    if rented is not None:
        return HourlyPrice(usd_per_hour=rented.value, basis=f"rented: {rented.source}, {rented.as_of}")
    bought = facts.find(machine.name, "usd_purchase")
    if bought is None:
        raise MissingFact(f"no fact row gives usd_per_hour or usd_purchase of {machine.name}; add one with --facts DIR")
    hours = facts.value("server", "lifetime_years") * HOURS_PER_YEAR * facts.value("server", "utilisation_ratio")
    whole = bought.condition.endswith("system")  # the price already holds the server
    capital = bought.value * (1.0 if whole else facts.value("server", "capital_ratio")) / hours
    watts = facts.value(machine.name, "power_limit_w") * facts.value(machine.chip_class, "server_power_ratio")
    energy = watts * SECONDS_PER_HOUR / JOULES_PER_KWH * facts.value("facility", "pue_ratio")
    return HourlyPrice(
        usd_per_hour=capital + energy * facts.value("facility", "usd_per_kwh"),
        basis=f"owned: {bought.source}, {bought.as_of}, over {facts.value('server', 'lifetime_years'):g} years",
    )


def usd_per_million_tokens(price: HourlyPrice, seconds: Quantity, chips: Quantity, tokens: Quantity) -> Quantity:
    """Dollars per million tokens of a step of `seconds` on `chips` that yields `tokens`."""
    return price.usd_per_hour * chips * seconds / SECONDS_PER_HOUR / tokens * TOKENS_PER_MILLION
