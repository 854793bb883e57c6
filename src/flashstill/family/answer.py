"""Everything that is asked of a family at once: costs, break-even points, expected quality, whether to distil, and the
generations after it; as one document of plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from flashstill.facts import Facts
from flashstill.family import break_even, expected, generations, ranges
from flashstill.family.break_even import Crossing
from flashstill.family.costs import facts_for, family_costs
from flashstill.family.expected import Expected, distillation_law
from flashstill.family.generations import Generation, growth_of
from flashstill.family.member_costs import PARTS, TEACHER, FamilyCosts, MemberCosts
from flashstill.family.scratch import scratch
from flashstill.family.spec import FamilyPlan
from flashstill.family.student_question import question_of
from flashstill.family.worth import Worth, should_distil
from flashstill.quality import Law
from flashstill.tables import Displayed, Table, cell, flat
from flashstill.units import TOKENS_PER_MILLION

SMALL_SHARE = 0.1
"""of the family's dollars, below which its teacher hardly shows"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentAnswer:
    """What is told of one student. against_scratch: by who bears the teacher: nobody, the plan's share, it alone.

    worth: None and `worth_reason`, where the law cannot be asked.
    """

    costs: MemberCosts
    against_teacher: Crossing
    against_scratch: dict[str, Crossing]
    curves: list[dict[str, Any]]
    worth: Worth | None
    worth_reason: str
    generations: tuple[Generation, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyAnswer(Displayed):
    """The family's costs and, for each student, when it pays. measured: of a finished run, else None.

    band: P10, P50 and P90 of the dollars per million tokens; drivers: the fact rows that move them.
    """

    costs: FamilyCosts
    students: tuple[StudentAnswer, ...]
    expected: dict[str, Expected]
    law: Law
    notes: tuple[str, ...]
    measured: dict[str, Any] | None = None
    band: dict[str, float | None] = field(default_factory=dict)
    drivers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def prerequisite_small_above(self) -> float | None:
        """Tokens per day from which the teacher is less than a tenth of the family's dollars, at the same shares."""
        costs, daily = self.costs, self.costs.plan.serving.tokens_per_day
        own = sum(each.own_usd for each in costs.students)
        serving = costs.parts["serving"]
        needed = (1.0 - SMALL_SHARE) * costs.prerequisite_usd - SMALL_SHARE * own
        if not serving or needed <= 0.0 or not daily:
            return None
        return float(needed / (SMALL_SHARE * serving) * TOKENS_PER_MILLION / costs.life.discounted_days)

    @property
    def waterfall(self) -> list[dict[str, Any]]:
        """Steps that add up to the family's dollars per million output tokens."""
        costs, steps = self.costs, []
        for part in PARTS:
            for each in costs.members:
                value = costs.parts_of(each)[part]
                if value and part != PARTS[-1]:
                    steps.append({"name": f"{part} {each.name}", "value": value, "is_total": False})
        prerequisite = self.costs.parts[PARTS[-1]]
        if prerequisite:
            steps.append({"name": f"training {self.costs.teacher.name}", "value": prerequisite, "is_total": False})
        return [*steps, {"name": "a million tokens", "value": sum(self.costs.parts.values()), "is_total": True}]

    def as_dict(self) -> dict[str, Any]:
        """The document of `flashstill economics FAMILY --json`. Dollars; per million output tokens where named so."""
        costs = self.costs
        plan = costs.plan
        parts = costs.parts
        total = sum(parts.values())
        return {
            "family": plan.name,
            "unit": "output tokens, their prompts included",
            "money": {
                "price": plan.money.price,
                "cost_of_capital": float(costs.life.interest),
                "life_years": float(costs.life.years),
                "growth_per_year": costs.life.growth,
                "shared_by": plan.money.shared_by,
            },
            "tokens_per_day": plan.serving.tokens_per_day,
            "usd_per_million_tokens": {**parts, "total": total},
            "usd_per_million_tokens_band": self.band,
            "drivers": self.drivers,
            "waterfall": self.waterfall,
            "prerequisite": {
                "usd": costs.prerequisite_usd,
                "sunk_usd": costs.sunk_usd,
                "share_of_usd": parts["prerequisite"] / total if total else None,
                "usd_per_million_tokens": parts["prerequisite"],
                "borne_by": {each.name: each.prerequisite_usd for each in costs.members if each.prerequisite_usd},
                "below_a_tenth_above_tokens_per_day": self.prerequisite_small_above,
            },
            "teacher": self._member(costs.teacher),
            "students": [{**self._member(each.costs), **_of_student(each)} for each in self.students],
            "law": {"name": self.law.name, "kind": self.law.kind, "source": self.law.source, "scale": self.law.scale},
            "measured": self.measured,
            "notes": list(self.notes),
        }

    def _member(self, each: MemberCosts) -> dict[str, Any]:
        found = self.expected[each.key]
        return {
            "name": each.name,
            "parameters": each.model.parameters,
            "active_parameters": each.model.active_parameters,
            "tokens": each.member.tokens,
            "share": each.member.share,
            "tokens_per_day": each.tokens_per_day,
            "run": asdict(each.run),
            "other_usd": each.member.other_usd,
            "signals": None if each.signals is None else {**asdict(each.signals), "usd": each.signals.usd},
            "served": asdict(each.served),
            "own_usd_at_launch": each.own_usd,
            "prerequisite_usd_at_launch": each.prerequisite_usd,
            "usd_per_million_tokens": None
            if each.usd_per_million_tokens is None
            else {**each.usd_per_million_tokens, "total": each.total_usd_per_million_tokens},
            "expected_loss": found.loss,
            "expected_loss_on_labels": found.supervised_loss,
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per model."""
        return [flat({**self._member(each), "role": each.role}) for each in self.costs.members]

    def _table(self) -> Table:
        names = ("share", "run_usd", "served_usd_per_million_tokens", "usd_per_million_tokens_total", "expected_loss")
        rows = [[row["name"], *(cell(row.get(name)) for name in names)] for row in self.as_records()]
        return Table(("model", *names), rows, f"family {self.costs.plan.name}")


def family_answer(
    facts: Facts, plan: FamilyPlan, count: int = 0, student_growth: float = 1.0, draws: int = 2000, seed: int = 0
) -> FamilyAnswer:
    """The whole answer. count: generations after this one.  draws: of intervals.

    Raises what `family_costs` raises, and BadInput for generations that cannot be asked.
    """
    facts = facts_for(facts, plan)
    costs, law = family_costs(facts, plan), distillation_law()
    losses = expected.expected(costs, law)
    students = tuple(
        _student(facts, costs, each, losses, law, count, student_growth, draws, seed) for each in costs.students
    )
    return FamilyAnswer(
        costs=costs,
        students=students,
        expected=losses,
        law=law,
        notes=tuple(dict.fromkeys((*costs.notes, *expected.remarks(costs, law)))),
        band=ranges.total_band(facts, costs, draws, seed),
        drivers=ranges.total_drivers(facts, costs, seed),
    )


def _student(
    facts: Facts, costs: FamilyCosts, each: MemberCosts, losses: dict[str, Expected], law: Law, count: int,
    student_growth: float, draws: int, seed: int,
) -> StudentAnswer:  # fmt: skip
    loss = losses[each.key].loss
    found = None if loss is None else scratch(each, loss, law)
    bearers = {"teacher_exists": 0.0, "its_part": each.prerequisite_usd, "all_of_it": costs.prerequisite_usd}
    question, reason = question_of(costs, each, losses[TEACHER])
    later: tuple[Generation, ...] = ()
    if count:
        later = generations.generations(
            costs, each, law, growth_of(facts, float(costs.life.years), student_growth), count
        )
    return StudentAnswer(
        costs=each,
        against_teacher=break_even.against_teacher(facts, costs, each, draws, seed),
        against_scratch={who: break_even.against_scratch(costs, each, found, usd) for who, usd in bearers.items()},
        curves=break_even.curves(costs, each, found),
        worth=None if question is None else should_distil(question, law, draws, seed),
        worth_reason=reason,
        generations=later,
    )


def _of_student(each: StudentAnswer) -> dict[str, Any]:
    return {
        "break_even": {
            "against_teacher": asdict(each.against_teacher),
            "against_scratch": {who: asdict(found) for who, found in each.against_scratch.items()},
        },
        "curves": each.curves,
        "should_distil": None if each.worth is None else each.worth.as_dict(),
        "should_distil_reason": each.worth_reason,
        "generations": [asdict(found) for found in each.generations],
    }
