"""How far a family's dollars move with the fact rows that they follow from: intervals, and what drives them.

Read are goodput or MFU of training, rents where they are the chip's first row, all that an owned hour is made of, cost
of capital and life where they are not told, and the error of predicted throughput.  What is told does not move.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flashstill.economics.bill_of_materials import Rows
from flashstill.economics.draws import Values
from flashstill.economics.sensitivity import drawn, drivers, interval
from flashstill.economics.tco import owned_chip, owned_hour, terms_of
from flashstill.facts import Facts
from flashstill.family.costs import life_of
from flashstill.family.lifetime import Life
from flashstill.family.member_costs import FamilyCosts, MemberCosts
from flashstill.family.training import TOLD
from flashstill.units import TOKENS_PER_MILLION
from flashstill.workload import Quantity

DRIVER_DRAWS = 512
"""of each evaluation of the indices"""


def total_band(facts: Facts, costs: FamilyCosts, draws: int, seed: int) -> dict[str, float | None]:
    """P10, P50 and P90 of the family's dollars per million tokens."""

    def figure(rows: Rows) -> dict[str, Values]:
        return {"usd": total(facts, rows, costs)}

    return interval(drawn(facts, figure, draws, seed)["usd"])


def total_drivers(facts: Facts, costs: FamilyCosts, seed: int) -> list[dict[str, Any]]:
    """The rows that move the family's dollars per million tokens, the strongest first."""

    def figure(rows: Rows) -> Values:
        return total(facts, rows, costs)

    return [each.as_dict() for each in drivers(facts, figure, DRIVER_DRAWS, seed)]


def total(facts: Facts, rows: Rows, costs: FamilyCosts) -> Values:
    """Dollars per million tokens of the family for draws of the rows."""
    life, daily = life_of(rows, costs.plan.money), costs.plan.serving.tokens_per_day
    millions = daily * life.discounted_days / TOKENS_PER_MILLION
    usd: Quantity = 0.0
    for each in costs.members:
        price = each.served.usd_per_million_tokens
        if price is not None:
            factor = serving_factor(facts, rows, each, costs.plan.serving.utilisation)
            usd = usd + each.member.share * price * factor
    own = sum(drawn_own(facts, rows, costs, each, life) for each in costs.students)
    whole = own + drawn_prerequisite(facts, rows, costs, life)
    return np.asarray(usd + whole / millions)


def drawn_prerequisite(facts: Facts, rows: Rows, costs: FamilyCosts, life: Life) -> Quantity:
    """The teacher's dollars at launch for draws of the rows; 0 for one that exists."""
    if costs.teacher.member.exists:
        return 0.0
    run = costs.teacher.run
    trained = training_factor(facts, rows, costs.teacher) if run.chip_hours else 1.0
    days = max(each.run.days for each in costs.students)
    return life.at_launch(run.usd * trained + costs.teacher.member.other_usd, run.days, days)


def drawn_own(facts: Facts, rows: Rows, costs: FamilyCosts, student: MemberCosts, life: Life) -> Quantity:
    """The student's own dollars at launch with the ranges of the rows that they follow from."""
    signals = student.signals
    trained = training_factor(facts, rows, student) if student.run.chip_hours else 1.0
    read = training_factor(facts, rows, costs.teacher) if signals is not None and signals.kind != "text" else 1.0
    usd = student.run.usd * trained + student.member.other_usd
    if signals is not None:
        usd = usd + signals.teacher_usd * read + signals.storage_usd
    return life.at_launch(usd, student.run.days)


def training_factor(facts: Facts, rows: Rows, each: MemberCosts) -> Quantity:
    """Drawn dollars of a run over those at the values of the rows: goodput or MFU, and the price of the chip."""
    rate = each.rate
    if rate is None:
        return 1.0
    by_flops = each.model.architecture is None or each.member.exists or each.member.flops
    row = "mfu_ratio" if by_flops else "goodput_ratio"
    told = bool(each.member.mfu)
    hours = 1.0 if told else facts.value("training", row) / rows.value("training", row)
    if rate.price.usd_per_watt_hour:
        factor: Quantity = hours * owned_factor(facts, rows, rate.chip, rate.price.limit_w, None)
    else:
        factor = hours * price_factor(facts, rows, rate.chip, rate.price.usd_per_hour)
    return factor


def serving_factor(facts: Facts, rows: Rows, each: MemberCosts, utilisation: float | None) -> Quantity:
    """Drawn dollars of serving over those predicted: the error of predicted throughput, and the price of the chip."""
    if each.served.price_basis == TOLD:
        return 1.0
    on, rate = each.served, rows.value("serving", "throughput_ratio") / facts.value("serving", "throughput_ratio")
    if on.owned:
        factor: Quantity = owned_factor(facts, rows, on.chip, on.watts_per_chip, utilisation) / rate
    else:
        factor = price_factor(facts, rows, on.chip, on.usd_per_chip_hour) / rate
    return factor


def owned_factor(facts: Facts, rows: Rows, chip: str, watts: float, utilisation_ratio: float | None) -> Quantity:
    """Drawn dollars of an owned hour over those at the values of the rows."""

    def hour(read: Rows) -> Quantity:
        bought = owned_chip(facts, chip, read)
        assert bought is not None  # its hour was priced
        told = {} if utilisation_ratio is None else {"utilisation_ratio": utilisation_ratio}
        return owned_hour(terms_of(read, **told), bought, watts).usd

    factor: Quantity = hour(rows) / hour(facts)
    return factor


def price_factor(facts: Facts, rows: Rows, chip: str, usd_per_hour: float | None) -> Quantity:
    """Drawn price of a chip-hour over its value, where that is the chip's first row of prices."""
    row = facts.find(chip, "usd_per_hour") if chip else None
    if row is None or row.value != usd_per_hour:
        return 1.0
    factor: Quantity = rows.value(chip, "usd_per_hour") / row.value
    return factor
