"""The [train] of a recipe: how a student is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from flashstill.checked import one_of
from flashstill.recipes.arithmetic import ARITHMETIC, DEVICES
from flashstill.recipes.ranges import Count, Decay, Positive, Rate, Rows, RowsOrNone, Share, Tokens

SCHEDULES = ("cosine", "wsd", "constant")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTable:
    """Training of the student. micro_windows: windows per forward and backward pass, 0 for all of a step. arithmetic:
    of all models of the run: auto (the faster on this machine), bf16 or fp32. device: that they run on: auto (a CUDA
    GPU where there is one), cpu, cuda or mps. recompute: blocks run a second time in the backward pass, for memory."""

    tokens: Tokens = 102_400
    windows_per_step: Rows = 4
    micro_windows: RowsOrNone = 0
    learning_rate: Rate = 3e-4
    schedule: Annotated[str, one_of(SCHEDULES)] = "cosine"
    warmup_fraction: Share = 0.1
    decay_fraction: Share = 0.2
    final_fraction: Share = 0.1
    weight_decay: Decay = 0.0
    clip_norm: Positive = 1.0
    checkpoint_every_steps: Count = 40
    arithmetic: Annotated[str, one_of(ARITHMETIC)] = "auto"
    device: Annotated[str, one_of(DEVICES)] = "auto"
    recompute: bool = False


def training_problems(train: TrainTable) -> Iterator[str]:
    """Errors in combinations of values of [train] that are each in range."""
    if train.micro_windows and train.windows_per_step % train.micro_windows:
        yield (
            f"train.micro_windows is {train.micro_windows}, which does not divide the {train.windows_per_step} windows "
            "of a step (train.windows_per_step)"
        )
    if train.schedule == "wsd" and train.warmup_fraction + train.decay_fraction > 1:
        yield "train.warmup_fraction and train.decay_fraction are more than 1 together; the steps do not suffice"
