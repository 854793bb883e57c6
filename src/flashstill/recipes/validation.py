"""The [validation] of a recipe: how often the student is measured on text held out for it, and what follows.

A token of validation costs a forward pass and a loss, about half of what a trained token costs, which has a backward
pass too.  Of n validations on V tokens, beside S steps of T tokens, the share of the time is

    share = n c / (n c + S),    c = 0.5 V / T steps
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from flashstill.checked import one_of
from flashstill.recipes.drafts import KIND as EAGLE
from flashstill.recipes.ranges import InnerShare, NotNegative, Whole

if TYPE_CHECKING:
    from flashstill.recipes.distillation import DistillRecipe

METRICS = ("loss", "bits_per_byte", "kl")
KEEP = ("last", "best")
COST = 0.5
"""time of a token of validation / time of a trained one; measured 0.45 to 0.55 (docs/log.md)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationRecipe:
    """every_steps: 0 for as often as `share`, of the training time, allows; metric: what is compared, "loss" being that
    of the training; keep: the weights after the last step, or those with the lowest figure.

    patience: validations without an improvement by more than min_delta after which training ends; 0 never ends it."""

    every_steps: Whole = 0
    share: InnerShare = 0.1
    metric: Annotated[str, one_of(METRICS)] = "loss"
    keep: Annotated[str, one_of(KEEP)] = "last"
    patience: Whole = 0
    min_delta: NotNegative = 0.0


def every_steps(recipe: DistillRecipe) -> int:
    """Steps from one validation to the next."""
    if recipe.validation.every_steps:
        return min(recipe.validation.every_steps, steps_of(recipe))
    share = recipe.validation.share
    most = math.floor(share * steps_of(recipe) / ((1.0 - share) * _cost_steps(recipe)))
    return math.ceil(steps_of(recipe) / max(1, most))


def validations(recipe: DistillRecipe) -> int:
    """Number of validations in a training that is not stopped: there is always one after the last step."""
    return math.ceil(steps_of(recipe) / every_steps(recipe)) if recipe.text.validation_tokens else 0


def share_of_training(recipe: DistillRecipe) -> float:
    """Estimated share of the training time that validation takes; 0 without any."""
    if not recipe.text.validation_tokens:
        return 0.0
    spent = validations(recipe) * _cost_steps(recipe)
    return spent / (spent + steps_of(recipe))


def of_control(validation: ValidationRecipe) -> ValidationRecipe:
    """That of a control, which learns from the text alone: its own loss in the place of the KL to a teacher."""
    return dataclasses.replace(validation, metric="loss") if validation.metric == "kl" else validation


def _step_tokens(recipe: DistillRecipe) -> int:
    return recipe.train.windows_per_step * recipe.text.window_tokens


def steps_of(recipe: DistillRecipe) -> int:
    """Optimiser steps of a training that is not stopped."""
    return max(1, recipe.train.tokens // _step_tokens(recipe))


def _cost_steps(recipe: DistillRecipe) -> float:
    """One validation, in training steps."""
    return COST * recipe.text.validation_tokens / _step_tokens(recipe)


def validation_problems(recipe: DistillRecipe) -> Iterator[str]:
    """Contradictions in the table, and with the rest of the recipe, as sentences."""
    table, tokens = recipe.validation, recipe.text.validation_tokens
    if not tokens:
        given = [each.name for each in dataclasses.fields(table) if getattr(table, each.name) != each.default]
        if given:
            yield (
                f"validation.{given[0]} needs text that is held out for it: give text.validation_tokens, such as"
                f" {max(8_192, recipe.text.window_tokens):,}"
            )
        return
    if tokens < recipe.text.window_tokens:
        yield f"text.validation_tokens is {tokens:,}, less than one window of {recipe.text.window_tokens:,}"
    if table.min_delta and not table.patience:
        yield "validation.min_delta is what counts as an improvement for validation.patience; give both"
    if recipe.student.kind == EAGLE:
        yield "a drafting head is judged by what is accepted of it: leave text.validation_tokens out for kind eagle"
    if recipe.regime.kind == "sequence" and not recipe.regime.soft:
        yield (
            "a student of its teacher's text alone has no text of that kind held out: set regime.soft to true, or leave"
            " text.validation_tokens out"
        )
    if table.metric == "kl" and (not recipe.losses or recipe.align):
        yield "validation.metric kl needs losses to a teacher of the student's tokenizer; use loss or bits_per_byte"
    taken = share_of_training(recipe)
    if taken > table.share:
        yield (
            f"validation on {tokens:,} tokens {f'{validations(recipe):,} times' if validations(recipe) > 1 else 'once'}"
            f" would take {taken:.0%} of the training, more than validation.share {table.share:g}: "
            f"{'raise validation.every_steps or ' if table.every_steps else ''}lower text.validation_tokens"
        )
    elif table.patience >= validations(recipe):
        yield (
            f"validation.patience is {table.patience}, and there are {validations(recipe)} validations"
            f" (every {every_steps(recipe):,} steps): nothing would ever stop; lower it, or text.validation_tokens"
        )
