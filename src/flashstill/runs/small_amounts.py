"""What is told of texts and trainings that are so small that a run does something else than its recipe reads like."""

from __future__ import annotations

from collections.abc import Iterator

from flashstill.progress import Progress
from flashstill.recipes.distillation import TrainTable


def tell(progress: Progress, train: TrainTable, windows: int, window_tokens: int) -> None:
    """Say all remarks about a training."""
    for remark in remarks(train, windows, window_tokens):
        progress.say(remark)


def remarks(train: TrainTable, windows: int, window_tokens: int) -> Iterator[str]:
    """Sentences about a training on `windows` windows of `window_tokens` targets; none for usual amounts."""
    per_step = train.windows_per_step * window_tokens
    if train.tokens < per_step:
        yield (
            f"train.tokens is {train.tokens:,}, less than the {per_step:,} of one step ({train.windows_per_step} x"
            f" {window_tokens}): one whole step is made"
        )
    elif train.tokens % per_step and train.tokens // per_step < 10:
        steps = train.tokens // per_step
        whole = f"{steps} whole steps of {per_step:,} are made, {steps * per_step:,} tokens"
        yield f"train.tokens is {train.tokens:,}: {whole}"
    if windows < train.windows_per_step:
        yield (
            f"the text has {windows} windows, fewer than the {train.windows_per_step} of a step: each step sees some of"
            " them more than once"
        )
