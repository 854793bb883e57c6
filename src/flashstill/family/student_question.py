"""The question whether to distil, put for a student of a family whose costs are known."""

from __future__ import annotations

from flashstill.family.expected import Expected
from flashstill.family.member_costs import FamilyCosts, MemberCosts
from flashstill.family.question import CACHED, FREE, ONLINE, Question

READING = {"online": ONLINE, "cached": CACHED, "text": FREE, "none": ONLINE}
"""signal -> who pays for the teacher's reading, where the bill of a student is not known"""


def question_of(costs: FamilyCosts, each: MemberCosts, teacher: Expected) -> tuple[Question | None, str]:
    """(the question whether to distil this student, "") or (None, why it cannot be asked)."""
    if not (each.model.dense_parameters and each.member.tokens):
        return None, f"parameters and tokens of {each.name} are not told"
    if teacher.loss is None:
        return None, f"neither loss, nor parameters and tokens, of {costs.teacher.name} are told"
    served = bool(costs.teacher.member.share)  # it is trained for its own traffic, whether it teaches or not
    exists = costs.teacher.member.exists or served
    if not exists and not (teacher.parameters and teacher.tokens):
        return None, f"what training {costs.teacher.name} takes is not told: its parameters or tokens are missing"
    overhead = None
    if each.run.usd and each.signals is not None and each.signals.kind != "none":
        overhead = (each.run.usd + each.signals.usd) / each.run.usd
    elif not teacher.parameters:
        return None, f"what reading {costs.teacher.name} takes is not told: its parameters are missing"
    return (
        Question(
            parameters=each.model.dense_parameters,
            tokens=each.member.tokens,
            active_parameters=_active(each),
            teacher_parameters=teacher.parameters or None,
            teacher_active_parameters=_active(costs.teacher),
            teacher_tokens=teacher.tokens or None,
            teacher_loss=teacher.loss if teacher.is_told else None,
            teacher_exists=exists,
            students=sum(other.member.signal != "none" for other in costs.students) or 1,
            reading=READING[each.member.signal],
            overhead=overhead,
        ),
        "",
    )


def _active(each: MemberCosts) -> float | None:
    """Active parameters of a mixture of experts, else None."""
    return each.model.active_parameters if each.model.is_mixture else None
