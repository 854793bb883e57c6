"""The training loop: a student, an objective, a fixed order of batches; a resumed run reaches the same weights.

Everything a step depends on is either in the checkpoint or a function of (seed, step, process).  A resumed run is
therefore bit-identical to an uninterrupted one (on the same machine, with the same arithmetic, number of threads and
of processes, and windows a pass; where one of these changed, the run has another segment: segments.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flashstill.distill.models import Model, decoder_layers
from flashstill.distill.models.arithmetic import precision_of
from flashstill.distill.models.empty import Files
from flashstill.distill.training.batches import Source
from flashstill.distill.training.best import Watch, buffers, restore_buffers, under
from flashstill.distill.training.checkpoints import Snapshot, latest, write
from flashstill.distill.training.fused_ops import fused
from flashstill.distill.training.metrics import Log, Metrics, Trend
from flashstill.distill.training.micro_steps import micro_steps_of
from flashstill.distill.training.mixed_precision import MixedPrecisionAdamW
from flashstill.distill.training.objectives import Objective
from flashstill.distill.training.passes import Pass, next_token
from flashstill.distill.training.passes import Student as _Student
from flashstill.distill.training.randomness import own_draws
from flashstill.distill.training.recipe import TrainRecipe, learning_rate_at
from flashstill.distill.training.recompute import recomputed
from flashstill.distill.training.segments import FILE as SEGMENTS
from flashstill.distill.training.segments import Segment, as_rows, continued, from_record
from flashstill.distill.training.sharded import Sharded, World, join_world
from flashstill.distill.training.step import AfterStep, TrainingSteps
from flashstill.distill.training.validation import Validation
from flashstill.distill.training.whole import Whole
from flashstill.files import make_directory, write_text
from flashstill.progress import Progress, Silent


def train(
    model: Model,
    source: Source,
    objective: Objective,
    recipe: TrainRecipe,
    directory: Path,
    progress: Progress,
    name: str,
    key: dict[str, Any] | None = None,
    vocabulary: int | None = None,
    after_step: AfterStep | None = None,
    may_change: Collection[str] = (),
    files: Files | None = None,
    run: Pass | None = None,
    validation: Validation | None = None,
    log: Log | None = None,
) -> Model:
    """Train `model` in place and return it in eval mode; `directory` holds checkpoints and metrics.jsonl.

    Parameters that do not require a gradient are not changed.  key: further settings that a checkpoint must match.
    vocabulary: number of logits used, if the heads of teacher and student are padded differently.  may_change: fields
    of the recipe that may differ from those of the checkpoint that the run is resumed from.  files: where the weights
    lie of a model on meta, to be sharded over several processes.  Of several, only the first returns all weights.
    run: the student's pass over part of a batch (None: that of a language model).  validation: on text that is held
    out; training may end with it, and return its best weights.  log: gets every step's metrics.  Raises BadInput if the
    loss is not finite or diverges, and if memory runs out; the last good checkpoint is kept.
    """
    world = join_world()
    make_directory(directory)
    shown = progress if world.is_main else Silent()
    micro_steps = micro_steps_of(recipe, world)
    model = model if files is not None else model.to(world.device)
    student = _Student(model, run or next_token(model, world.size > 1))
    state, whole = _held(model, student, recipe, world, files)
    work = TrainingSteps(
        name=name, directory=directory, model=model, student=student, state=state, whole=whole, source=source,
        objective=objective, recipe=recipe, world=world, micro_steps=micro_steps, vocabulary=vocabulary,
        after_step=after_step,
    )  # fmt: skip
    full_key = {
        "recipe": asdict(recipe), "arithmetic": precision_of(state.format), **source.key, **(key or {}),
        **({} if validation is None else {"validation": validation.key}),
    }  # fmt: skip
    snapshot = latest(directory, full_key, world, may_change)
    step = 0 if snapshot is None else snapshot.step
    steps, segments = recipe.steps(source.window_length), _segments(work, snapshot, shown)
    if snapshot is not None:
        state.restore(snapshot.tensors, step)
        source.restore(under("source/", snapshot.tensors))
        restore_buffers(model, under("buffer/", snapshot.tensors))
    metrics = Metrics(directory, list(snapshot.metrics) if snapshot else [], world.is_main, log)
    trend = Trend(metrics.rows)
    watch = Watch(validation, metrics.rows, state, model, {} if snapshot is None else snapshot.tensors)
    model.train()
    task = shown.task(name, steps * work.tokens, "tokens", step * work.tokens)
    again = recomputed(decoder_layers(model), recipe.recompute)
    with fused(model, isinstance(state, MixedPrecisionAdamW), state.format), again, own_draws(), task as advance:
        while step < steps and not watch.is_over:
            row, batch = work.run(step, learning_rate_at(recipe, step, steps, segments[0].steps))
            step += 1
            watch.look(row, steps, student, world, work.windows_per_pass, vocabulary, work.space)
            metrics.add(row)
            trend.add(row["loss"])
            if trend.diverged(recipe.diverged_at):
                raise work.stopped(f"the loss has risen to {row['loss']:.3g}", step, batch)
            if step % recipe.checkpoint_every_steps == 0 or step == steps or watch.is_over:
                tensors = {**state.tensors(), **_over("source/", source.state()), **_over("buffer/", buffers(model))}
                tensors |= watch.tensors
                kept = Snapshot(step=step, tensors=tensors, metrics=metrics.rows, segments=segments)
                write(directory, kept, full_key, world)
                metrics.flush()
            advance(work.tokens, f"loss {row['loss']:.3f}")
    metrics.flush()
    happened = watch.finish()
    if happened:
        shown.say(f"{name}: {happened}")
    if world.is_main:
        write_text(directory / SEGMENTS, "".join(json.dumps(row) + "\n" for row in as_rows(segments)))
    return whole(everywhere=False).eval()


def _held(
    model: Model, student: _Student, recipe: TrainRecipe, world: World, files: Files | None
) -> tuple[MixedPrecisionAdamW | Sharded, Callable[..., Model]]:
    """What holds and updates the trained parameters, and what returns the model with all its weights: by default in
    every process, with everywhere=False in the first only."""
    if world.size == 1 and files is None:
        return MixedPrecisionAdamW(student, recipe), lambda everywhere=True: model
    plain = Whole(model, world)  # of the model as it is before it is sharded
    state = Sharded(student, decoder_layers(model), recipe, world, files)
    return state, lambda everywhere=True: plain.gathered(state, everywhere)


def _segments(work: TrainingSteps, snapshot: Snapshot | None, shown: Progress) -> list[Segment]:
    """The segments of the run up to this one; what has changed since the checkpoint is said.

    Raises BadInput if more steps are finished than are asked for.
    """
    recipe, length = work.recipe, work.source.window_length
    now = Segment(
        from_step=0 if snapshot is None else snapshot.step, steps=recipe.steps(length), tokens=recipe.tokens,
        micro_windows=recipe.micro_windows, processes=work.world.size, threads=torch.get_num_threads(),
    )  # fmt: skip
    before = [] if snapshot is None else from_record(snapshot.record, length)
    segments = continued(before, now)
    if before and segments != before:
        other = before[-1].micro_windows != now.micro_windows or before[-1].processes != now.processes
        also = f", and {work.of_a_pass} is that of each pass" if work.of_a_pass and other else ""
        changes = ", ".join(before[-1].changes_to(now))
        shown.say(f"{work.name} goes on at step {now.from_step} with {changes}: bits may differ{also}")
    return segments


def _over(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
