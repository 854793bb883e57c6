"""Flash(n) against Pro(n-1): does the next student reach the previous teacher, at what price, and what must hold?

    Pro(n)     the teacher's parameters and tokens, each x sqrt(c) per generation, c: growth of training compute
    e(n)       sqrt(a)^n: better algorithms and data make a model act like one e(n) times larger, trained on e(n) times
               the tokens, so that a is a factor on effective compute
    Flash(n)   the first student's size and tokens, x a factor of each per generation, taught by Pro(n)
    reaches    L(Flash(n), taught by Pro(n)) <= L(Pro(n-1)), each of its effective size and tokens
    needs      the least tokens with which Flash(n) reaches it at its size, the least size at its tokens, and the least
               further factor on effective compute at both; None where no number does

Growth is per year, from fact rows or told; a generation lasts the life of a model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.economics.bill_of_materials import Rows
from flashstill.errors import BadInput
from flashstill.family.member_costs import FamilyCosts, MemberCosts
from flashstill.family.taught import taught_loss
from flashstill.quality import Law

FURTHEST = 1e9
"""the largest further factor on effective compute that is looked for"""
MOST_GROWTH = 1e12
"""of the teacher's compute over all generations"""
MOST_STUDENT_GROWTH = 1e3
"""factor on a student's size and on its tokens per generation"""
MOST = 12
"""generations that can be asked for: beyond, every law is far from its runs"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """Factors per generation: training compute of the teacher, effective compute per FLOP, arithmetic per dollar, and
    the student's size and tokens (of each)."""

    compute: float
    algorithms: float
    flops_per_usd: float
    student: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One generation. Losses on the law's scale; dollars per million output tokens at today's prices x arithmetic per
    dollar.

    reaches: Flash(n) is at least as good as Pro(n-1); None in the first generation.  tokens_needed, parameters_needed:
    of Flash(n) to do so.  price_ratio: of a Flash(n) token over one of Pro(n-1), each in its own generation, so that a
    part of it is hardware that became cheaper meanwhile.
    algorithms_needed: the factor on effective compute, beyond what the growth gives, to do so.
    """

    number: int
    pro_parameters: float
    pro_tokens: float
    pro_loss: float
    pro_usd: float | None
    flash_parameters: float
    flash_tokens: float
    flash_loss: float
    flash_usd_per_million_tokens: float | None
    pro_usd_per_million_tokens: float | None
    previous_pro_loss: float | None
    previous_pro_usd_per_million_tokens: float | None
    price_ratio: float | None
    reaches: bool | None
    tokens_needed: float | None
    parameters_needed: float | None
    algorithms_needed: float | None


def growth_of(rows: Rows, years: float, student: float = 1.0) -> Growth:
    """Growth per generation of so many years, from the fact rows."""
    if not 0.0 < student <= MOST_STUDENT_GROWTH:
        raise BadInput(
            f"student_growth, a factor per generation, must be above 0 and at most {MOST_STUDENT_GROWTH:g}, not"
            f" {student:g}"
        )
    yearly = {
        name: rows.value("generation", f"{row}_growth_ratio")
        for name, row in (("compute", "compute"), ("algorithms", "algorithm"), ("flops_per_usd", "flops_per_usd"))
    }
    for name, value in yearly.items():
        if not value > 0.0:
            raise BadInput(f"growth of {name} per year must be above 0, not {value:g} (rows of generation)")
    return Growth(student=student, **{name: value**years for name, value in yearly.items()})


def generations(
    costs: FamilyCosts, student: MemberCosts, law: Law, growth: Growth, count: int
) -> tuple[Generation, ...]:
    """`count` generations after the first. BadInput if sizes or tokens of teacher and student are not told."""
    if not 1 <= count <= MOST:
        raise BadInput(f"generations must lie between 1 and {MOST}, not {count}")
    if count * math.log(growth.compute) > math.log(MOST_GROWTH):
        raise BadInput(
            f"{count} generations let the teacher's compute grow {growth.compute:.3g} times each, beyond what any law"
            " says; ask for fewer, or for a shorter money.life_years"
        )
    teacher = costs.teacher
    for each in (teacher, student):
        if not (each.model.dense_parameters and each.member.tokens):
            raise BadInput(f"generations need the parameters and the tokens of {each.name}")
    found: list[Generation] = []
    for number in range(count + 1):
        found.append(_one(costs, student, law, growth, number, found[-1] if found else None))
    return tuple(found)


def _one(
    costs: FamilyCosts, student: MemberCosts, law: Law, growth: Growth, number: int, before: Generation | None
) -> Generation:
    larger, cheaper = math.sqrt(growth.compute) ** number, growth.flops_per_usd**number
    better, grown = math.sqrt(growth.algorithms) ** number, growth.student**number
    teacher = costs.teacher
    pro = teacher.model.dense_parameters * larger, teacher.member.tokens * larger
    flash = student.model.dense_parameters * grown, student.member.tokens * grown
    pro_loss = float(law.loss(pro[0] * better, pro[1] * better))
    taught = pro_loss if student.member.signal != "none" else None
    flash_loss = float(_loss(law, flash[0] * better, flash[1] * better, taught))
    target = None if before is None else before.pro_loss
    pro_price = _scaled(teacher.served.usd_per_million_tokens, larger / cheaper)
    flash_price = _scaled(student.served.usd_per_million_tokens, grown / cheaper)
    previous_price = None if before is None else before.pro_usd_per_million_tokens
    needed = _needed(law, target, flash, better, taught)
    return Generation(
        number=number,
        pro_parameters=pro[0],
        pro_tokens=pro[1],
        pro_loss=pro_loss,
        pro_usd=_scaled(teacher.run.usd or None, larger**2 / cheaper),
        flash_parameters=flash[0],
        flash_tokens=flash[1],
        flash_loss=flash_loss,
        flash_usd_per_million_tokens=flash_price,
        pro_usd_per_million_tokens=pro_price,
        previous_pro_loss=target,
        previous_pro_usd_per_million_tokens=previous_price,
        price_ratio=None if previous_price is None or flash_price is None else flash_price / previous_price,
        reaches=None if target is None else flash_loss <= target,
        **needed,
    )


def _needed(
    law: Law, target: float | None, flash: tuple[float, float], better: float, teacher_loss: float | None
) -> dict[str, Any]:
    if target is None:
        return {"tokens_needed": None, "parameters_needed": None, "algorithms_needed": None}
    tokens = float(law.tokens_for(target, flash[0] * better, teacher_loss=teacher_loss)) / better
    size = float(law.parameters_for(target, flash[1] * better, teacher_loss=teacher_loss)) / better
    further = np.geomspace(1e-3, FURTHEST, 1200)
    act = better * np.sqrt(further)
    enough = np.flatnonzero(_loss(law, flash[0] * act, flash[1] * act, teacher_loss) <= target)
    return {
        "tokens_needed": tokens if math.isfinite(tokens) else None,
        "parameters_needed": size if math.isfinite(size) else None,
        "algorithms_needed": float(further[enough[0]]) if enough.size else None,
    }


def _loss(law: Law, parameters: Any, tokens: Any, teacher_loss: float | None) -> Any:
    if teacher_loss is None:
        return law.loss(parameters, tokens)
    return taught_loss(law, parameters, tokens, teacher_loss)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
