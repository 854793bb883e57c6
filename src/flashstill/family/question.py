"""What is asked when it is asked whether to distil, and the bill of both ways.

step        6 N_S FLOPs per trained token, both ways;  a distilled token takes `overhead` times as much: the
            teacher reads it (2 N_T: online), has read the text for all students (2 N_T / students: cached), or free
teacher     6 N_T D_T FLOPs / students where it is not there yet
labels      the tokens that the distilled student's whole bill buys on labels: D' = D overhead + teacher / (6 N_S)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.errors import BadInput, unknown
from flashstill.family.models import READ_FLOPS, TRAINED_FLOPS

ONLINE, CACHED, FREE = "online", "cached", "free"
READ = (ONLINE, CACHED, FREE)
"""who pays for the teacher's reading: the student alone, all students together, nobody"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """parameters, tokens: of the student.  teacher_...: its size and tokens, or its loss on the law's scale, or the
    ratio of its loss to that of the student on labels for the same bill, as measured on any text.

    teacher_exists: it is paid for.  students: that share its bill.  reading: online, cached or free.
    overhead: bill of a distilled token over one on labels, where it was measured.  unique_tokens: of the text.
    tokens_range: (low, high) of the student's tokens.  initialised: the student starts from the teacher's weights.
    """

    parameters: float
    tokens: float
    teacher_parameters: float | None = None
    teacher_tokens: float | None = None
    teacher_loss: float | None = None
    teacher_ratio: float | None = None
    teacher_exists: bool = True
    students: int = 1
    reading: str = ONLINE
    overhead: float | None = None
    unique_tokens: float | None = None
    tokens_range: tuple[float, float] | None = None
    initialised: bool = False


def check_question(question: Question) -> None:
    for name in (
        "parameters",
        "tokens",
        "teacher_parameters",
        "teacher_tokens",
        "teacher_loss",
        "overhead",
        "unique_tokens",
    ):
        value = getattr(question, name)
        if value is not None and not (np.isfinite(value) and value > 0.0):
            raise BadInput(f"{name} must be above 0, not {value:g}")
    if question.students < 1:
        raise BadInput(f"students must be at least 1, not {question.students}")
    if question.reading not in READ:
        raise BadInput(unknown("reading", question.reading, READ))
    told = question.teacher_loss or question.teacher_ratio
    if not told and not (question.teacher_parameters and question.teacher_tokens):
        raise BadInput(
            "the teacher is not told: give teacher_loss, teacher_ratio, or teacher_parameters and teacher_tokens"
        )
    if question.teacher_loss and question.teacher_ratio:
        raise BadInput("teacher_loss and teacher_ratio both tell the teacher's loss; leave one out")
    if not question.teacher_exists and not (question.teacher_parameters and question.teacher_tokens):
        raise BadInput("a teacher that does not exist needs teacher_parameters and teacher_tokens, which say its bill")
    if question.overhead is None and question.reading != FREE and not question.teacher_parameters:
        raise BadInput(
            "what the teacher's reading takes is not told: give teacher_parameters or overhead, or reading free"
        )
    if question.tokens_range is not None and not 0.0 < question.tokens_range[0] <= question.tokens_range[1]:
        raise BadInput(f"tokens_range must be (low, high), both above 0, not {question.tokens_range}")


def overhead(question: Question) -> float:
    """Bill of a distilled token over one on labels."""
    if question.overhead is not None:
        return question.overhead
    if question.reading == FREE:
        return 1.0
    readers = question.students if question.reading == CACHED else 1
    assert question.teacher_parameters is not None  # checked
    return 1.0 + READ_FLOPS * question.teacher_parameters / readers / (TRAINED_FLOPS * question.parameters)


def teacher_bill(question: Question) -> float:
    """FLOPs of the teacher's training that this student bears."""
    if question.teacher_exists:
        return 0.0
    assert question.teacher_parameters is not None
    assert question.teacher_tokens is not None
    return TRAINED_FLOPS * question.teacher_parameters * question.teacher_tokens / question.students


def bill(question: Question, tokens: Any) -> Any:
    """FLOPs of distilling on so many tokens."""
    return TRAINED_FLOPS * question.parameters * tokens * overhead(question) + teacher_bill(question)


def label_tokens(question: Question, tokens: Any) -> Any:
    """Tokens on labels for the same bill."""
    return bill(question, tokens) / (TRAINED_FLOPS * question.parameters)
