"""What is asked of the search for the cheapest model of a quality."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flashstill.arch import Architecture
from flashstill.economics import RENTED
from flashstill.errors import BadInput, check_counts
from flashstill.plan.scenario import Scenario
from flashstill.plan.space import SearchSpace
from flashstill.plan.train import PRECISIONS
from flashstill.quality import Law
from flashstill.targets.target import TrainedModel

MOST_STUDENTS, MOST_EXPERTS, MOST_TRIED = 10**6, 4096, 64


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetQuestion:
    """The target and everything that its cost depends on.

    target: a loss on the law's scale, or a trained model whose loss it is.  like: whose shape is scaled.
    tokens_served: output tokens that the student serves in its life.  scenario: prompts, answers and latency bounds of
    serving; its model is not used.  space: chips, layouts, formats and placements of serving.
    law: what relates size and tokens to loss.  experts: FFN weights over those of one token, each to be tried; None for
    as many as `like` has.
    teacher: the student learns its distribution; it reads every training token.  teacher_loss: on the law's scale; None
    for what the law gives for its size and tokens.  students: that share the teacher's stored signals.
    unique_tokens: of the training text; more are repetitions.  None for as many as are needed.
    train_chips: kinds to train on.  train_days: in which the training must end.  train_length: tokens of a sequence.
    """

    target: float | TrainedModel
    like: Architecture
    tokens_served: float
    scenario: Scenario
    space: SearchSpace
    law: Law
    experts: tuple[float | None, ...] = (1.0,)
    teacher: TrainedModel | None = None
    teacher_loss: float | None = None
    students: int = 1
    unique_tokens: float | None = None
    train_chips: tuple[str, ...]
    train_days: float = 90.0
    train_length: int = 4096
    train_precision: str = "bf16"
    price: str = RENTED

    def __post_init__(self) -> None:
        check_counts({"students": self.students, "train length": self.train_length})
        _amount("quality target", self.target if isinstance(self.target, float) else 1.0)
        _amount("train days", self.train_days)
        if self.teacher_loss is not None:
            _amount("teacher loss", self.teacher_loss)
        if self.unique_tokens is not None:
            _amount("unique tokens", self.unique_tokens)
        if not math.isfinite(self.tokens_served) or self.tokens_served < 0:
            raise BadInput(f"tokens served is {self.tokens_served:g}, not a number of at least 0")
        if self.students > MOST_STUDENTS:
            raise BadInput(f"students is {self.students:,}; signals are shared by up to {MOST_STUDENTS:,}")
        if len(self.experts) > MOST_TRIED:
            raise BadInput(f"experts names {len(self.experts):,} numbers; a search tries up to {MOST_TRIED}")
        for count in self.experts:
            if count is not None and not 1 <= count <= MOST_EXPERTS:
                raise BadInput(f"experts is {count:g}, not a number from 1 (dense) to {MOST_EXPERTS:,}")
        if not self.experts:
            raise BadInput("experts names no number to try; give 1 for dense models")
        if self.train_precision not in PRECISIONS:
            raise BadInput(f"train precision is {self.train_precision!r}, not one of {', '.join(PRECISIONS)}")
        if not self.train_chips:
            raise BadInput("no chip to train on is named")
        for model in (self.like, *([] if self.teacher is None else [self.teacher.model])):
            if self.train_length > model.context:
                raise BadInput(
                    f"train length is {self.train_length:,}, beyond the {model.context:,} tokens that {model.name} was"
                    " made for"
                )
        if self.students > 1 and self.teacher is None:
            raise BadInput("students share the signals of a teacher; name the teacher, or leave students out")
        if self.teacher_loss is not None and self.teacher is None:
            raise BadInput("a teacher loss needs the teacher whose reading is paid; name the teacher")
        if self.teacher is None and self.law.support.teacher_loss is not None:
            raise BadInput(
                f"{self.law.name} was fitted on students of a teacher; name the teacher, whose reading is paid"
            )
        if self.teacher is not None and "teacher_loss" not in self.law.conditions:
            raise BadInput(
                f"the law {self.law.name} knows no teachers; take busbridge-2025 or a law of your own distilled runs,"
                " or leave the teacher out"
            )


def _amount(name: str, value: float) -> None:
    if not math.isfinite(value) or value <= 0:
        raise BadInput(f"{name} is {value:g}, not a positive number")
