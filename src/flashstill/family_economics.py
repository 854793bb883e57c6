"""The Python face of a family's economics: what it costs, when each student pays, and whether to distil at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.asking import Edits, FactsLike, check_asked_edits, facts_of
from flashstill.calls import refuses_other_keywords
from flashstill.economics.sensitivity import check_draws
from flashstill.errors import BadInput, shown
from flashstill.family.answer import FamilyAnswer, family_answer
from flashstill.family.expected import distillation_law
from flashstill.family.finished import is_result, read_result
from flashstill.family.models import model_of
from flashstill.family.question import Question, check_whole
from flashstill.family.spec import FamilyPlan, plan_of, read_plan
from flashstill.family.worth import Worth
from flashstill.family.worth import should_distil as worth_of

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["family_economics", "should_distil"]
TOKENS_PER_DAY = 1e9
"""output tokens per day of a finished run's family, where nobody says: a labelled guess"""


@refuses_other_keywords
def family_economics(
    family: str | Path | Mapping[str, Any] | FamilyPlan,
    *,
    generations: int = 0,
    student_growth: float = 1.0,
    tokens_per_day: float | None = None,
    chip: str | None = None,
    draws: int = 2000,
    seed: int = 0,
    facts: FactsLike = (),
    set: Edits | None = None,
) -> FamilyAnswer:
    """Dollars per million tokens of a family, its teacher spread over students and years, and when each student pays.

    family: a TOML file, its tables as a dict, or the directory of a finished `flashstill run`.
    generations: later generations, Flash(n) against Pro(n-1); student_growth: factor on a student's size and on its
    tokens in each.  tokens_per_day, chip: of a finished run, whose family serves so much on one of the chips that it
    priced.  draws, seed: of intervals.  facts and set work as in `predict`.
    Raises BadInput naming the key that is wrong, MissingFact, and InfeasiblePlan if a model cannot be served.
    """
    check_draws(draws, seed)
    check_whole("generations", generations, 0)
    if not generations and student_growth != 1.0:
        raise BadInput("student_growth is per generation: say how many (generations)")
    rows = facts_of(facts, set)
    plan, measured, notes = _plan(family, tokens_per_day, chip)
    trained_on = [plan.training.chip, *(member.chip for member in (plan.teacher, *plan.students))]
    check_asked_edits(rows, facts, (*filter(None, trained_on), *plan.serving.chips))
    answer = family_answer(rows, plan, generations, student_growth, draws, seed)
    return replace(answer, measured=measured, notes=(*notes, *answer.notes))


def _plan(
    family: str | Path | Mapping[str, Any] | FamilyPlan, tokens_per_day: float | None, chip: str | None
) -> tuple[FamilyPlan, dict[str, Any] | None, tuple[str, ...]]:
    if isinstance(family, str | Path) and is_result(Path(family)):
        daily = TOKENS_PER_DAY if tokens_per_day is None else tokens_per_day
        plan, measured, notes = read_result(Path(family), daily, chip or "")
        guess = f"served at {TOKENS_PER_DAY:.0e} tokens per day, a guess: say tokens_per_day"
        return plan, measured, notes if tokens_per_day is not None else (guess, *notes)
    for name, value in (("tokens_per_day", tokens_per_day), ("chip", chip)):
        if value is not None:
            raise BadInput(f"{name} is of a finished run; a family's plan says it itself (serving.tokens_per_day, ...)")
    if isinstance(family, FamilyPlan):
        return family, None, ()
    if isinstance(family, Mapping):
        return plan_of(dict(family), "family"), None, ()
    if not isinstance(family, str | Path):
        raise BadInput(f"family is {shown(family)}, not a path, a dict of tables or a FamilyPlan")
    return read_plan(Path(family)), None, ()


@refuses_other_keywords
def should_distil(
    *,
    student: str | Architecture | float,
    tokens: float,
    teacher: str | Architecture | float | None = None,
    teacher_tokens: float | None = None,
    teacher_loss: float | None = None,
    teacher_ratio: float | None = None,
    teacher_exists: bool = True,
    students: int = 1,
    reading: str = "online",
    overhead: float | None = None,
    unique_tokens: float | None = None,
    tokens_range: tuple[float, float] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Worth:
    """Whether to distil a student or to train it on labels for the same bill, and from which tokens on that changes.

    student, teacher: names, architectures or parameters.  tokens: the student's.  teacher_tokens: its own; or
    teacher_loss on the law's scale (nats per token on C4); or teacher_ratio, its loss over that of the student on
    labels for the same bill, measured on any text.  teacher_exists: nobody has to train it.  students: that
    share the teacher's bill.  reading: who pays for its forward passes: online (the student), cached (all students
    together), free.  overhead: measured bill of a distilled token over one on labels.  unique_tokens: of the text.
    tokens_range: (low, high) of the tokens, for how sure the answer is.
    By the distillation law of Busbridge et al. 2025, whose coefficients are unverified.  Raises BadInput.
    """
    sized, active = _parameters("student", student)
    taught, reading_active = (None, None) if teacher is None else _parameters("teacher", teacher)
    question = Question(
        parameters=sized, active_parameters=active, tokens=tokens, teacher_parameters=taught,
        teacher_active_parameters=reading_active, teacher_tokens=teacher_tokens,
        teacher_loss=teacher_loss, teacher_ratio=teacher_ratio, teacher_exists=teacher_exists, students=students,
        reading=reading, overhead=overhead, unique_tokens=unique_tokens, tokens_range=tokens_range,
    )  # fmt: skip
    return worth_of(question, distillation_law(), draws, seed)


def _parameters(name: str, model: str | Architecture | float) -> tuple[Any, float | None]:
    """(parameters for the law, active ones of a mixture of experts or None)"""
    from flashstill.arch import Architecture

    if isinstance(model, int | float) and not isinstance(model, bool):
        return model, None
    if not isinstance(model, str | Architecture):
        raise BadInput(f"{name} is {shown(model)}, not a model or its parameters")
    found = model_of(model)
    return found.dense_parameters, found.active_parameters if found.is_mixture else None
