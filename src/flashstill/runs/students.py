"""From the student of a recipe to its first weights, and what must happen after each of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flashstill.arch.adapter.sizes import DEPTH, size
from flashstill.errors import BadInput
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.students import Format
    from flashstill.distill.training.loop import AfterStep


def first_student(recipe: DistillRecipe, teacher: Any, vocabulary: int, packed: Packed, progress: Progress) -> Any:
    """The student before training; `packed` is the training text on which importance is measured.

    teacher: what it is made of, None for a student from scratch; vocabulary: of such a one.
    """
    from flashstill.distill.students import (
        Experts,
        Width,
        compensated,
        dense_of,
        from_config,
        importance,
        narrow,
        read_fields,
        upcycle,
    )  # fmt: skip

    wanted = recipe.student
    tokens = _spread(packed, wanted.compensate_windows or recipe.search.windows)
    if wanted.kind == "scratch":
        return from_config(read_fields(Path(wanted.config)), vocabulary, recipe.seed)
    if wanted.kind == "width":
        width = Width(hidden=wanted.hidden, feed_forward=wanted.feed_forward, key_heads=wanted.key_heads)
        return narrow(teacher, width, importance(teacher, tokens))
    if wanted.kind == "upcycle":
        experts = Experts(
            routed=wanted.experts, per_token=wanted.experts_per_token, shared=wanted.shared_experts,
            neurons=wanted.expert_neurons,
        )  # fmt: skip
        return upcycle(teacher, experts, tokens, recipe.seed)
    if wanted.kind == "dense":
        return dense_of(teacher, wanted.feed_forward, recipe.seed)
    if wanted.compensate_windows:
        return compensated(teacher, _format(recipe), tokens, progress)
    return teacher if wanted.kind == "copy" else _shallow(recipe, teacher, tokens, progress)


def _spread(packed: Packed, count: int) -> Any:
    """Token ids [B, L] of `count` windows, or all there are, evenly spread over the text."""
    import torch

    rows = np.linspace(0, packed.windows - 1, min(count, packed.windows)).round().astype(np.int64)
    return torch.from_numpy(packed.tokens[rows, :-1].astype(np.int64))


def _shallow(recipe: DistillRecipe, teacher: Any, tokens: Any, progress: Progress) -> Any:
    from flashstill.distill.models import keep_layers
    from flashstill.distill.students import greedy_drops, kept_blocks, order_by_influence

    keep, depth = recipe.student.keep_layers, size(teacher.config, DEPTH)
    if keep > depth:
        raise BadInput(f"the student keeps {keep} layers, but the teacher has {depth}")
    if recipe.search.method == "greedy":
        dropped = greedy_drops(teacher, tokens, depth - keep, recipe.search.candidates, progress)
    else:
        dropped = order_by_influence(teacher, tokens)[: depth - keep]
    return keep_layers(teacher, kept_blocks(depth, dropped, keep))


def made_ready(recipe: DistillRecipe, student: Any) -> AfterStep | None:
    """Give a loaded student its rounding; returns what balances its experts after each step, if it has any."""
    from flashstill.distill.students import LoadBalance, balanced_routers, quantise_aware

    if recipe.student.quantise:
        quantise_aware(student, _format(recipe))
    return LoadBalance(student, recipe.student.balance_rate) if balanced_routers(student) else None


def rounded_plainly(recipe: DistillRecipe, student: Any) -> None:
    """Round a loaded student without training, in place, where the recipe quantises it: what training starts from."""
    from flashstill.distill.students import round_model

    if recipe.student.quantise:
        round_model(student, _format(recipe))


def leave_student(recipe: DistillRecipe, student: Any, tokenizer: Any, out: Path) -> None:
    """Write `student/` in bfloat16 and, where it is quantised, `packed/`; `student/` comes last and means done."""
    from flashstill.distill.models import save_model
    from flashstill.distill.students import rounded_weights, settle, write_packed

    if not recipe.student.quantise:
        save_model(student, tokenizer, out / "student")
        return
    plain = out / "student.plain"
    weights = rounded_weights(student, _format(recipe))
    save_model(settle(student), tokenizer, plain)
    write_packed(plain, out / "packed", weights, _format(recipe))
    plain.replace(out / "student")


def _format(recipe: DistillRecipe) -> Format:
    from flashstill.distill.students import Format

    return Format(name=recipe.student.quantise, group=recipe.student.group)
