"""What is told of texts and trainings that are so small that a run does something else than its recipe reads like."""

from __future__ import annotations

from collections.abc import Iterator

from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.recipes.training import TrainTable
from flashstill.recipes.validation import every_steps, share_of_training, validations


def tell(progress: Progress, recipe: DistillRecipe, windows: int, window_tokens: int) -> None:
    """Say all remarks about a training, and how much of it is validation."""
    for remark in remarks(recipe.train, windows, window_tokens):
        progress.say(remark)
    if recipe.text.validation_tokens:
        progress.say(
            f"validation on {recipe.text.validation_tokens:,} tokens every {every_steps(recipe):,} steps,"
            f" {validations(recipe):,} times: about {share_of_training(recipe):.0%} of the training time"
        )


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
