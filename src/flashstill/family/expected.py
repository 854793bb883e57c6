"""What the scaling law expects of every model of a family: its loss, and what the same model has without a teacher.

Losses are nats per token on the law's own text: differences between models of one family mean something, the numbers
beside others' do not.  A mixture of experts is taken for the dense model of sqrt(active x all) parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.family.member_costs import TEACHER, FamilyCosts, MemberCosts
from flashstill.family.taught import taught_loss
from flashstill.quality import Law, published
from flashstill.units import short_count

DISTILLATION_LAW = "busbridge-2025"


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """loss: expected, or as told; supervised_loss: of the same model and tokens on labels; None where not known."""

    name: str
    parameters: float
    tokens: float
    loss: float | None
    supervised_loss: float | None
    is_told: bool = False


def distillation_law() -> Law:
    """The law that knows teachers."""
    return published(DISTILLATION_LAW)


def expected(costs: FamilyCosts, law: Law) -> dict[str, Expected]:
    """By the key of the member; students learn from the teacher unless their signal is none."""
    teacher = _of_one(costs.teacher, law, None)
    return {
        TEACHER: teacher,
        **{each.key: _of_one(each, law, None if each.member.signal == "none" else teacher) for each in costs.students},
    }


def _of_one(each: MemberCosts, law: Law, teacher: Expected | None) -> Expected:
    parameters, tokens = each.model.dense_parameters, each.member.tokens
    known = bool(parameters and tokens)
    supervised = float(law.loss(parameters, tokens)) if known else None
    loss = supervised
    if known and teacher is not None and teacher.loss is not None:
        loss = float(taught_loss(law, parameters, tokens, teacher.loss))
    elif teacher is not None:
        loss = None
    told = each.member.loss
    return Expected(
        name=each.name, parameters=parameters, tokens=tokens, loss=told or loss, supervised_loss=supervised,
        is_told=bool(told),
    )  # fmt: skip


def remarks(costs: FamilyCosts, law: Law) -> tuple[str, ...]:
    """What makes the losses of this family less sure."""
    known = [each for each in costs.members if each.model.dense_parameters and each.member.tokens]
    found: list[str] = []
    for each in known:
        found += law.remarks(each.model.dense_parameters, each.member.tokens)
        if each.model.is_mixture:
            found.append(
                f"{each.name}, a mixture of experts, counts as a dense model of"
                f" {short_count(each.model.dense_parameters)} parameters, sqrt(active x all), a rule of thumb"
            )
    return tuple(dict.fromkeys(found))
