"""What a family costs: training, signals and serving of every model, and the teacher as a prerequisite of them all.

own            training + signals + other, at launch, over the model's own tokens; over the family's if it serves nobody
prerequisite   the teacher's training + other, at launch (it ends before its students begin), over the tokens of the
               teacher and those it taught in proportion, or over these models in equal parts; 0 if it exists
total          serving + own + prerequisite, dollars per million output tokens
"""

from __future__ import annotations

from dataclasses import replace

from flashstill.economics import hourly_price
from flashstill.economics.bill_of_materials import Rows
from flashstill.errors import BadInput, InfeasiblePlan, unknown
from flashstill.facts import Facts
from flashstill.family.lifetime import Life
from flashstill.family.member_costs import STUDENT, TEACHER, FamilyCosts, MemberCosts, own_parts
from flashstill.family.models import Model, model_of
from flashstill.family.serving import Served, served
from flashstill.family.signals import Signals, signals_of
from flashstill.family.spec import OWN, FamilyPlan, Member, Money, Training, called
from flashstill.family.training import FORWARD_SHARE, Rate, rate_of, run_of, told_run
from flashstill.plan.deployment import AS_PUBLISHED, known_precision
from flashstill.plan.train import FRAMEWORKS
from flashstill.units import DAYS_PER_YEAR

LONGEST_YEARS = 20.0
"""of a run; its interest would soon be beyond all numbers"""


def life_of(rows: Rows, money: Money) -> Life:
    """The life of a generation: as told, else of the fact rows (or draws of them)."""
    return Life(
        years=rows.value("model", "life_years") if money.life_years is None else money.life_years,
        interest=rows.value("capital", "interest_ratio") if money.cost_of_capital is None else money.cost_of_capital,
        growth=money.growth_per_year,
    )


def facts_for(facts: Facts, plan: FamilyPlan) -> Facts:
    """The fact rows with the cost of capital that the plan tells, where chips are owned and bear it too."""
    told, money = plan.money.cost_of_capital, plan.money
    if told is None or not any(hourly_price(facts, chip, money.price).usd_per_watt_hour for chip in _chips(plan)):
        return facts
    row = replace(facts.get("capital", "interest_ratio"), value=told, low=told, high=told, source="cost_of_capital")
    return facts.with_rows([row])


def _chips(plan: FamilyPlan) -> list[str]:
    """The chips that the plan names, in its order."""
    names = (*plan.serving.chips, plan.training.chip, *(each.chip for _, each in plan.members))
    return list(dict.fromkeys(name for name in names if name))


def check_names(facts: Facts, plan: FamilyPlan) -> None:
    """BadInput or MissingFact for a chip, format or framework that is not known, also where dollars are told."""
    for name in _chips(plan):
        facts.machine(name)
    settings: list[Training | Member] = [plan.training, *(member for _, member in plan.members)]
    for precision in (plan.serving.precision, *(each.precision for each in settings)):
        if precision not in ("", AS_PUBLISHED):
            known_precision(precision)
    for framework in (each.framework for each in settings):
        if framework not in ("", OWN, *FRAMEWORKS):
            raise BadInput(unknown("training framework", framework, (OWN, *FRAMEWORKS)))


def family_costs(facts: Facts, plan: FamilyPlan) -> FamilyCosts:
    """All costs of a family. Raises BadInput and MissingFact for what is unknown, InfeasiblePlan if nothing serves."""
    check_names(facts, plan)
    facts = facts_for(facts, plan)
    life = life_of(facts, plan.money)
    teacher = _teacher(facts, plan)
    rate = teacher.rate
    students = [_student(facts, plan, f"students[{at}]", each) for at, each in enumerate(plan.students)]
    for each in (teacher, *students):
        _check_days(each)
    written = teacher.served.usd_per_million_tokens
    taught = [(each.member, each.run) for each in students]
    read_flops = teacher.model.read_flops or (0.0 if rate is None else rate.flops * FORWARD_SHARE)
    signals = signals_of(facts, taught, rate, read_flops, written)
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


def _teacher(facts: Facts, plan: FamilyPlan) -> MemberCosts:
    """Its rate is known where its parameters or FLOPs are told; its tokens may be left out."""
    member, model = plan.teacher, _model(plan.teacher, TEACHER)
    is_known = _has_chip(plan, member) and bool(model.active_parameters or member.flops)
    rate = rate_of(facts, model, member, plan.training, plan.money.price) if is_known else None
    return _costs_of(facts, plan, TEACHER, member, model, rate, member.tokens or (1.0 if member.flops else 0.0))


def _student(facts: Facts, plan: FamilyPlan, key: str, member: Member) -> MemberCosts:
    model, rate = _model(member, key), None
    if _has_chip(plan, member):
        rate = rate_of(facts, model, member, plan.training, plan.money.price, thrifty=True)
    return _costs_of(facts, plan, key, member, model, rate, member.tokens)


def _has_chip(plan: FamilyPlan, member: Member) -> bool:
    return bool(member.chip or plan.training.chip)


def _costs_of(
    facts: Facts, plan: FamilyPlan, key: str, member: Member, model: Model, rate: Rate | None, tokens: float
) -> MemberCosts:
    """The run, whose dollars are told or follow from the rate, and the serving; signals and prerequisite come later."""
    run = told_run(member.usd, tokens) if member.usd or rate is None else run_of(rate, tokens)
    found = served(facts, model, member, plan.serving, plan.money.price)
    _check_served(key, member, found)
    return MemberCosts(
        key=key, name=called(key, member), role=TEACHER if key == TEACHER else STUDENT, member=member, model=model,
        rate=rate, run=run, signals=None, served=found, tokens_per_day=member.share * plan.serving.tokens_per_day,
        own_usd=0.0,
    )  # fmt: skip


def _model(member: Member, key: str) -> Model:
    return model_of(member.model, member.parameters, member.active_parameters, called(key, member))


def _check_days(each: MemberCosts) -> None:
    if not each.member.exists and each.run.days > LONGEST_YEARS * DAYS_PER_YEAR:
        raise BadInput(
            f"{each.key} would train for {each.run.days / DAYS_PER_YEAR:.3g} years on {each.run.chips} chips; raise"
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
    spread = {**own_parts(each, life), "prerequisite": prerequisite}
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
        f"on how many chips {each.name} trains is not told, so that no interest is counted until launch,"
        " nor the storage of cached signals"
        for each in members
        if each.run.chip_hours and not each.run.chips
    ]
    searched = [each.served for each in members if each.served.chip]
    if any(not each.owned and plan.serving.utilisation in (None, 1.0) for each in searched):
        found.append("served by chips that are full all day; serving.utilisation says what share of them is needed")
    if any(each.owned and plan.serving.utilisation is None for each in searched):
        found.append("owned chips earn in the share of their hours that server.utilisation_ratio says")
    found += [
        f"{each.name} serves nobody: its own dollars are borne by all tokens of the family"
        for each in members[1:]
        if not each.tokens_per_day
    ]
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
