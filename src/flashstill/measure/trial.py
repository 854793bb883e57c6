"""A small and a large candidate timed on this machine: the measurements that `budget.Speed` is fitted to.

Of each: seconds of a decoded token, bytes that a forward pass keeps for the backward pass, and seconds of a few steps
of the real training after one to warm up.  Candidates are cut from the real model; which blocks they keep does not
matter for the time.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import usual_chunks
from flashstill.distill.models import Model, parts
from flashstill.distill.models.devices import current, windows_a_pass
from flashstill.distill.signals import Kind, Sampled, TopK
from flashstill.distill.signals.making import WINDOWS_PER_PASS
from flashstill.distill.training import Objective, TeacherSource, TrainRecipe, join_world
from flashstill.distill.training.mixed_precision import piece_elements
from flashstill.measure.budget import STATE_BYTES, Speed, fit_line
from flashstill.measure.candidates import Candidate, cut
from flashstill.measure.memory import kept_bytes, machine_bytes, release, resident_bytes
from flashstill.measure.sweep import time_model
from flashstill.measure.training import CachedTeacher, first_batch, signal_seconds, time_steps
from flashstill.progress import Progress

TIMED_STEPS, DECODE_REPEATS = 2, 2
SHARE_OF_MEMORY = 0.5
"""candidates whose weights and optimiser state exceed this share of memory are not trained for timing"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """The models and settings that a student would be trained with.

    origin: the model it is cut from; source: the teachers as training asks them; objective: made from a source; kind:
    of the signals, None where none are kept; prepare: called with a student before it is trained; context: tokens
    before a decoded one.
    """

    origin: Model
    teachers: Sequence[Model]
    source: TeacherSource
    objective: Callable[[TeacherSource], Objective]
    kind: Kind | None
    packed: Packed
    recipe: TrainRecipe
    prepare: Callable[[Model], Any]
    context: int


def measured(trial: Trial, candidates: Sequence[Candidate], progress: Progress) -> Speed:
    """Time two candidates and fit lines; takes about as long as ten training steps of the larger one."""
    packed, recipe = trial.packed, trial.recipe
    windows = windows_of_a_pass(recipe)
    tried = to_try(candidates, machine_bytes())
    xs, steps, decodes, kept = [], [], [], []
    with progress.task("measure this machine", 1 + 2 * len(tried), "tests") as advance:
        together = windows_a_pass(current(), packed.length, WINDOWS_PER_PASS)
        signal_s = signal_seconds(trial.teachers, trial.kind, packed, together) if trial.kind else 0.0
        resident = resident_bytes()
        advance(1, "signals")
        for candidate in tried:
            xs.append(float(candidate.multiplied))
            model = cut(trial.origin, candidate)
            decodes.append(decode_seconds(model, trial.context))
            advance(1, f"decoding, {candidate.name}")
            trial.prepare(model)
            kept.append(float(kept_bytes(model, first_batch(packed, windows).inputs)))
            source = CachedTeacher(trial.source, trial.kind) if trial.kind else trial.source
            steps.append(step_seconds(model, packed, trial.objective(source), recipe))
            advance(1, f"training, {candidate.name}")
            del model, source
            release()
    buffers = head_bytes(trial.origin, windows * packed.length, len(trial.teachers))
    return Speed(
        step_s=fit_line(xs, steps),
        decode_s=fit_line(xs, decodes),
        kept_bytes=fit_line(xs, kept),
        signal_s=signal_s,
        held_bytes=resident + buffers + signal_bytes(trial.kind, packed, trial.teachers),
    )


def to_try(candidates: Sequence[Candidate], memory_bytes: float) -> list[Candidate]:
    """A small and a middle-sized candidate that can be trained here, the smaller first."""
    limit = SHARE_OF_MEMORY * memory_bytes
    trainable = [candidate for candidate in candidates if STATE_BYTES * candidate.parameters <= limit] or candidates[
        -1:
    ]
    return [trainable[place] for place in sorted({len(trainable) // 2, len(trainable) * 7 // 8}, reverse=True)]


def step_seconds(model: Model, packed: Packed, objective: Objective, recipe: TrainRecipe) -> float:
    """Seconds of a step of n micro-steps: t(1) + (n - 1) (t(2) - t(1)); the weights of the model are changed."""
    micro, size = windows_of_a_pass(recipe), join_world().size
    micro_steps = recipe.windows_per_step // (micro * size)

    def seconds(count: int) -> float:
        windows = count * micro * size
        shortened = replace(recipe, windows_per_step=windows, micro_windows=micro)
        return statistics.median(time_steps(model, first_batch(packed, windows), objective, shortened, TIMED_STEPS))

    one = seconds(1)
    return one if micro_steps == 1 else one + (micro_steps - 1) * max(0.0, seconds(2) - one)


def windows_of_a_pass(recipe: TrainRecipe) -> int:
    """Windows of one forward and backward pass of each process, as the training loop splits a step."""
    return recipe.micro_windows or math.ceil(recipe.windows_per_step / join_world().size)


def decode_seconds(model: Model, context: int) -> float:
    """Median seconds per decoded token at batch 1 after `context` tokens; the first repeat is a warm-up."""
    repeats = [time_model(model, 1, context)[1] for _ in range(1 + DECODE_REPEATS)]
    return statistics.median(seconds for repeat in repeats[1:] for seconds in repeat)


def head_bytes(model: Model, tokens: int, teachers: int) -> float:
    """Bytes of the buffers of the loss (distill/losses/head.py) and of the optimiser: logits of a group of `tokens` and
    of a block for each teacher, the head's gradient beside the embedding's, a piece of the gradients in 32 bits; on a
    GPU four tables of a block's logits in 32 bits, which on a CPU are of a few tokens."""
    vocabulary, width = parts(model).head.shape
    size = parts(model).head.weight.element_size()
    on_cpu = current().type == "cpu"
    rows = usual_chunks(vocabulary, size, on_cpu).of(vocabulary, on_cpu)
    wide = 0.0 if on_cpu else 16.0 * vocabulary * min(rows.block, tokens)
    logits = size * vocabulary * (min(rows.group, tokens) + teachers * min(rows.block, tokens))
    return logits + wide + float(size) * vocabulary * width + 4.0 * piece_elements(current())


def signal_bytes(kind: Kind | None, packed: Packed, teachers: Sequence[Model]) -> float:
    """Bytes of the signals, which are memory-mapped while they are read: roughly what kinds.py keeps of a token."""
    if kind is None:
        return 0.0
    if isinstance(kind, TopK):
        a_token = 4.0 * kind.k
    elif isinstance(kind, Sampled):
        a_token = 1.5 * kind.draws
    else:
        a_token = sum(2.0 * parts(each).head.shape[1] for each in teachers)
    return a_token * packed.token_count
