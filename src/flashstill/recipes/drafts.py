"""The [draft] of a distill.toml with a student of kind eagle: its training, and the measurement of its acceptance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

from flashstill.checked import between, sized
from flashstill.errors import shown
from flashstill.recipes.ranges import Context, NotNegative, Rows, Share, Warmth

if TYPE_CHECKING:
    from flashstill.recipes.distillation import DistillRecipe

KIND = "eagle"


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftRecipe:
    """steps: tokens that the head drafts from its own states in training; decay: of each further step's weight in the
    loss; feature_weight: of the distance between the first step's states and the target's.

    draft_tokens: drafted per step when its acceptance is measured, on the target's continuations of `prompts` held-out
    windows (their first prompt_tokens, and new_tokens sampled after them), at each of the temperatures (0: greedy).
    """

    steps: Annotated[int, between(1, 16)] = 3
    decay: Share = 0.8
    feature_weight: NotNegative = 0.0
    draft_tokens: Annotated[int, between(1, 64)] = 4
    prompts: Rows = 32
    prompt_tokens: Context = 32
    new_tokens: Context = 64
    temperatures: Annotated[tuple[Warmth, ...], sized(1, 8)] = (1.0, 0.0)


def draft_problems(recipe: DistillRecipe) -> Iterator[str]:
    """Errors in the draft, and contradictions with the rest of the recipe."""
    draft, student = recipe.draft, recipe.student
    if student.kind != KIND:
        plain = DraftRecipe()
        changed = [each.name for each in fields(draft) if getattr(draft, each.name) != getattr(plain, each.name)]
        if changed:
            yield f"[draft] is of a student of kind {KIND}, not {student.kind}; leave it out ({', '.join(changed)})"
        return
    if len(recipe.teachers) > 1 or recipe.teachers[0].served:
        yield "a student of kind eagle reads the hidden states of one target: name one teacher that is a directory"
    signals = recipe.signals.kind
    if signals not in ("hidden", "none"):
        yield f"a student of kind eagle reads hidden states: signals.kind must be hidden or none, not {signals}"
    if recipe.regime.kind == "on-policy":
        yield "a student of kind eagle writes no text of its own: regime.kind must be offline or sequence"
    if recipe.regime.kind == "sequence" and not recipe.regime.soft:
        yield "a student of kind eagle learns from the target's distributions: set regime.soft to true"
    if not recipe.losses:
        yield "a student of kind eagle needs a loss to the target's distributions (losses)"
    if student.quantise or student.model:
        yield "a student of kind eagle is not quantised and made of no model: leave student.quantise and model out"
    if recipe.budget.is_set:
        yield "a [budget] chooses among language models; leave it out for a student of kind eagle"
    if draft.prompt_tokens < 2 or draft.new_tokens <= draft.draft_tokens:
        yield "draft.prompt_tokens must be at least 2, and draft.new_tokens more than draft.draft_tokens"
    if len(set(draft.temperatures)) < len(draft.temperatures):
        yield f"draft.temperatures is {shown(list(draft.temperatures))}: one of them is named twice"
    if draft.prompt_tokens > recipe.text.window_tokens:
        yield f"draft.prompt_tokens is {draft.prompt_tokens}, more than a window of {recipe.text.window_tokens}"
