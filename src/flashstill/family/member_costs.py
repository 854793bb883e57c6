"""What a model of a family costs and what the whole family does, in dollars per million output tokens by part."""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.family.lifetime import Life
from flashstill.family.models import Model
from flashstill.family.serving import Served
from flashstill.family.signals import Signals
from flashstill.family.spec import FamilyPlan, Member
from flashstill.family.training import Rate, Run

TEACHER, STUDENT = "teacher", "student"

PARTS = ("serving", "training", "signals", "prerequisite")


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberCosts:
    """A model of the family. own_usd, prerequisite_usd: at launch, with interest.

    usd_per_million_tokens: by part; None for a model without traffic.  rate: of a trained token, None where dollars of
    the run are told.
    """

    key: str
    name: str
    role: str
    member: Member
    model: Model
    rate: Rate | None
    run: Run
    signals: Signals | None
    served: Served
    tokens_per_day: float
    own_usd: float
    prerequisite_usd: float = 0.0
    usd_per_million_tokens: dict[str, float] | None = None

    @property
    def total_usd_per_million_tokens(self) -> float | None:
        """All parts."""
        parts = self.usd_per_million_tokens
        return None if parts is None else sum(parts.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyCosts:
    """prerequisite_usd: of the teacher, at launch; sunk_usd: of one that exists, without interest."""

    plan: FamilyPlan
    life: Life
    teacher: MemberCosts
    students: tuple[MemberCosts, ...]
    prerequisite_usd: float
    sunk_usd: float
    notes: tuple[str, ...]

    @property
    def members(self) -> tuple[MemberCosts, ...]:
        """Teacher and students."""
        return (self.teacher, *self.students)

    @property
    def parts(self) -> dict[str, float]:
        """Dollars per million output tokens of the family, by part."""
        each = [self.parts_of(member) for member in self.members]
        return {part: sum(parts[part] for parts in each) for part in PARTS}

    def parts_of(self, each: MemberCosts) -> dict[str, float]:
        """What a million output tokens of the family pay for one model, by part."""
        daily = self.plan.serving.tokens_per_day
        if each.usd_per_million_tokens is not None:
            return {part: each.tokens_per_day / daily * usd for part, usd in each.usd_per_million_tokens.items()}
        spread = {"serving": 0.0, **own_parts(each, self.life), "prerequisite": 0.0}
        return {part: float(self.life.usd_per_million_tokens(usd, daily)) for part, usd in spread.items()}


def own_parts(each: MemberCosts, life: Life) -> dict[str, float]:
    """A model's own dollars at launch, by part; none of a teacher, whose dollars are the prerequisite."""
    run = float(life.at_launch(1.0, each.run.days))
    return {
        "training": 0.0 if each.role == TEACHER else (each.run.usd + each.member.other_usd) * run,
        "signals": 0.0 if each.signals is None else each.signals.usd * run,
    }
