"""The answer as a JSON document; figures without an interval are P50."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from flashstill.asic.design import HARDWIRED
from flashstill.asic.nre import rewiring_usd
from flashstill.asic.schedule import Schedule
from flashstill.asic.terms import Decision
from flashstill.asic.trial import Trial, VariantAnswer
from flashstill.asic.unit import owned_package, package_parts
from flashstill.asic.verdict import Verdict, curve_of, drivers_of, training_shares, two_for_two, yearly_bill
from flashstill.economics.bill_of_materials import sold_ratio
from flashstill.economics.wafers import dies_per_wafer, wafer_of
from flashstill.units import SECONDS_PER_HOUR

_SECONDS_PER_DAY = 24.0 * SECONDS_PER_HOUR


def variant_document(one: VariantAnswer) -> dict[str, Any]:
    """All figures of one variant."""
    decision, question = one.best.point.decision, one.question
    facts, design, volume = decision.facts, decision.design, question.tokens_per_day
    terms, found = decision.programme(facts), one.verdict
    return {
        "pays": found.pays,
        "variant": design.variant,
        "node": f"n{design.node_nm}",
        **_money(found),
        "break_even_date": {name: question.day(years) for name, years in found.payback_years.items()},
        "break_even_alternative_usd_per_year": yearly_bill(found.alternative_usd["p50"], found.break_even["p50"]),
        "at_values": at_values(decision, volume),
        "nre": {
            "parts_usd": _floats(decision.nre(facts).parts()),
            "rewiring_usd_per_model": float(rewiring_usd(design, facts)),
        },
        "dies": design.dies,
        "fleet": fleet_of(one),
        "package": package_document(one.best),
        "joules_per_token": one.best.point.joules_per_token,
        "configuration": configuration_document(one.best),
        "schedule": schedule_document(decision.schedule(facts), design.variant),
        "waiting_usd": float(decision.waiting_usd(facts)) * volume,
        "alternative": decision.alternative.as_dict(),
        "as_quick": None if one.latency is None else _as_quick(one.latency),
        "nodes": {name: _node(trial) for name, trial in one.nodes.items()},
        "two_for_two": two_for_two(terms, volume).as_dict(),
        "as_share_of_training_run": training_shares(found.nre_usd),
        "drivers": drivers_of(decision, volume, question.seed),
        "curve": curve_of(decision, volume, found.break_even["p50"], question.seed),
        "design": design.as_dict(),
        "notes": list(one.best.point.notes),
        "infeasible": one.infeasible,
    }


def _money(found: Verdict) -> dict[str, Any]:
    return {
        "probability_that_it_pays": found.probability,
        "break_even_tokens_per_day": found.break_even,
        "usd_per_million_tokens": {"asic": found.asic_usd["p50"], "alternative": found.alternative_usd["p50"]},
        "usd_per_million_tokens_interval": {"asic": found.asic_usd, "alternative": found.alternative_usd},
        "nre_usd": found.nre_usd["p50"],
        "nre_usd_interval": found.nre_usd,
        "net_present_usd": found.net_usd,
        "payback_years": found.payback_years,
    }


def at_values(decision: Decision, volume: float) -> dict[str, float | None]:
    """The figures with every fact row at its value, from which the tornado starts."""
    terms = decision.programme(decision.facts)
    asic, alternative = (float(usd) for usd in terms.usd_per_million(volume))
    break_even = float(terms.break_even())
    return {
        "break_even_tokens_per_day": break_even if math.isfinite(break_even) else None,
        "asic_usd_per_million_tokens": asic if math.isfinite(asic) else None,
        "alternative_usd_per_million_tokens": alternative,
        "net_usd": float(terms.net_usd(volume)),
    }


def fleet_of(one: VariantAnswer) -> dict[str, float]:
    """Machines, packages, dies and wafers that the volume takes at the share of hours that earn, whole ones."""
    decision = one.best.point.decision
    facts, design = decision.facts, decision.design
    rate = decision.serving.tokens_per_s * facts.value("server", "utilisation_ratio")
    chips = one.question.tokens_per_day / _SECONDS_PER_DAY / float(rate)
    machines = math.ceil(chips / design.chips)
    packages = machines * design.chips
    wafers = sum(
        packages * die.count / (dies_per_wafer(die.width_mm, die.height_mm, wafer_of(facts)) * float(sold))
        for die in design.package.dies
        if (sold := sold_ratio(facts, facts, die))
    )
    return {
        "machines": machines,
        "packages": packages,
        "dies": packages * design.dies_per_package,
        "wafers": math.ceil(wafers),
        "purchase_usd": packages * float(owned_package(facts, design, facts).purchase_usd),
    }


def configuration_document(trial: Trial) -> dict[str, Any]:
    """The machine at its batch: layout, formats, and what the cost arm predicts for it."""
    chosen = trial.point.candidate
    used, predicted = chosen.deployment, chosen.prediction
    names = ("chips", "tp", "pp", "ep", "dp", "precision", "kv_precision", "weights_in", "kv_in", "engine")
    figures = ("tpot_s", "ttft_s", "output_tokens_per_s", "joules_per_output_token", "watts_per_chip", "bound")
    return {
        **{name: getattr(used, name) for name in names},
        "batch": chosen.batch,
        **{name: getattr(predicted, name) for name in figures},
        "tokens_per_s_per_chip": chosen.tokens_per_s_per_chip,
        "band": predicted.band_basis,
    }


def package_document(trial: Trial) -> dict[str, float]:
    """Dollars of one package, by part, up to its board and host."""
    decision = trial.point.decision
    bill, bought = package_parts(decision.facts, decision.design, decision.facts)
    parts = {name.removesuffix("_usd"): value for name, value in asdict(bill).items()}
    whole = owned_package(decision.facts, decision.design, decision.facts).purchase_usd
    return {**_floats(parts), "bill_of_materials": float(bill.usd), "bought": float(bought), "with_board": float(whole)}


def schedule_document(schedule: Schedule, variant: str) -> dict[str, Any]:
    """Years from the decision, and what happens when the model dies."""
    return {**_floats(asdict(schedule)), "dies_with_its_model": variant == HARDWIRED}


def _as_quick(trial: Trial) -> dict[str, Any]:
    return {
        "pays": trial.verdict.pays,
        **_money(trial.verdict),
        "alternative": trial.point.decision.alternative.as_dict(),
    }


def _node(trial: Trial) -> dict[str, Any]:
    names = ("break_even_tokens_per_day", "usd_per_million_tokens", "nre_usd", "net_present_usd")
    money = _money(trial.verdict)
    return {
        "pays": trial.verdict.pays,
        **{name: money[name] for name in names},
        "dies": trial.design.dies,
        "die_mm2": trial.design.area.mm2,
        "chips": trial.design.chips,
        "concurrency": trial.design.concurrency,
    }


def _floats(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}
