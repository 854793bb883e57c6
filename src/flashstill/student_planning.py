"""The Python face of `plan --quality-target`: the cheapest student that reaches a quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.arch import load_architecture
from flashstill.asking import Edits, FactsLike, facts_of, of_kind, search_by_keywords
from flashstill.calls import refuses_other_keywords
from flashstill.errors import BadInput, shown
from flashstill.facts import Facts
from flashstill.plan.space import normalised
from flashstill.progress import Progress
from flashstill.quality import Law, published
from flashstill.quality_laws import quality_law
from flashstill.targets import TargetPlan, TargetQuestion, parse_target, parse_trained, plan_target

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["plan_student"]
LAWS = ("besiroglu-2024", "busbridge-2025")
"""laws without and with a teacher"""
TRAIN_LENGTH = 4096
"""tokens of a training sequence, where the models' contexts are as long"""
_NOT_SEARCHED = ("draft", "draft_tokens", "acceptance", "acceptance_decay", "measured_acceptance")


@refuses_other_keywords
def plan_student(
    *,
    target: float | str,
    like: str | Architecture,
    chips: str | Sequence[str],
    max_chips: int,
    tokens_served: float,
    law: str | Law | None = None,
    runs: str | Path | None = None,
    domain: str = "",
    role: str = "",
    extrapolate: bool = False,
    experts: float | Sequence[float | None] | None = 1,
    teacher: str | None = None,
    teacher_loss: float | None = None,
    students: int = 1,
    unique_tokens: float | None = None,
    train_chips: str | Sequence[str] = (),
    train_days: float = 90.0,
    train_length: int | None = None,
    train_precision: str = "bf16",
    price: str = "rented",
    progress: Progress | None = None,
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> TargetPlan:
    """The cheapest student that reaches a quality: training, the teacher's reading of its text, and serving.

    target: a loss in nats per token of the law's corpus, or "as MODEL", or "as MODEL on 15T".  like: the model whose
    shape is scaled.  chips, max_chips and more (isl, osl, latency bounds, precisions, batches, ...): of serving, as in
    `search`.  tokens_served: output tokens in the student's life.
    law: a published law by name, or a Law; default: besiroglu-2024, or with a teacher busbridge-2025.  runs: a CSV or
    JSON-lines file of at least five runs of one's own, to which a law is fitted (domain, role and extrapolate as in
    `quality_law`; with a teacher its teacher_loss too).
    experts: FFN weights over those of one token, to be tried; None for as many as `like` has.
    teacher: "MODEL" or "MODEL on 15T"; teacher_loss: its loss, if the law is not to tell it.  students: that share its
    stored signals.  unique_tokens: of the training text.
    train_chips: kinds to train on (default: those of serving); train_days: in which the training must end;
    train_length: tokens of a sequence (default: 4096, or a shorter context); train_precision: bf16 or fp8.
    price, facts and set work as in `predict`.
    Raises BadInput for invalid values, and InfeasiblePlan, with counted reasons, for a target that nothing reaches.
    """
    for name in _NOT_SEARCHED:
        if more.get(name) is not None:
            raise BadInput(f"{name} is of speculative decoding, which a search for a student leaves out")
    numbers = {"tokens_served": tokens_served, "train_days": train_days}
    choices = {"teacher_loss": teacher_loss, "unique_tokens": unique_tokens}
    shape = load_architecture(like) if isinstance(like, str) else like
    table = facts_of(facts, set, (*_names(chips), *_names(train_chips)))
    served_on = _names(chips)
    if not served_on:
        raise BadInput("chips names no chip to serve on; give one, as h100-sxm")
    scenario, space = search_by_keywords({"model": shape, "chips": served_on, "max_chips": max_chips, **more})
    tried = (experts,) if experts is None or isinstance(experts, int | float | str) else tuple(experts)
    taught_by = None if teacher is None else parse_trained(of_kind("teacher", teacher, "str"))
    length = of_kind("train_length", train_length, "int | None")
    if length is None:
        length = min([TRAIN_LENGTH, shape.context, *([] if taught_by is None else [taught_by.model.context])])
    question = TargetQuestion(
        target=parse_target(target) if isinstance(target, str) else of_kind("target", target, "float"),
        like=shape,
        scenario=scenario,
        space=normalised(table, space),
        law=_law(law, runs, {"domain": domain, "role": role, "extrapolate": extrapolate}, teacher, teacher_loss),
        experts=tuple(of_kind("experts", count, "float | None") for count in tried),
        teacher=taught_by,
        train_chips=_known(table, _names(train_chips) or space.chips),
        **{name: of_kind(name, value, "float") for name, value in numbers.items()},
        **{name: of_kind(name, value, "float | None") for name, value in choices.items()},
        students=of_kind("students", students, "int"),
        train_length=length,
        train_precision=train_precision,
        price=price,
    )
    return plan_target(table, question, progress)


def _law(
    law: str | Law | None, runs: str | Path | None, told: Mapping[str, Any], teacher: str | None, loss: float | None
) -> Law:
    """The law to ask. told: domain, role and extrapolate, of runs alone."""
    if runs is None:
        for name, value in told.items():
            if value:
                raise BadInput(f"{name} is of a law fitted on runs; give runs, or leave it out")
        if law is None or isinstance(law, str):
            return published(LAWS[teacher is not None] if law is None else law)
        if not isinstance(law, Law):
            raise BadInput(f"law is {shown(law)}, not a published law's name or what quality_law returns")
        return law
    if law is not None:
        raise BadInput("give a law or runs to fit one to, not both")
    if not isinstance(runs, str | Path):
        raise BadInput(f"runs is {shown(runs)}, not the path of a file; for rows, give law=quality_law(rows)")
    return quality_law(Path(runs), **told, teacher_loss=None if teacher is None else loss)


def _names(chips: str | Sequence[str]) -> tuple[str, ...]:
    names = (chips,) if isinstance(chips, str) else tuple(chips)
    return tuple(each.strip() for name in names for each in name.split(",") if each.strip())


def _known(facts: Facts, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(facts.machine(name).name for name in names))
