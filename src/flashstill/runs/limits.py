"""Checks before any work that a recipe asks for no more layers and no longer windows than its models have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.arch.adapter.sizes import CONTEXT, DEPTH, VOCABULARY, stated_size
from flashstill.errors import BadInput
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe, SearchRecipe
from flashstill.recipes.distillation import ShapeRecipe
from flashstill.recipes.drafts import KIND as EAGLE
from flashstill.recipes.teachers import TeacherRecipe

if TYPE_CHECKING:
    from flashstill.distill.students import Experts, Format


def check_limits(recipe: DistillRecipe, directories: Sequence[Path], progress: Progress) -> None:
    """BadInput if windows exceed a model's context, the student its origin's size, or a model lacks tensors or a text.

    directories: of the teachers; for a served teacher that of its tokenizer, without information on the model.
    """
    from flashstill.distill.data.text import check_source
    from flashstill.distill.models import check_tensors, load_tokenizer
    from flashstill.distill.models.directories import check_directory
    from flashstill.distill.models.host_memory import check_memory
    from flashstill.distill.students import read_fields
    from flashstill.distill.teachers import resolve_teacher

    read, local, student = [], [], recipe.student
    for teacher, directory in zip(recipe.teachers, directories, strict=True):
        if not teacher.served:
            read.append((f"the teacher {Path(teacher.model).name}", check_directory(directory)))
            local.append(directory)
            check_top(recipe, rows := stated_size(read[-1][1], VOCABULARY), read[-1][0])
            check_end(load_tokenizer(directory), rows, read[-1][0])
        else:
            check_top(recipe, len(load_tokenizer(directory)), f"the teacher {teacher.name}")
    origin = read[0] if read else None
    if student.model:
        local.append(resolve_teacher(student.model, progress, "student.model", student.base))
        origin = (f"student.model, {Path(student.model).name},", check_directory(local[-1]))
        read.append(origin)
    if student.kind == "scratch":
        fields = read_fields(Path(student.config))
        check_memory(fields, "the student")
        read.append(("the student", fields))
    for name, fields in read:
        most = stated_size(fields, CONTEXT, name)
        if most is not None and recipe.text.window_tokens > most:
            raise BadInput(f"text.window_tokens is {recipe.text.window_tokens}, but {name} was made for {most} tokens")
    if student.kind == EAGLE and origin:
        check_positions(origin[1], recipe.draft.prompt_tokens + recipe.draft.new_tokens, origin[0])
    depth = stated_size(origin[1], DEPTH, origin[0]) if origin and student.kind == "depth" else None
    if origin and depth is not None:
        if student.keep_layers > depth:
            raise BadInput(f"student.keep_layers is {student.keep_layers}, but {origin[0]} has {depth} layers")
        check_candidates(recipe.search, depth)
    empty = {directory: check_tensors(directory) for directory in dict.fromkeys(local)}
    beginning = local[-1] if student.model else local[0] if read and local else None
    check_parts(student, empty[beginning] if beginning else None)
    for source in filter(None, (*recipe.sources, recipe.out_of_domain)):
        check_source(source)


def check_parts(student: ShapeRecipe, origin: Any) -> None:
    """BadInput if an adapter or a load balance is asked of layers that the student will not have.

    origin: the model that it is made from, without weights; None if there is none, or if it is not known.
    """
    from flashstill.distill.models.layers import check_one_list
    from flashstill.distill.models.text_part import is_multimodal
    from flashstill.distill.students import check_balance, empty_mixture, read_fields
    from flashstill.distill.students.scratch import empty_from_config

    if student.kind == "depth" and origin is not None:
        check_one_list(origin)
    _check_format(student, origin)
    rate = max(student.balance_rate, 0.0)
    if student.adapter.rank and origin is not None:
        from flashstill.distill.adapters.targets import check_targets

        check_targets(origin, student.adapter.targets)
    if not rate and student.balance_loss <= 0:
        return
    if student.kind == "dense":
        raise BadInput("a student of kind dense has no routers; leave student.balance_rate and balance_loss out")
    if student.kind == "scratch":
        check_balance(empty_from_config(read_fields(Path(student.config))), rate)
    elif origin is not None and not is_multimodal(origin.config):
        made = empty_mixture(origin, experts_of(student), student.into) if student.kind == "upcycle" else origin
        check_balance(made, rate)


def _check_format(student: ShapeRecipe, origin: Any) -> None:
    """BadInput if the student cannot be quantised, as far as that is known before it is made."""
    from flashstill.distill.models.text_part import is_multimodal
    from flashstill.distill.students import check_compensation, check_packing, empty_mixture, read_fields
    from flashstill.distill.students.scratch import empty_from_config

    if not student.quantise:
        return
    whole = student if student.kind != "width" else dataclasses.replace(student, group=1)  # its rows get shorter
    if student.kind == "scratch":
        check_packing(empty_from_config(read_fields(Path(student.config))), format_of(whole))
    elif origin is not None and not is_multimodal(origin.config) and student.kind != "dense":
        made = empty_mixture(origin, experts_of(student), student.into) if student.kind == "upcycle" else origin
        check_packing(made, format_of(whole))
        if student.compensate_windows:
            check_compensation(made, format_of(whole))


def format_of(student: ShapeRecipe) -> Format:
    """The number format of a quantised student."""
    from flashstill.distill.students import Format

    return Format(name=student.quantise, group=student.group)


def experts_of(student: ShapeRecipe) -> Experts:
    """The experts of an upcycled student."""
    from flashstill.distill.students import Experts

    return Experts(
        routed=student.experts, per_token=student.experts_per_token, shared=student.shared_experts,
        neurons=student.expert_neurons,
    )  # fmt: skip


def check_top(recipe: DistillRecipe, vocabulary: int | None, name: str) -> None:
    """Raises BadInput if more ids are asked of a token than the teacher has."""
    asked = {"signals.k": recipe.signals.k if recipe.signals.kind == "topk" else 0, "regime.top_k": recipe.regime.top_k}
    for key, count in asked.items():
        if vocabulary is not None and count > vocabulary:
            raise BadInput(f"{key} is {count:,}, but {name} knows only {vocabulary:,} tokens; give at most that many")


def check_end(tokenizer: Any, rows: int | None, name: str) -> None:
    """Raises BadInput if a model's tokenizer ends texts with a token that the model does not know. rows: of its
    embedding."""
    end = tokenizer.eos_token_id
    if end is not None and rows is not None and end >= rows:
        raise BadInput(
            f"the end-of-text token {tokenizer.eos_token!r} of {name} has the id {end:,}, but it knows only {rows:,}"
            " tokens: name another in tokenizer_config.json (eos_token), or give the tokenizer that goes with the model"
        )


def check_view(tokens: int, teacher: TeacherRecipe, directory: Path) -> None:
    """Raises BadInput if a teacher with a system prompt reads longer windows than it was made for. directory: its."""
    from flashstill.distill.models.directories import check_directory

    if teacher.served:  # asked document by document, and the server is asked for its limit
        return
    most = stated_size(check_directory(directory), CONTEXT, Path(teacher.model).name)
    if most is not None and tokens > most:
        raise BadInput(
            f"with its system prompt the teacher {Path(teacher.model).name} reads windows of up to {tokens:,} tokens,"
            f" but it was made for {most:,}; lower text.window_tokens or shorten the prompt"
        )


def check_positions(fields: Any, tokens: int, name: str) -> None:
    """Raises BadInput if a prompt of [draft] and the tokens after it are more than the target was made for."""
    most = stated_size(fields, CONTEXT, name)
    if most is not None and tokens > most:
        raise BadInput(
            f"draft.prompt_tokens and draft.new_tokens are {tokens:,} together, but {name} was made for {most:,} tokens"
        )


def check_candidates(search: SearchRecipe, depth: int) -> None:
    """Raises BadInput if the search tries more candidates than blocks; the default is allowed for any depth."""
    if search.candidates > max(depth, SearchRecipe().candidates):
        raise BadInput(f"search.candidates is {search.candidates}, but the teacher has {depth} layers to choose from")
