"""The teachers of a distill.toml: local models, or one behind a server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from flashstill.checked import one_of
from flashstill.recipes.ranges import Given, Positive, Prose, Rows, Seconds, Source

if TYPE_CHECKING:
    from flashstill.recipes.distillation import DistillRecipe

APIS = ("vllm", "echo", "sglang")


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherRecipe:
    """A teacher. weight: in an ensemble; data: the text it is a specialist for, empty for all.  system: a system
    prompt that this teacher sees and the student does not; system_file: the same in a file.

    For a served teacher `model` is the server's URL, up to /v1; name: of the model on the server; tokenizer: the
    directory of its tokenizer; api: how it returns log-probabilities of a prompt; in_flight: concurrent requests;
    time_limit_s: per request.  base: the base model of a LoRA adapter, if not the one that its configuration names.
    """

    model: Given
    weight: Positive = 1.0
    data: Source = ""
    name: Source = ""
    tokenizer: Source = ""
    api: Annotated[str, one_of(APIS)] = "vllm"
    in_flight: Rows = 8
    time_limit_s: Seconds = 300.0
    system: Prose = ""
    system_file: Source = ""
    base: Source = ""

    @property
    def served(self) -> bool:
        """Whether it is behind a server."""
        return is_address(self.model)

    @property
    def prompted(self) -> bool:
        """Whether it sees a system prompt that the student does not."""
        return bool(self.system or self.system_file)


class Asked(Protocol):
    """A teacher that may be behind a server."""

    @property
    def model(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def tokenizer(self) -> str: ...


def is_address(model: str) -> bool:
    """Whether a model's name is the address of a server."""
    return model.startswith(("http://", "https://"))


def misaddressed(teacher: Asked, table: str) -> Iterator[str]:
    """Errors in a teacher's address, as sentences; table: the name of its table, for messages."""
    if not is_address(teacher.model):
        if teacher.name or teacher.tokenizer:
            yield f"{table}.name and {table}.tokenizer go with an address (http://...), not {teacher.model!r}"
        return
    if getattr(teacher, "base", ""):
        yield f"{table}.base is the base model of an adapter on this disk, not of a server's"
    if "@" in teacher.model:
        yield f"{table}.model must not hold a password; put the key into the variable FLASHSTILL_API_KEY"
    if not teacher.name or not teacher.tokenizer:
        yield f"the teacher at {teacher.model} needs a name (of the model there) and a tokenizer (a directory)"


def teaches_itself(recipe: DistillRecipe) -> bool:
    """Whether the student begins as its only teacher and learns from nothing but that teacher's distributions, from
    which it differs by nothing: not by rounding, a prompt, labels or the balance of its routers."""
    student, teacher = recipe.student, recipe.teachers[0]
    same = student.kind == "copy" and student.model in ("", teacher.model) and student.base in ("", teacher.base)
    others = student.quantise or recipe.hard_weight or student.balance_rate > 0 or student.balance_loss > 0
    by_labels = not recipe.losses or (recipe.regime.kind == "sequence" and not recipe.regime.soft)
    alone = len(recipe.teachers) == 1 and not teacher.prompted and not teacher.served
    return bool(same and alone and not others and not by_labels)


def problems(recipe: DistillRecipe) -> Iterator[str]:
    """Contradictions between the teachers and the rest of a recipe."""
    for teacher in recipe.teachers:
        yield from misaddressed(teacher, "teachers")
        if teacher.system and teacher.system_file:
            yield "teachers.system and teachers.system_file are the same prompt; give one of them"
    if any(teacher.served for teacher in recipe.teachers):
        yield from _served_problems(recipe)


def _served_problems(recipe: DistillRecipe) -> Iterator[str]:
    """What a teacher behind a server, which gives its likeliest ids, is asked for in vain."""
    student, signals = recipe.student, recipe.signals.kind
    if signals not in ("topk", "none"):
        yield (
            'a teacher behind a server gives its likeliest ids: signals.kind must be "topk", or "none" to ask it in'
            f" every step, not {signals!r}"
        )
    if student.kind != "scratch" and not student.model:
        yield (
            f"a student of kind {student.kind} is made of a model, and the teacher is behind a server: name a model"
            ' with student.model, or choose kind "scratch"'
        )
    if recipe.regime.kind == "sequence":
        yield "a teacher behind a server writes no text yet: regime.kind must be offline or on-policy, not sequence"
    if len(recipe.teachers) > 1:
        yield "a teacher behind a server teaches alone: an ensemble needs the logits of all; name models on this disk"
    if any(loss.temperature != 1.0 or loss.divergence != "forward-kl" for loss in recipe.losses):
        yield "a teacher behind a server, which gives its likeliest ids, has the forward KL at temperature 1 only"
    if signals == "none" and any(teacher.prompted for teacher in recipe.teachers):
        yield 'teachers.system of a teacher behind a server needs its signals: signals.kind must be "topk"'
