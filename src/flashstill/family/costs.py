"""What a family costs: training, signals and serving of every model, and the teacher as a prerequisite of them all.

own            training + signals + other, at launch, over the model's own tokens
prerequisite   the teacher's training + other, at launch (it ends before its students begin), over the tokens of the
               teacher and those it taught in proportion, or over these models in equal parts; 0 if it exists
total          serving + own + prerequisite, dollars per million output tokens
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flashstill.economics.bill_of_materials import Rows
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.family.lifetime import DAYS_PER_YEAR, Life
from flashstill.family.models import Model, model_of
from flashstill.family.serving import Served, served
from flashstill.family.signals import Signals, signals_of
from flashstill.family.spec import FamilyPlan, Member, Money, called
from flashstill.family.training import Rate, Run, rate_of, run_of, told_run

TEACHER, STUDENT = "teacher", "student"
PARTS = ("serving", "training", "signals", "prerequisite")
LONGEST_YEARS = 20.0
"""of a run; its interest would soon be beyond all numbers"""


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
        daily = self.plan.serving.tokens_per_day
        paid = [each for each in self.members if each.usd_per_million_tokens]
        return {
            part: sum(each.tokens_per_day / daily * (each.usd_per_million_tokens or {})[part] for each in paid)
            for part in PARTS
        }


def life_of(rows: Rows, money: Money) -> Life:
    """The life of a generation: as told, else of the fact rows (or draws of them)."""
    return Life(
        years=rows.value("model", "life_years") if money.life_years is None else money.life_years,
        interest=rows.value("capital", "interest_ratio") if money.cost_of_capital is None else money.cost_of_capital,
        growth=money.growth_per_year,
    )


def family_costs(facts: Facts, plan: FamilyPlan) -> FamilyCosts:
    """All costs of a family. Raises BadInput and MissingFact for what is unknown, InfeasiblePlan if nothing serves."""
    life, price = life_of(facts, plan.money), plan.money.price
    teacher = _teacher(facts, plan, life)
    rate = teacher.rate
    students = [_student(facts, plan, f"students[{at}]", each, price) for at, each in enumerate(plan.students)]
    for each in (teacher, *students):
        _check_days(each)
    written = teacher.served.usd_per_million_tokens
    taught = [(each.member, each.run) for each in students]
    signals = signals_of(facts, taught, rate, teacher.model.read_flops, written)
    days = max(each.run.days for each in students)
    spent = teacher.run.usd + teacher.member.other_usd
    prerequisite = 0.0 if teacher.member.exists else float(life.at_launch(spent, teacher.run.days, days))
    made = [
        replace(each, signals=signal, own_usd=float(life.at_launch(_own(each, signal), each.run.days)))
        for each, signal in zip(students, signals, strict=True)
    ]
    whole = [teacher, *made]
    priced = [_priced(each, life, _share(plan, each, whole) * prerequisite) for each in whole]
    return FamilyCosts(
        plan=plan,
        life=life,
        teacher=priced[0],
        students=tuple(priced[1:]),
        prerequisite_usd=prerequisite,
        sunk_usd=spent if teacher.member.exists else 0.0,
        notes=_notes(plan, priced),
    )


def _own(student: MemberCosts, signals: Signals) -> float:
    return student.run.usd + student.member.other_usd + signals.usd


def _teacher(facts: Facts, plan: FamilyPlan, life: Life) -> MemberCosts:
    member, price = plan.teacher, plan.money.price
    model = _model(member, TEACHER)
    has_chip = bool(member.chip or plan.training.chip)
    is_known = has_chip and bool(model.active_parameters or member.flops)
    rate = rate_of(facts, model, member, plan.training, price) if is_known else None
    tokens = member.tokens or (1.0 if member.flops else 0.0)
    run = told_run(member.usd, tokens) if member.usd or rate is None else run_of(rate, tokens)
    daily = member.share * plan.serving.tokens_per_day
    found = served(facts, model, member, plan.serving, price)
    _check_served(TEACHER, member, found)
    return MemberCosts(
        key=TEACHER, name=called(TEACHER, member), role=TEACHER, member=member, model=model, rate=rate, run=run,
        signals=None, served=found, tokens_per_day=daily, own_usd=0.0,
    )  # fmt: skip


def _student(facts: Facts, plan: FamilyPlan, key: str, member: Member, price: str) -> MemberCosts:
    model = _model(member, key)
    has_rate = bool(member.chip or plan.training.chip)
    rate = rate_of(facts, model, member, plan.training, price, thrifty=True) if has_rate else None
    run = told_run(member.usd, member.tokens) if member.usd or rate is None else run_of(rate, member.tokens)
    found = served(facts, model, member, plan.serving, price)
    _check_served(key, member, found)
    return MemberCosts(
        key=key, name=called(key, member), role=STUDENT, member=member, model=model, rate=rate, run=run, signals=None,
        served=found, tokens_per_day=member.share * plan.serving.tokens_per_day, own_usd=0.0,
    )  # fmt: skip


def _model(member: Member, key: str) -> Model:
    return model_of(member.model, member.parameters, member.active_parameters, called(key, member))


def _check_days(each: MemberCosts) -> None:
    if not each.member.exists and each.run.days > LONGEST_YEARS * DAYS_PER_YEAR:
        raise BadInput(
            f"{each.key} would train for {each.run.days / DAYS_PER_YEAR:,.0f} years on {each.run.chips} chips; raise"
            f" training.chips or {each.key}.chips"
        )


def _check_served(key: str, member: Member, found: Served) -> None:
    if member.share and found.usd_per_million_tokens is None:
        raise InfeasiblePlan(f"{key} has a share of the traffic and cannot be served: {found.on}")


def _share(plan: FamilyPlan, each: MemberCosts, whole: list[MemberCosts]) -> float:
    """Share of the prerequisite that a model bears: none without traffic, or if it learns from no teacher."""
    by_tokens = plan.money.shared_by == "tokens"
    parts = {
        other.key: (other.tokens_per_day if by_tokens else float(other.tokens_per_day > 0.0))
        for other in whole
        if other.member.signal != "none"
    }
    total = sum(parts.values())
    return parts.get(each.key, 0.0) / total if total else 0.0


def _priced(each: MemberCosts, life: Life, prerequisite: float) -> MemberCosts:
    """A model with its part of the prerequisite, in dollars at launch, and its dollars per million tokens."""
    if not each.tokens_per_day or each.served.usd_per_million_tokens is None:
        return replace(each, prerequisite_usd=prerequisite)
    signals = 0.0 if each.signals is None else each.signals.usd
    run = float(life.at_launch(1.0, each.run.days))
    spread = {
        "training": 0.0 if each.role == TEACHER else (each.run.usd + each.member.other_usd) * run,
        "signals": signals * run,
        "prerequisite": prerequisite,
    }
    parts = {name: float(life.usd_per_million_tokens(usd, each.tokens_per_day)) for name, usd in spread.items()}
    return replace(
        each,
        prerequisite_usd=prerequisite,
        usd_per_million_tokens={"serving": each.served.usd_per_million_tokens, **parts},
    )


def _notes(plan: FamilyPlan, members: list[MemberCosts]) -> tuple[str, ...]:
    found = [note for each in members if each.rate is not None for note in each.rate.notes]
    found += [
        f"the price of serving {each.name} is a guess: {each.served.on}"
        for each in members
        if each.model.architecture is None and each.served.usd_per_million_tokens and each.served.chip
    ]
    found += [
        f"on how many chips {each.name} trains is not told, so that no interest is counted until launch"
        for each in members
        if each.run.chip_hours and not each.run.chips
    ]
    if plan.serving.utilisation == 1.0:
        found.append("served by chips that are full all day; serving.utilisation says what share of them is needed")
    if not plan.teacher.share:
        found.append(f"{members[0].name} serves nobody: its dollars are borne by its students alone")
    if plan.teacher.exists:
        found.append(f"{members[0].name} exists: nothing of what it cost is counted")
    found += [
        f"{each.name} learns from no teacher and bears none of its dollars"
        for each in members[1:]
        if each.member.signal == "none"
    ]
    return tuple(dict.fromkeys(found))
