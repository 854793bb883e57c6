"""Machines with one model in their wiring: there is nothing to model, so that the maker's figure is the answer."""

from __future__ import annotations

from flashstill.economics import hourly_price
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import Facts
from flashstill.plan.case import Case, Prediction
from flashstill.plan.resolve import architecture
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION

RATE = "hardwired_tokens_per_s"


def is_hardwired(facts: Facts, chip: str) -> bool:
    """Whether the machine runs one model only; MissingFact for an unknown machine."""
    return facts.find(facts.machine(chip).name, RATE) is not None


def answer_hardwired(facts: Facts, case: Case) -> Prediction:
    """The published rate of the model in the wiring; BadInput for another model or more than one chip.

    The row's condition begins with the model's name.  No time to first token is published.
    """
    machine = facts.machine(case.chip)
    rate = facts.get(machine.name, RATE)
    wired = rate.condition.split(",")[0]
    if not architecture(case.model).name.lower().startswith(wired.lower()):
        raise BadInput(f"{machine.name} has {wired} in its wiring and runs nothing else, not {case.model}")
    given = {"chips": case.chips, "tp": case.tp, "pp": case.pp, "ep": case.ep, "dp": case.dp}
    for name, value in given.items():
        if value not in (None, 1):
            raise BadInput(f"{machine.name} holds {wired} on one chip; {name} cannot be {value}")
    if min(case.isl, case.osl, case.concurrency) < 1:
        raise BadInput("isl, osl and concurrency must be at least 1")
    # One user at a time gets all of the rate; more of them share it.
    shared = case.concurrency / rate.value
    watts = facts.value(machine.name, "power_limit_w")
    try:
        usd_per_s: float | None = hourly_price(facts, machine.name).usd_per_hour / SECONDS_PER_HOUR
    except MissingFact:
        usd_per_s = None
    return Prediction(
        fits=True,
        tpot_s=shared,
        tpot_low_s=case.concurrency / rate.high,
        tpot_high_s=case.concurrency / rate.low,
        output_tokens_per_s=rate.value,
        joules_per_output_token=watts / rate.value,
        watts_per_chip=watts,
        usd_per_million_output_tokens=None if usd_per_s is None else usd_per_s / rate.value * TOKENS_PER_MILLION,
        bound="wiring",
        note=f"the maker's figure, not modelled: {rate.condition} ({rate.source})",
    )
