"""Makes a student's initial weights from its recipe, and the callback after each training step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.errors import BadInput
from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.runs.layer_search import drops, spread
from flashstill.runs.limits import experts_of, format_of
from flashstill.runs.workdir import Workdir

BIAS_RATE, LOSS_WEIGHT = 1e-3, 1e-2
"""of upcycled students, whose routers are new: rate of a correction bias, else coefficient of an auxiliary loss"""

if TYPE_CHECKING:
    import torch

    from flashstill.distill.adapters.training import Adapter
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.models.empty import Files
    from flashstill.distill.students import Format
    from flashstill.distill.training import World
    from flashstill.distill.training.step import AfterStep


def first_student(
    recipe: DistillRecipe,
    teacher: Any,
    vocabulary: int,
    packed: Packed,
    search: Path,
    least_layers: int,
    progress: Progress,
) -> Any:
    """The student with its initial weights; importance is measured on the training text `packed`.

    teacher: the model it is made from, None for a student from scratch; vocabulary: size for a student from scratch;
    search: file of the drop order of blocks; least_layers: layers of the shallowest student with the same drop order.
    """
    from flashstill.distill.models import decoder_layers, keep_layers
    from flashstill.distill.models.shallower import InexpressibleLayers
    from flashstill.distill.students import (
        Width,
        apart,
        compensated,
        dense_of,
        from_config,
        importance,
        kept_blocks,
        narrow,
        plan,
        read_fields,
        upcycle,
    )

    shape = recipe.student
    if shape.kind == "scratch":
        return from_config(read_fields(Path(shape.config)), vocabulary, recipe.seed)
    if shape.kind == "dense":
        return dense_of(teacher, shape.feed_forward, recipe.seed, shape.into)
    text = spread(packed, shape.compensate_windows or recipe.search.windows)
    tokens, learned, real, starts = apart(teacher, *text)
    if shape.kind == "width":
        width = Width(
            hidden=shape.hidden, feed_forward=shape.feed_forward, key_heads=shape.key_heads, experts=shape.experts,
            expert_neurons=shape.expert_neurons,
        )  # fmt: skip
        cut = plan(teacher, width)
        return narrow(teacher, cut, importance(teacher, tokens, cut, learned, starts))
    if shape.kind == "upcycle":
        return upcycle(teacher, experts_of(shape), tokens, recipe.seed, shape.into, learned, real, starts)
    if shape.compensate_windows:
        return compensated(teacher, _format(recipe), tokens, progress, real, starts)
    if shape.kind == "copy":
        return teacher
    depth, keep = len(decoder_layers(teacher)), shape.keep_layers
    if keep > depth:
        raise BadInput(f"the student keeps {keep} layers, but the teacher has {depth}")
    count = depth - min(keep, least_layers or keep)
    dropped = drops(recipe.search, teacher, tokens, learned, count, search, progress, starts)
    chosen = kept_blocks(depth, dropped, keep)
    try:
        return keep_layers(teacher, chosen)
    except InexpressibleLayers as error:
        if not error.nearest:
            raise
        progress.say(f"{error}; so these are kept")
        return keep_layers(teacher, error.nearest)


def student_to_train(
    recipe: DistillRecipe, workdir: Workdir, dtype: torch.dtype, world: World, apart: bool
) -> tuple[Any, Files | None]:
    """The student with its initial weights; with several processes without them, and the files that they lie in.

    apart: whether it will be asked to keep the documents of a window apart, which only rank 0 tries, as it needs the
    weights.  A collective call.
    """
    from flashstill.distill.models import load_model, parts
    from flashstill.distill.models.checksums import verify_checksums
    from flashstill.distill.models.documents import remember, separation
    from flashstill.distill.models.empty import empty_model, files_of, write_plainly

    if world.size == 1 or recipe.student.quantise or recipe.student.adapter.rank:  # their weights have other names
        return load_model(workdir.initial, dtype), None
    if world.is_main:
        verify_checksums(workdir.initial)
    student = empty_model(workdir.initial, dtype)
    if apart:
        way = separation(parts(load_model(workdir.initial, dtype))) if world.is_main else ""
        remember(student, world.broadcast(way))
    files = files_of(workdir.initial, student)
    if files is None:  # stored under other names than those of its parameters
        again = workdir.training / "start"
        if world.is_main:
            write_plainly(workdir.initial, dtype, again / "model.safetensors", student)
        world.barrier()
        files = files_of(again, student)
        assert files is not None
    return student, files


def made_ready(recipe: DistillRecipe, student: Any) -> AfterStep | None:
    """Make a loaded student quantisation-aware, or put its adapter on, if its recipe says so; returns the load balancer
    of an MoE student of which all weights are trained.  BadInput if it cannot be quantised."""
    from flashstill.distill.models.rebuild import on_meta
    from flashstill.distill.students import LoadBalance, bias_buffers, check_packing, quantise_aware, routers

    shape = recipe.student
    if shape.adapter.rank:
        from flashstill.distill.adapters.training import attach

        attach(student, _adapter(recipe))
        return None
    if shape.quantise:
        check_packing(on_meta(type(student), student.config), _format(recipe))
        quantise_aware(student, _format(recipe))
    is_new, has_bias = shape.kind == "upcycle", bool(bias_buffers(student))
    rate = shape.balance_rate if shape.balance_rate >= 0 else BIAS_RATE if is_new and has_bias else 0.0
    loss = shape.balance_loss if shape.balance_loss >= 0 else LOSS_WEIGHT if is_new and not has_bias else 0.0
    if not (rate or loss or routers(student)):
        return None
    return LoadBalance(student, rate, loss, recipe.train.windows_per_step * recipe.text.window_tokens)


def rounded_plainly(recipe: DistillRecipe, student: Any) -> None:
    """Round a loaded student to nearest, in place, if the recipe quantises it: the model before training."""
    from flashstill.distill.students import round_model

    if recipe.student.quantise:
        round_model(student, _format(recipe))


def leave_student(
    recipe: DistillRecipe, student: Any, tokenizer: Any, packed: Packed, workdir: Workdir, base: str
) -> None:
    """Write the student in bfloat16 and, if quantised, packed; the former is written last and marks completion.

    A student that was trained through an adapter is written as adapter of the model `base`, and merged.  It stops where
    the answers of its training text `packed` end.
    """
    from flashstill.distill.models import save_model
    from flashstill.distill.students import rounded_weights, settle, unrounded_layers, write_compressed
    from flashstill.runs.ends import add_ends

    add_ends(student, tokenizer, packed, recipe.student)
    if recipe.student.adapter.rank:
        from flashstill.distill.adapters.training import merge, write_adapter

        write_adapter(student, _adapter(recipe), base, workdir.adapter)
        merge(student)
    if not recipe.student.quantise:
        save_model(student, tokenizer, workdir.student)
        return
    plain = workdir.training / "plain"
    weights, unrounded = rounded_weights(student, _format(recipe)), unrounded_layers(student)
    save_model(settle(student), tokenizer, plain)
    write_compressed(plain, workdir.packed_student, weights, _format(recipe), unrounded)
    workdir.student.parent.mkdir(parents=True, exist_ok=True)
    plain.replace(workdir.student)


def base_of(recipe: DistillRecipe, workdir: Workdir, teacher: Path, progress: Progress) -> str:
    """The model that the student's adapter belongs to: the one it was copied from, or its initial weights.

    teacher: the first one's directory."""
    from flashstill.distill.teachers import resolve_teacher

    student = recipe.student
    if student.kind != "copy":
        return str(workdir.initial.resolve())
    if student.model:
        return str(resolve_teacher(student.model, progress, base=student.base).resolve())
    return str(teacher.resolve())


def _adapter(recipe: DistillRecipe) -> Adapter:
    from flashstill.distill.adapters.training import Adapter

    return Adapter(**dataclasses.asdict(recipe.student.adapter), seed=recipe.seed)


def _format(recipe: DistillRecipe) -> Format:
    return format_of(recipe.student)
