"""Combines the teachers of a distillation into one source for training: stored signals, or models run online."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flashstill.recipes import DistillRecipe
from flashstill.runs.served import server_of
from flashstill.runs.views import view_for

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.signals import Kind
    from flashstill.distill.training import TeacherSource
    from flashstill.runs.engine import Distillation


def kind_of(recipe: DistillRecipe, is_taught: bool) -> Kind:
    """The kind of signals that is stored for a packed text. is_taught: whether the student learns from it; of other
    texts a local teacher's signals are exact."""
    from flashstill.distill.signals import Hidden, kind

    if recipe.teachers[0].served:
        return kind("topk", 0, recipe.signals.k, 0)
    signals = recipe.signals
    return kind(signals.kind, signals.draws, signals.k, recipe.seed) if is_taught else Hidden()


def teacher_of(work: Distillation, packed: Packed) -> tuple[TeacherSource, list[int]]:
    """The teachers combined into one source, and the sizes of their vocabularies."""
    from flashstill.distill.models import load_tokenizer, parts
    from flashstill.distill.teachers import Online
    from flashstill.distill.teachers.served import ServedTeacher

    recipe, count = work.recipe, len(work.recipe.teachers)
    if recipe.align == "spans":
        packed = work.rows(work.taught)
    if recipe.signals.kind == "none" and recipe.teachers[0].served:
        tokenizer = load_tokenizer(work.directories[0])
        server = server_of(recipe.teachers[0])
        return ServedTeacher(server, recipe.signals.k, tokenizer, work.progress), [len(tokenizer)]
    if recipe.signals.kind == "none":
        members: list[TeacherSource] = [
            Online(work.model(index), True, teacher.model, packed.target_document, view_for(work, index, work.taught))
            for index, teacher in enumerate(recipe.teachers)
        ]
        sizes = [parts(work.model(index)).head.shape[0] for index in range(count)]
    else:
        opened = [work.open(index, work.taught) for index in range(count)]
        sizes = [signals.head.shape[0] for signals in opened if signals.head is not None]
        members = list(opened)
    return _combined(work, members, packed, work.taught), [] if recipe.align == "spans" else sizes


def stored_teachers(work: Distillation, part: str) -> TeacherSource:
    """The teachers combined into one source, from their stored signals on a packed text that is not trained on."""
    members: list[TeacherSource] = [work.open(index, part) for index in range(len(work.recipe.teachers))]
    return _combined(work, members, work.packed(part), part)


def _combined(work: Distillation, members: Sequence[TeacherSource], packed: Packed, part: str) -> TeacherSource:
    """packed: the text `part`."""
    from flashstill.distill.teachers import Router

    if work.recipe.routed:
        assert packed.window_group is not None
        return Router(members, packed.window_group)
    if work.recipe.align == "spans":
        return work.aligned(together(work.recipe, members), part)
    return together(work.recipe, members)


def together(recipe: DistillRecipe, members: Sequence[TeacherSource]) -> TeacherSource:
    """An ensemble, or the single teacher; of specialists the first, for timing: all are equally fast."""
    from flashstill.distill.teachers import Ensemble

    if len(members) == 1 or recipe.routed:
        return members[0]
    return Ensemble(members, [teacher.weight for teacher in recipe.teachers], recipe.mean)
