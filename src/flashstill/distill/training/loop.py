"""The training loop: a student, an objective, a fixed order of batches; a resumed run reaches the same weights.

Everything a step depends on is either in the checkpoint or a function of (seed, step, process).  A resumed run is
therefore bit-identical to an uninterrupted one (on the same machine, with the same arithmetic, number of threads and
of processes, and windows a pass; where one of these changed, the run has another segment: segments.py).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.distill.losses import Head, Term, Workspace, head_loss
from flashstill.distill.losses.soundness import unsound_token
from flashstill.distill.models import Model, decoder_layers
from flashstill.distill.models.arithmetic import precision_of
from flashstill.distill.models.empty import Files
from flashstill.distill.training.batches import Batch, Source
from flashstill.distill.training.best import Watch, buffers, restore_buffers
from flashstill.distill.training.checkpoints import Snapshot, latest, write
from flashstill.distill.training.fused_ops import fused
from flashstill.distill.training.metrics import Log, Metrics, Trend
from flashstill.distill.training.mixed_precision import MixedPrecisionAdamW
from flashstill.distill.training.objectives import Objective
from flashstill.distill.training.passes import Pass, next_token
from flashstill.distill.training.passes import Student as _Student
from flashstill.distill.training.randomness import own_draws, seed_step
from flashstill.distill.training.recipe import TrainRecipe, learning_rate_at
from flashstill.distill.training.recompute import recomputed
from flashstill.distill.training.segments import FILE as SEGMENTS
from flashstill.distill.training.segments import Segment, as_rows, continued, from_record
from flashstill.distill.training.sharded import Sharded, World, join_world
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
    micro_steps = _micro_steps(recipe, world)
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
        source.restore(_under("source/", snapshot.tensors))
        restore_buffers(model, _under("buffer/", snapshot.tensors))
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
                loss = _run_micro_steps(batch, student, state, objective, micro_steps, world, space, vocabulary)
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


def _micro_steps(recipe: TrainRecipe, world: World) -> int:
    """Forward and backward passes per process and optimiser step (gradient accumulation).

    Raises BadInput if the windows cannot be split evenly.
    """
    micro = recipe.micro_windows or math.ceil(recipe.windows_per_step / world.size)
    if recipe.windows_per_step % (micro * world.size):
        raise BadInput(
            f"windows_per_step is {recipe.windows_per_step}, which {world.size} processes with {micro} windows a pass"
            " do not share evenly"
        )
    return recipe.windows_per_step // (micro * world.size)


def _run_micro_steps(
    batch: Batch,
    student: nn.Module,
    state: MixedPrecisionAdamW | Sharded,
    objective: Objective,
    micro_steps: int,
    world: World,
    space: Workspace,
    vocabulary: int | None,
) -> float:
    """Forward and backward over this process's share of a step's windows; returns the mean loss over all windows."""
    counted = int(batch.mask.sum())
    if counted == 0:
        raise BadInput("all targets of a step are masked; look at the masks of the data")
    windows = len(batch.tokens)
    share = windows // world.size
    micro, total = -(-share // micro_steps), 0.0  # a batch of attempts may have fewer windows than a step's
    own = range(world.rank * share, (world.rank + 1) * share)
    for first in own[::micro]:
        part = batch.rows(slice(first, min(first + micro, own.stop))).to(world.device)
        terms: Sequence[Term] = objective(part)
        weights = part.mask.flatten().float() / counted  # divide by the tokens of the step, not of the micro-step

        def loss(
            hidden: Tensor,
            head: Head,
            factors: Tensor | None = None,
            terms: Sequence[Term] = terms,
            weights: Tensor = weights,
        ) -> Tensor:
            scaled = weights if factors is None else weights * factors
            return head_loss(hidden, head, terms, scaled, vocabulary, space=space)[0]

        part_loss = student(part, terms, loss)
        (part_loss * world.size).backward()  # FSDP takes the mean over processes
        value = float(part_loss.detach())  # a GPU is waited for here, once a pass, with all of it to do meanwhile
        if not math.isfinite(value):
            _check_teachers(terms, part)
        total += value
        if micro_steps > 1:
            state.collect()
    return world.total(total)


def _check_teachers(terms: Sequence[Term], part: Batch) -> None:
    """BadInput if a loss that is not finite comes from a teacher's outputs and not from the student."""
    for term in terms:
        token = unsound_token(term.teacher)
        if token is not None:
            row = token // part.mask.shape[1]
            where = "made on the way" if part.windows is None else f"{int(part.windows[row])}"
            raise BadInput(
                f"a teacher's outputs are not finite (NaN or infinity) at token {token % part.mask.shape[1]} of window"
                f" {where}; nothing is wrong with the student: make the signals again with a teacher whose outputs are"
            )


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


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}


def _over(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
