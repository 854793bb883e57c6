"""Served teachers in a distillation: their signals, and the model that the student is made from instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.arch.adapter.sizes import VOCABULARY, stated_size
from flashstill.errors import BadInput
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.recipes.teachers import TeacherRecipe, teaches_itself
from flashstill.runs.limits import check_limits
from flashstill.runs.tokenizers import tokenizers_differ

if TYPE_CHECKING:
    import torch

    from flashstill.distill.data.packing import Packed
    from flashstill.distill.data.views import View
    from flashstill.distill.signals import Kind
    from flashstill.distill.signals.making import Built
    from flashstill.distill.teachers.served import Server


def build_from(
    teacher: TeacherRecipe,
    kind: Kind,
    key: Mapping[str, Any],
    packed: Packed,
    tokenizer: Any,
    directory: Path,
    progress: Progress,
    label: str,
    share: tuple[int, int],
    view: View | None = None,
) -> Built:
    """Build a served teacher's signals on a packed text (distill/teachers/served)."""
    from flashstill.distill.signals import TopK
    from flashstill.distill.teachers.served import build_from_server

    assert isinstance(kind, TopK), "the recipe is refused otherwise"
    server = server_of(teacher)
    return build_from_server(server, kind, key, packed, tokenizer, directory, progress, label, share, view)


def server_of(teacher: TeacherRecipe) -> Server:
    """The server of a served teacher."""
    from flashstill.distill.teachers.served import Server

    return Server(
        base=teacher.model,
        name=teacher.name,
        api=teacher.api,
        in_flight=teacher.in_flight,
        time_limit_s=teacher.time_limit_s,
    )


def directories_of(recipe: DistillRecipe, progress: Progress) -> tuple[list[Path], str]:
    """Every teacher's directory (of a served one its tokenizer's), and the fingerprint of the shared tokenizer.

    Raises BadInput if teachers or student have different vocabularies.
    """
    from flashstill.distill.models import load_tokenizer, tokenizer_fingerprint
    from flashstill.distill.teachers import resolve_teacher, resolve_tokenizer

    directories = [
        resolve_tokenizer(teacher.tokenizer, progress)
        if teacher.served
        else resolve_teacher(teacher.model, progress, base=teacher.base)
        for teacher in recipe.teachers
    ]
    for other in directories[1:]:
        difference = tokenizers_differ(directories[0], other)
        if difference:
            counts = ", ".join(f"{path.name} {len(load_tokenizer(path)):,}" for path in directories)
            raise BadInput(
                f"the teachers have different vocabularies ({counts} tokens): {difference}; they must share one"
                " tokenizer"
            )
    check_student(recipe, directories[0], progress)
    check_limits(recipe, directories, progress)
    if teaches_itself(recipe):
        progress.say(
            f"the student {recipe.name} begins as its teacher and is taught by it alone: its loss is about 0 from the"
            " start, and there is nothing to learn; round it, make it smaller, or give another teacher or hard_weight"
        )
    return directories, tokenizer_fingerprint(directories[0])


def check_student(recipe: DistillRecipe, directory: Path, progress: Progress) -> None:
    """Refuse a student with another vocabulary before any request. directory: with the teacher's tokenizer."""
    from flashstill.distill.models import load_tokenizer
    from flashstill.distill.models.alike import first_difference
    from flashstill.distill.students import read_fields
    from flashstill.distill.teachers import resolve_teacher

    if recipe.align == "spans":
        return
    student, theirs = recipe.student, load_tokenizer(directory)
    config = Path(student.config)
    if student.model:
        place = resolve_teacher(student.model, progress, "student.model", student.base)
        ours, config = load_tokenizer(place), place / "config.json"
        if ours.get_vocab() != theirs.get_vocab():
            raise BadInput(
                f"the student's model {place.name} has another vocabulary than the teacher ({len(ours):,} tokens, and"
                f" {len(theirs):,} in {directory.name}): {first_difference(theirs, ours)}; they must share one,"
                ' or set align = "spans"'
            )
    if recipe.teachers[0].served:
        rows = stated_size(read_fields(config), VOCABULARY, "the student") or len(theirs)
        if rows < len(theirs):
            raise BadInput(f"{config} has a vocabulary of {rows}, the teacher {len(theirs):,} tokens")


def origin_of(
    recipe: DistillRecipe, directory: Path, teacher: Callable[[], Any], progress: Progress, dtype: torch.dtype
) -> tuple[Any, int]:
    """The model that the student is made from (None for one from scratch), and the vocabulary size.

    directory: with the student's tokenizer; teacher: loads the first teacher, if local; dtype: of any other model.
    """
    from flashstill.distill.models import left_out, load_model, load_tokenizer, parts
    from flashstill.distill.students import read_fields
    from flashstill.distill.teachers import resolve_teacher

    is_own = recipe.align == "spans" and recipe.student.kind == "scratch"
    if not is_own and (recipe.student.model or not recipe.teachers[0].served):
        named = recipe.student.model
        if named:
            place = resolve_teacher(named, progress, base=recipe.student.base)
            model = load_model(place, dtype)
            for note in left_out(model, place.name):
                progress.say(note)
        else:
            model = teacher()
        return model, stated_size(model.config, VOCABULARY) or parts(model).head.shape[0]
    # a head may have more rows than there are tokens
    return None, stated_size(read_fields(Path(recipe.student.config)), VOCABULARY) or len(load_tokenizer(directory))
