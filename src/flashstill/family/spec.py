"""A family at planning scale, as its TOML file says it: who is trained on what, and who serves which traffic.

[money]      price basis, cost of capital, life of a generation
[training]   chips and batches, for all models that do not say otherwise
[serving]    chips to choose from, lengths, latency bounds and output tokens of the whole family per day
[teacher]    one model; [[students]] one or more
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import LARGEST, between, built, one_of, sized, toml_tree
from flashstill.economics import BASES
from flashstill.errors import BadInput, shortened

SIGNALS = ("online", "cached", "text", "none")
"""what a student learns from: the teacher run beside it, its logits on disk, text that it wrote, or labels alone"""
OWN = "own"
"""a framework of the maker's own, whose overheads lie between those of none and of the public one"""
SHORTEST_LIFE_YEARS = 1e-3
"""of a generation: about eight hours"""
_Positive = between(0, LARGEST, open_low=True)
_Amount = Annotated[float, between(0, LARGEST)]
_Ratio = Annotated[float, between(0, 1)]
_Told = Annotated[float, between(0, LARGEST, open_low=True)]
_ToldRatio = Annotated[float, between(0, 1, open_low=True)]
_ToldCount = Annotated[int, between(1, 10**9)]
"""what may be left out, which is 0 in Python: a written 0 is a mistake, as it would mean something else"""
_Name = Annotated[str, sized(1, 100)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Money:
    """cost_of_capital: interest per year; None for the fact row, as for life_years, a generation's years of service.

    growth_per_year: traffic multiplies by 1 + this every year.  shared_by: the teacher's cost is divided in proportion
    to tokens, or in equal parts among the models that it made or is.
    """

    price: Annotated[str, one_of(BASES)] = BASES[0]
    cost_of_capital: Annotated[float, between(0, 1)] | None = None
    life_years: Annotated[float, between(SHORTEST_LIFE_YEARS, 100)] | None = None
    growth_per_year: Annotated[float, between(-1, 100, open_low=True)] = 0.0
    shared_by: Annotated[str, one_of(("tokens", "students"))] = "tokens"


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Chips and batches of training runs. batch: sequences of a step.  framework: as `predict --phase train`, or "own".

    usd_per_chip_hour: left out for the price rows.
    """

    chip: str = ""
    chips: _ToldCount = 0
    length: Annotated[int, between(1, 10**9)] = 4096
    batch: Annotated[int, between(1, 10**9)] = 1024
    microbatch: Annotated[int, between(1, 10**6)] = 1
    precision: str = "bf16"
    framework: str = ""
    usd_per_chip_hour: _Told = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """How all models are served. tokens_per_day: output tokens of the whole family; isl prompt tokens to osl of them.

    utilisation: share of the day's chip-hours that are needed; the others are paid as well.  None: all of rented chips,
    of owned ones the fact row server.utilisation_ratio, which the price of their hours holds.
    """

    chips: Annotated[tuple[str, ...], sized(1, 100)]
    tokens_per_day: Annotated[float, between(1, LARGEST)]
    max_chips: Annotated[int, between(1, 2**20)] = 16
    isl: Annotated[int, between(1, 10**9)] = 1024
    osl: Annotated[int, between(2, 10**9)] = 1024
    max_ttft_s: Annotated[float, _Positive] | None = None
    max_tpot_s: Annotated[float, _Positive] | None = None
    precision: str = "published"
    utilisation: Annotated[float, between(0.01, 1)] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A model of the family. model: a known name or a path; or parameters (and active_parameters of a mixture).

    tokens: trained on.  share: of the family's output tokens.  exists: it is paid for already, or free to use.
    flops, mfu, usd: of its training, where they are known better.  other_usd: staff, experiments, failed runs.
    loss: on the law's scale.  usd_per_million_tokens: of output, where no plan shall say.
    signal: what a student learns from.  passes: times that a student reads the same text.
    chip, chips, length, batch, precision, framework, usd_per_chip_hour: as of [training], for this model alone.
    """

    name: _Name = ""
    model: str = ""
    parameters: _Told = 0.0
    active_parameters: _Told = 0.0
    tokens: _Told = 0.0
    share: _Ratio = 0.0
    exists: bool = False
    flops: _Told = 0.0
    mfu: _ToldRatio = 0.0
    usd: _Told = 0.0
    other_usd: _Amount = 0.0
    loss: _Told = 0.0
    usd_per_million_tokens: _Told = 0.0
    signal: Annotated[str, one_of(SIGNALS)] = "online"
    passes: Annotated[float, between(1, 1e6)] = 1.0
    chip: str = ""
    chips: _ToldCount = 0
    length: _ToldCount = 0
    batch: _ToldCount = 0
    precision: str = ""
    framework: str = ""
    usd_per_chip_hour: _Told = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyPlan:
    """A teacher, its students, and their traffic."""

    teacher: Member
    students: Annotated[tuple[Member, ...], sized(1, 1000)]
    serving: Serving
    name: str = "family"
    money: Money = field(default_factory=Money)
    training: Training = field(default_factory=Training)

    @property
    def members(self) -> tuple[tuple[str, Member], ...]:
        """(key in the file, member) of the teacher and the students."""
        return (("teacher", self.teacher), *((f"students[{at}]", each) for at, each in enumerate(self.students)))


def read_plan(path: Path) -> FamilyPlan:
    """The plan of a TOML file; BadInput names the key that is wrong."""
    return plan_of(toml_tree(path), shortened(str(path), 200))


def plan_of(tree: dict[str, Any], where: str) -> FamilyPlan:
    """The plan of plain tables; BadInput names `where` and the key that is wrong."""
    plan = built(FamilyPlan, tree, where)
    for problem in _problems(plan):
        raise BadInput(f"{where}: {problem}")
    return plan


def _problems(plan: FamilyPlan) -> Iterator[str]:
    names = [called(key, member) for key, member in plan.members]
    for key, member in plan.members:
        yield from _of_member(plan, key, member)
    for name in names:
        if names.count(name) > 1:
            yield f"two models are called {name!r}: give each a name of its own"
    bearers = [each for each in plan.students if each.share and each.signal != "none"]
    if not (plan.teacher.exists or plan.teacher.share or bearers):
        yield (
            "the teacher serves nobody and no student that is served learns from it (signal), so that nobody bears its"
            " training; set teacher.exists, or leave its dollars out"
        )
    shares = math.fsum(member.share for _, member in plan.members)
    if abs(shares - 1.0) > 1e-6:
        yield f"the keys share of the teacher and the students sum to {shares:g}; they must sum to 1"


def _of_member(plan: FamilyPlan, key: str, member: Member) -> Iterator[str]:
    if not member.model and not member.parameters and not (member.flops and key == "teacher"):
        yield f"{key} has no model: give {key}.model, or {key}.parameters"
    if member.model and member.parameters:
        yield f"{key} has both model and parameters; the model's shape says its parameters, so leave one out"
    if member.active_parameters > member.parameters:
        yield f"{key}.active_parameters is {member.active_parameters:g}, more than its parameters"
    if member.share and not (member.model or member.parameters or member.usd_per_million_tokens):
        yield f"{key}.usd_per_million_tokens is missing: a model of unknown size cannot be served by a plan"
    is_read = any(each.signal in ("online", "cached") for each in plan.students)
    if key == "teacher" and member.flops and not member.tokens and is_read:
        yield "teacher.tokens is missing: what a token takes to read follows from flops and tokens"
    elif not member.tokens and _needs_tokens(key, member):
        yield f"{key}.tokens is missing: how many tokens is it trained on?"
    if key != "teacher" and member.exists:
        yield f"{key}.exists has no meaning: only the teacher may be there already"
    if key == "teacher" and member.signal != "online":
        yield "teacher.signal has no meaning: signals are the students'"
    needs_chip = not (member.exists and key == "teacher") and not member.usd
    if needs_chip and not (member.chip or plan.training.chip):
        yield f"training.chip is missing: {key} is trained on some chip"


def _needs_tokens(key: str, member: Member) -> bool:
    """A student learns from a text; a teacher may be there, or its bill told."""
    if key == "teacher":
        return not (member.exists or member.usd or member.flops)
    return not (member.usd and member.signal == "none")


def called(key: str, member: Member) -> str:
    """The name of a member: as told, else that of its model, else its key."""
    return member.name or member.model or key
