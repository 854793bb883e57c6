"""The teachers of a distill.toml: models on this disk, or one behind a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flashstill.errors import unknown

APIS = ("vllm", "echo", "sglang")


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherRecipe:
    """A teacher. weight: its share of an ensemble; data: the text it is the specialist for, empty for all.

    Behind a server `model` is its address, up to /v1, and then: name, of the model there; tokenizer: a directory whose
    ids it uses; api: how it gives log-probabilities of a prompt; in_flight: requests at a time; time_limit_s: of one.
    """

    model: str
    weight: float = 1.0
    data: str = ""
    name: str = ""
    tokenizer: str = ""
    api: str = "vllm"
    in_flight: int = 8
    time_limit_s: float = 300.0

    @property
    def served(self) -> bool:
        """Whether it is behind a server."""
        return self.model.startswith(("http://", "https://"))


def problems(teachers: Sequence[TeacherRecipe], signals: str, student: str, origin: str) -> Iterator[str]:
    """What cannot be. signals, student: their kinds; origin: the model that the student is cut from, if it is named."""
    for teacher in teachers:
        if not teacher.served:
            if teacher.name or teacher.tokenizer:
                yield f"teachers.name and teachers.tokenizer go with an address (http://...), not {teacher.model!r}"
            continue
        if "@" in teacher.model:
            yield "teachers.model must not hold a password; put the key into the variable FLASHSTILL_API_KEY"
        if not teacher.name or not teacher.tokenizer:
            yield f"the teacher at {teacher.model} needs a name (of the model there) and a tokenizer (a directory)"
        if teacher.api not in APIS:
            yield unknown("teachers.api", teacher.api, APIS)
        if teacher.in_flight < 1 or teacher.time_limit_s <= 0:
            yield "teachers.in_flight must be at least 1 and teachers.time_limit_s positive"
    if any(teacher.served for teacher in teachers):
        if signals != "topk":
            yield f'a teacher behind a server gives its likeliest ids: signals.kind must be "topk", not {signals!r}'
        if student != "scratch" and not origin:
            yield (
                f"a student of kind {student} is made of a model, and the teacher is behind a server: name a model"
                ' with student.model, or choose kind "scratch"'
            )
