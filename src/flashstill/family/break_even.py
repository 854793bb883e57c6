"""From which traffic a student pays, against serving its teacher and against the same quality without a teacher.

    against the teacher     (own dollars of the student) / (what the teacher's tokens cost more): the teacher is there
                            in both cases, so that its dollars are in neither
    against from scratch    the student with its prerequisite against the cheapest model on labels of the same loss
                            (scratch.py): always, never, or above some traffic

Traffic is in output tokens per day at launch; over the life it grows as the plan says and is discounted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flashstill.economics.bill_of_materials import Rows
from flashstill.economics.draws import Values
from flashstill.economics.sensitivity import drawn, interval
from flashstill.facts import Facts
from flashstill.family.costs import life_of
from flashstill.family.member_costs import FamilyCosts, MemberCosts
from flashstill.family.ranges import drawn_own, serving_factor
from flashstill.family.scratch import Scratch, discounted_millions

LEAST, MOST, POINTS = 1e3, 1e17, 57
"""tokens per day between which crossings are sought and curves drawn, four to a decade"""
SURE_DRAWS = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """tokens_per_day: where the student begins to pay; None where `always` or `never` says why."""

    tokens_per_day: float | None
    verdict: str
    band: dict[str, float | None] | None = None


def against_teacher(
    facts: Facts, costs: FamilyCosts, student: MemberCosts, draws: int = SURE_DRAWS, seed: int = 0
) -> Crossing:
    """Traffic from which training the student and serving it is cheaper than serving the teacher in its place."""
    teacher_price, price = costs.teacher.served.usd_per_million_tokens, student.served.usd_per_million_tokens
    if teacher_price is None or price is None:
        who = costs.teacher if teacher_price is None else student
        return Crossing(tokens_per_day=None, verdict=f"no price of serving {who.name}: {who.served.on}")
    if price >= teacher_price:
        return Crossing(tokens_per_day=None, verdict="never: the student's tokens cost as much as the teacher's")
    found = float(costs.life.tokens_per_day(student.own_usd, teacher_price - price))

    def figure(rows: Rows) -> dict[str, Values]:
        life = life_of(rows, costs.plan.money)
        own = drawn_own(facts, rows, costs, student, life)
        load = costs.plan.serving.utilisation
        saved = teacher_price * serving_factor(facts, rows, costs.teacher, load) - price * serving_factor(
            facts, rows, student, load
        )
        saved = np.where(np.asarray(saved) > 0.0, saved, 0.0)
        with np.errstate(divide="ignore"):
            return {"tokens": np.asarray(life.tokens_per_day(own, saved))}

    band = interval(drawn(facts, figure, draws, seed)["tokens"])
    return Crossing(tokens_per_day=found, verdict="pays above", band=band)


def against_scratch(costs: FamilyCosts, student: MemberCosts, found: Scratch | None, prerequisite: float) -> Crossing:
    """Traffic at which the student, bearing `prerequisite` dollars at launch, begins to beat its like from scratch."""
    if student.member.signal == "none":
        return Crossing(tokens_per_day=None, verdict="it is trained on labels itself")
    if found is None:
        return Crossing(tokens_per_day=None, verdict="what its tokens cost is not known")
    if not found.parameters.size:
        return Crossing(tokens_per_day=None, verdict="always: no model on labels reaches its loss, by the law")
    traffic = grid()  # the gain never falls with traffic: no rival is cheaper to serve than the student
    gains = [_gain(costs, student, found, prerequisite, at) for at in traffic]
    if gains[0] > 0.0:
        return Crossing(tokens_per_day=None, verdict="always")
    if gains[-1] <= 0.0:
        return Crossing(tokens_per_day=None, verdict="never: a model on labels of the same loss costs less")
    first = next(at for at, gain in enumerate(gains) if gain > 0.0)
    low, high = traffic[first - 1], traffic[first]
    for _ in range(50):
        middle = math.sqrt(low * high)
        is_cheaper = _gain(costs, student, found, prerequisite, middle) > 0.0
        low, high = (low, middle) if is_cheaper else (middle, high)
    return Crossing(tokens_per_day=high, verdict="pays above")


def curves(costs: FamilyCosts, student: MemberCosts, found: Scratch | None) -> list[dict[str, object]]:
    """Dollars per million tokens at each traffic: the student alone, with its part of the prerequisite, with all of it;
    the teacher; the same quality from scratch. None where something is not known."""
    rows: list[dict[str, object]] = []
    days = costs.life.discounted_days
    price, teacher = student.served.usd_per_million_tokens, costs.teacher.served.usd_per_million_tokens
    for tokens in grid():
        millions = discounted_millions(tokens, float(days))
        at = None if found is None else found.cheapest(millions)
        other = None
        if found is not None and at is not None:
            other = found.usd_per_million_tokens[at] + _launched(costs, student, float(found.usd[at])) / millions
        rows.append(
            {
                "tokens_per_day": tokens,
                "usd_per_million_tokens": {
                    "student": None if price is None else price + student.own_usd / millions,
                    "student_with_prerequisite": None
                    if price is None
                    else price + (student.own_usd + costs.prerequisite_usd) / millions,
                    "teacher": teacher,
                    "scratch": None if other is None else float(other),
                },
            }
        )
    return rows


def grid() -> list[float]:
    """Traffics that are tried."""
    return [float(each) for each in np.geomspace(LEAST, MOST, POINTS)]


def _launched(costs: FamilyCosts, student: MemberCosts, usd: float) -> float:
    """Dollars of a run from scratch at launch, as long as the student's."""
    return float(costs.life.at_launch(usd, student.run.days))


def _gain(
    costs: FamilyCosts, student: MemberCosts, found: Scratch, prerequisite: float, tokens_per_day: float
) -> float:
    """Dollars that the student saves over its like from scratch, at a traffic."""
    millions = discounted_millions(tokens_per_day, float(costs.life.discounted_days))
    at = found.cheapest(millions)
    assert at is not None
    assert student.served.usd_per_million_tokens is not None
    own = student.own_usd + prerequisite + millions * student.served.usd_per_million_tokens
    other = _launched(costs, student, float(found.usd[at])) + millions * float(found.usd_per_million_tokens[at])
    return other - own
