"""Training settings, and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flashstill.errors import BadInput, unknown

SCHEDULES = ("cosine", "wsd", "constant")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRecipe:
    """tokens: total number of targets; micro_windows: windows per forward and backward pass, 0 for all of a step;
    recompute: blocks run a second time in the backward pass, so that they keep only their inputs (recompute.py).

    schedule: after a linear warm-up a cosine down to `final_fraction` of the peak; or "wsd", which stays at the peak
    and falls linearly over the last `decay_fraction` of the steps (Hu et al. 2024, "MiniCPM", 4); or "constant".
    diverged_at: stop when the smoothed loss exceeds its initial value and this multiple of its minimum; 0 never stops.
    """

    tokens: int
    windows_per_step: int
    learning_rate: float
    micro_windows: int = 0
    recompute: bool = False
    schedule: str = "cosine"
    warmup_fraction: float = 0.1
    decay_fraction: float = 0.2
    final_fraction: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    diverged_at: float = 3.0
    checkpoint_every_steps: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise BadInput(unknown("schedule", self.schedule, SCHEDULES))
        if self.micro_windows and self.windows_per_step % self.micro_windows:
            raise BadInput(
                f"windows_per_step is {self.windows_per_step}, which passes of {self.micro_windows} windows do not fill"
            )

    def steps(self, window_length: int) -> int:
        """Number of optimiser steps: `tokens` / tokens per step, rounded down; at least one."""
        return max(1, self.tokens // (self.windows_per_step * window_length))


def equal_passes(windows: int, most: int) -> int:
    """Windows of a pass so that equal passes of at most `most` fill a step of `windows`; 0, for all at once, if `most`
    is 0 or no fewer than there are."""
    return 0 if not 0 < most < windows else max(size for size in range(1, most + 1) if windows % size == 0)


def learning_rate_at(recipe: TrainRecipe, step: int, steps: int, first_steps: int = 0) -> float:
    """Learning rate of step `step` (from 0) of `steps`.

    first_steps: the total when the run began, if it has become larger since; the warm-up is a share of that one, as it
    may be over: a cosine goes on where that of the new total is at this step, "wsd" at the peak until its new decay.
    """
    warmup = max(1, round(recipe.warmup_fraction * (first_steps or steps)))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    low = recipe.final_fraction
    if recipe.schedule == "constant":
        left = 1.0
    elif recipe.schedule == "wsd":
        left = min(1.0, (steps - step) / max(1, round(recipe.decay_fraction * steps)))
    else:
        left = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    return recipe.learning_rate * (low + (1 - low) * left)
