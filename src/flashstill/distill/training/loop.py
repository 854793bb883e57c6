"""The training loop: a student, an objective, a fixed order of batches; a resumed run reaches the same weights.

Everything a step depends on is either in the checkpoint or a function of (seed, step, process).  A resumed run is
therefore bit-identical to an uninterrupted one (on the same machine, with the same arithmetic, number of threads and
of processes, and windows a pass; where one of these changed, the run has another segment: segments.py).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flashstill.distill.losses import Workspace
from flashstill.distill.models import Model, decoder_layers
from flashstill.distill.models.arithmetic import precision_of
from flashstill.distill.models.empty import Files
from flashstill.distill.training.batches import Batch, Source
from flashstill.distill.training.best import Watch, buffers, restore_buffers, under
from flashstill.distill.training.checkpoints import Snapshot, latest, write
from flashstill.distill.training.fused_ops import fused
from flashstill.distill.training.metrics import Log, Metrics, Trend
from flashstill.distill.training.micro_steps import micro_steps_of, run_micro_steps
from flashstill.distill.training.mixed_precision import MixedPrecisionAdamW
from flashstill.distill.training.objectives import Objective
from flashstill.distill.training.passes import Pass, next_token
from flashstill.distill.training.passes import Student as _Student
from flashstill.distill.training.randomness import own_draws, seed_step
from flashstill.distill.training.recipe import TrainRecipe, learning_rate_at
from flashstill.distill.training.recompute import recomputed
from flashstill.distill.training.segments import FILE as SEGMENTS
from flashstill.distill.training.segments import Segment, as_rows, continued, from_record
from flashstill.distill.training.sharded import Sharded, join_world
from flashstill.distill.training.validation import Validation
from flashstill.distill.training.whole import Whole
from flashstill.errors import BadInput, ran_out_of_memory
from flashstill.files import make_directory, write_text
from flashstill.progress import Progress, Silent

AfterStep = Callable[[Model, int], dict[str, float]]
"""(student, number of finished steps) -> additional metrics of the step"""


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
    steps, per_step = recipe.steps(source.window_length), recipe.windows_per_step
    micro_steps = micro_steps_of(recipe, world)
    model = model if files is not None else model.to(world.device)
    student = _Student(model, run or next_token(model, world.size > 1))
    state: MixedPrecisionAdamW | Sharded
    if world.size == 1 and files is None:
        state = MixedPrecisionAdamW(student, recipe)
    else:
        plain = Whole(model, world)
        state = Sharded(student, decoder_layers(model), recipe, world, files)

    def whole(everywhere: bool = True) -> Model:
        return plain.gathered(state, everywhere) if isinstance(state, Sharded) else model

    full_key = {
        "recipe": asdict(recipe), "arithmetic": precision_of(model.dtype), **source.key, **(key or {}),
        **({} if validation is None else {"validation": validation.key}),
    }  # fmt: skip
    snapshot = latest(directory, full_key, world, may_change)
    step = 0 if snapshot is None else snapshot.step
    now = Segment(
        from_step=step, steps=steps, tokens=recipe.tokens, micro_windows=recipe.micro_windows, processes=world.size,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    before = [] if snapshot is None else from_record(snapshot.record, source.window_length)
    segments = continued(before, now)
    first_steps = segments[0].steps
    of_a_pass = str(getattr(after_step, "of_a_pass", ""))
    if before and segments != before and world.is_main:
        other = before[-1].micro_windows != now.micro_windows or before[-1].processes != now.processes
        also = f", and {of_a_pass} is that of each pass" if of_a_pass and other else ""
        changes = ", ".join(before[-1].changes_to(now))
        progress.say(f"{name} goes on at step {step} with {changes}: bits may differ{also}")
    if snapshot is not None:
        state.restore(snapshot.tensors, step)
        source.restore(under("source/", snapshot.tensors))
        restore_buffers(model, under("buffer/", snapshot.tensors))
    metrics = Metrics(directory, list(snapshot.metrics) if snapshot else [], world.is_main, log)
    trend = Trend(metrics.rows)
    watch = Watch(validation, metrics.rows, state, model, {} if snapshot is None else snapshot.tensors)
    space, tokens_per_step = Workspace(), per_step * source.window_length
    shown = progress if world.is_main else Silent()
    model.train()
    task = shown.task(name, steps * tokens_per_step, "tokens", step * tokens_per_step)
    again = recomputed(decoder_layers(model), recipe.recompute)
    with fused(model, isinstance(state, MixedPrecisionAdamW)), again, own_draws(), task as advance:
        while step < steps and not watch.is_over:
            started = time.perf_counter()
            batch = source.batch(step, whole)
            rate = learning_rate_at(recipe, step, steps, first_steps)
            seed_step(recipe.seed, step, world.rank)
            try:
                loss = run_micro_steps(batch, student, state, objective, micro_steps, world, space, vocabulary)
                norm = state.apply(rate) if math.isfinite(loss) else math.nan
            except (RuntimeError, MemoryError) as error:
                raise _explained(error, name, recipe, source, micro_steps, of_a_pass) from error
            step += 1
            if not math.isfinite(norm):
                what = "loss" if not math.isfinite(loss) else "gradient"  # of the student: teachers were checked
                raise BadInput(_stopped(name, f"the {what} is not finite", step, batch, recipe, directory))
            more = {**batch.made, **(after_step(model, step) if after_step is not None else {})}
            elapsed = time.perf_counter() - started
            speed = {"step_s": round(elapsed, 4), "tokens_per_s": round(tokens_per_step / elapsed, 1)}
            row = {"step": step, "loss": round(loss, 6), "rate": rate, "grad_norm": round(norm, 6), **speed, **more}
            watch.look(row, steps, student, world, per_step // (micro_steps * world.size), vocabulary, space)
            metrics.add(row)
            trend.add(row["loss"])
            if trend.diverged(recipe.diverged_at):
                raise BadInput(_stopped(name, f"the loss has risen to {loss:.3g}", step, batch, recipe, directory))
            if step % recipe.checkpoint_every_steps == 0 or step == steps or watch.is_over:
                tensors = {**state.tensors(), **_over("source/", source.state()), **_over("buffer/", buffers(model))}
                tensors |= watch.tensors
                kept = Snapshot(step=step, tensors=tensors, metrics=metrics.rows, segments=segments)
                write(directory, kept, full_key, world)
                metrics.flush()
            advance(tokens_per_step, f"loss {loss:.3f}")
    metrics.flush()
    happened = watch.finish()
    if happened:
        shown.say(f"{name}: {happened}")
    if world.is_main:
        write_text(directory / SEGMENTS, "".join(json.dumps(row) + "\n" for row in as_rows(segments)))
    return whole(everywhere=False).eval()


def _explained(
    error: BaseException, name: str, recipe: TrainRecipe, source: Source, micro_steps: int, of_a_pass: str
) -> BaseException:
    """Converts an out-of-memory error to BadInput that says what to lower; returns other errors unchanged.

    of_a_pass: the key of a loss that is not summed over the passes of a step, if there is one.
    """
    if not ran_out_of_memory(error):
        return error
    micro = recipe.windows_per_step // micro_steps
    same = "the result stays the same: a step adds up its passes"
    same += f", but {of_a_pass} is that of each pass and changes" if of_a_pass else ""
    return BadInput(
        f"{name}: out of memory with {micro} windows of {source.window_length} tokens a pass; lower micro_windows"
        f" ({same}), or the window's length"
    )


def _stopped(name: str, why: str, step: int, batch: Batch, recipe: TrainRecipe, directory: Path) -> str:
    where = "made on the way" if batch.windows is None else str(batch.windows.tolist())
    return (
        f"{name}: {why} at step {step} (windows {where}) because of the student, as its teachers' outputs are finite;"
        f" lower the learning rate {recipe.learning_rate:g} and run again in a new place, or look at these windows: the"
        f" last good checkpoint stays in {directory}"
    )


def _over(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
