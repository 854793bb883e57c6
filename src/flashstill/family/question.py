"""What is asked when it is asked whether to distil, and the bill of both ways.

step        6 A_S FLOPs per trained token, both ways;  a distilled token takes `overhead` times as much: the
            teacher reads it (2 A_T: online), has read the text for all students (2 A_T / students: cached), or free
teacher     6 A_T D_T FLOPs / students where it is not there yet
labels      the tokens that the distilled student's whole bill buys on labels: D' = D overhead + teacher / (6 A_S)

A_S and A_T are active parameters, which FLOPs follow; losses follow the parameters of the dense model that a mixture
of experts is taken for (models.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flashstill.checked import LARGEST
from flashstill.errors import BadInput, shown, unknown
from flashstill.family.models import READ_FLOPS, TRAINED_FLOPS

ONLINE, CACHED, FREE = "online", "cached", "free"
READ = (ONLINE, CACHED, FREE)
"""who pays for the teacher's reading: the student alone, all students together, nobody"""
HIGHEST_LOSS = 100.0
"""nats per token that no model has, not even one that guesses: a slip of the keyboard"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """parameters, tokens: of the student.  teacher_...: its size and tokens, or its loss on the law's scale, or the
    ratio of its loss to that of the student on labels for the same bill, as measured on any text.

    active_parameters, teacher_active_parameters: of mixtures of experts, for the bill; None: all of `parameters`.
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
    active_parameters: float | None = None
    teacher_active_parameters: float | None = None

    @property
    def trained_flops(self) -> float:
        """FLOPs of a trained token of the student."""
        return TRAINED_FLOPS * (self.active_parameters or self.parameters)

    @property
    def teacher_active(self) -> float:
        """Active parameters of the teacher, whose size is told."""
        active = self.teacher_active_parameters or self.teacher_parameters
        assert active is not None  # checked
        return active


_TOLD = ("parameters", "tokens")
_LEAST = dict.fromkeys((*_TOLD, "teacher_parameters", "teacher_tokens", "unique_tokens"), 1.0) | {"overhead": 0.1}
_MOST = {"teacher_loss": HIGHEST_LOSS, "teacher_ratio": HIGHEST_LOSS}
_OPTIONAL = (
    "active_parameters",
    "teacher_active_parameters",
    "teacher_parameters",
    "teacher_tokens",
    "teacher_loss",
    "teacher_ratio",
    "overhead",
    "unique_tokens",
)


def check_question(question: Question) -> None:
    """BadInput names the first key that cannot be."""
    for name in (*_TOLD, *_OPTIONAL):
        value = getattr(question, name)
        if value is not None or name in _TOLD:
            _check_number(name, value, _MOST.get(name, LARGEST))
    check_whole("students", question.students, 1)
    for name in ("teacher_exists", "initialised"):
        if not isinstance(getattr(question, name), bool):
            raise BadInput(f"{name} is {shown(getattr(question, name))}, not True or False")
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
    if question.tokens_range is not None:
        _check_range(question.tokens_range)


def _check_number(name: str, value: Any, most: float = LARGEST) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"{name} is {shown(value)}, not a number")
    if not 0.0 < value <= most:  # also for NaN
        raise BadInput(f"{name} must be above 0 and at most {most:g}, not {shown(value)}")
    if value < _LEAST.get(name, 0.0):
        raise BadInput(f"{name} must be at least {_LEAST[name]:g}, not {shown(value)}")


def check_whole(name: str, value: Any, least: int) -> None:
    """BadInput unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadInput(f"{name} is {shown(value)}, not a whole number")
    if value < least:
        raise BadInput(f"{name} must be at least {least}, not {shown(value)}")


def _check_range(ends: Any) -> None:
    if not isinstance(ends, tuple | list) or len(ends) != 2:
        raise BadInput(f"tokens_range must be (low, high), both above 0, not {shown(ends)}")
    for end in ends:
        _check_number("an end of tokens_range", end)
    if ends[0] > ends[1]:
        raise BadInput(f"tokens_range must be (low, high), the lower end first, not {shown(ends)}")


def overhead(question: Question) -> float:
    """Bill of a distilled token over one on labels."""
    if question.overhead is not None:
        return question.overhead
    if question.reading == FREE:
        return 1.0
    readers = question.students if question.reading == CACHED else 1
    return 1.0 + READ_FLOPS * question.teacher_active / readers / question.trained_flops


def teacher_bill(question: Question) -> float:
    """FLOPs of the teacher's training that this student bears."""
    if question.teacher_exists:
        return 0.0
    assert question.teacher_tokens is not None  # checked
    return TRAINED_FLOPS * question.teacher_active * question.teacher_tokens / question.students


def bill(question: Question, tokens: Any) -> Any:
    """FLOPs of distilling on so many tokens."""
    return question.trained_flops * tokens * overhead(question) + teacher_bill(question)


def label_tokens(question: Question, tokens: Any) -> Any:
    """Tokens on labels for the same bill."""
    return bill(question, tokens) / question.trained_flops
