"""Chips hard-wired for one model.

maker's machine   with a row `hardwired_tokens_per_s`: the answer is the published rate, nothing is modelled
designed chip     with a row `wired_parameters` (hardware/wiring.py): priced as any chip, but its weights are neither
                  moved nor chosen, in a format that is not chosen either, and other models are refused
"""

from __future__ import annotations

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import Precisions
from flashstill.cost.conditions import CACHE_OF
from flashstill.economics import RENTED, hourly_price, usd_per_million_tokens
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.hardware import Chip
from flashstill.hardware.wiring import WIRING
from flashstill.plan.case import Case
from flashstill.plan.deployment import DEGREES, Deployment, asked_precision, known_precision
from flashstill.plan.prediction import Prediction
from flashstill.plan.scenario import check_scenario

RATE = "hardwired_tokens_per_s"


def is_hardwired(facts: Facts, chip: str) -> bool:
    """Whether the machine runs one model only; MissingFact for an unknown machine."""
    return facts.find(facts.machine(chip).name, RATE) is not None


def answer_hardwired(facts: Facts, case: Case, price: str = RENTED) -> Prediction:
    """The published rate of the hard-wired model; BadInput for another model or more than one chip.

    The condition of the fact row begins with the model's name.  No time to first token is published.
    """
    scenario, deployment = case
    machine = facts.machine(deployment.chip)
    rate = facts.get(machine.name, RATE)
    wired = rate.condition.split(",")[0]
    model = load_architecture(scenario.model) if isinstance(scenario.model, str) else scenario.model
    if not model.name.lower().startswith(wired.lower()):
        raise BadInput(f"{machine.name} is hard-wired for {wired} and runs nothing else, not {scenario.model_name}")
    for name in DEGREES:
        if getattr(deployment, name) not in (None, 1):
            raise BadInput(f"{machine.name} holds {wired} on one chip; {name} cannot be {getattr(deployment, name)}")
    if deployment.has_prefill_pool:
        raise BadInput(f"{machine.name} holds {wired} on one chip; leave the prefill pool out")
    check_scenario(scenario, model)
    # The published rate is for one user; several users share it.
    shared = scenario.batch / rate.value
    watts = facts.value(machine.name, "power_limit_w")
    paid = hourly_price(facts, machine.name, price)
    several = scenario.osl > 1
    return Prediction(
        fits=True,
        tpot_s=shared if several else None,
        tpot_low_s=scenario.batch / rate.high if several else None,
        tpot_high_s=scenario.batch / rate.low if several else None,
        output_tokens_per_s=rate.value,
        joules_per_output_token=watts / rate.value,
        watts_per_chip=watts,
        usd_per_million_output_tokens=usd_per_million_tokens(paid, 1.0, 1.0, rate.value),
        bound="wiring",
        note=f"the maker's figure, not modelled: {rate.condition} ({rate.source})",
        usd_per_chip_hour=paid.usd_per_hour,
        price_basis=paid.basis,
    )


def wired_formats(chip: Chip, model: Architecture, deployment: Deployment) -> Precisions | None:
    """The formats of a model on a chip that has it in its wiring; None for a chip that runs any model.

    Raises BadInput for another model, another format of the weights, or weights anywhere else.
    """
    wired = chip.wired
    if wired is None:
        return None
    if (model.name.lower(), model.parameters) != (wired.model.lower(), wired.parameters):
        raise BadInput(
            f"{chip.name} has {wired.model} in its wiring ({wired.parameters:,.0f} parameters) and runs nothing else,"
            f" not {model.name} ({model.parameters:,} parameters)"
        )
    asked = asked_precision(deployment.precision)
    if asked not in (None, known_precision(wired.precision)):
        raise BadInput(f"the weights of {chip.name} are wired in {wired.precision}; {asked} cannot be chosen")
    if deployment.weights_in not in (None, WIRING):
        raise BadInput(f"the weights of {chip.name} are in its wiring and nowhere else, not in {deployment.weights_in}")
    if deployment.kv_in == WIRING:
        raise BadInput(f"the wiring of {chip.name} holds weights and no cache; leave kv_in out")
    kv = known_precision(deployment.kv_precision) if deployment.kv_precision else None
    cache = kv or CACHE_OF.get(wired.precision, wired.precision)
    return Precisions(**dict.fromkeys(("linear", "attention", "experts", "exact"), wired.precision), kv=cache)


def check_draft(chip: Chip, draft: str | None) -> None:
    """BadInput for a draft on a chip that has one model, and no drafter, in its wiring."""
    if chip.wired and draft is not None:
        raise BadInput(f"{chip.name} has {chip.wired.model} in its wiring and no drafter; leave draft out")
