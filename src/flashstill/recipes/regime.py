"""The [regime] of a distill.toml: whose text the student learns from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from flashstill.checked import one_of
from flashstill.recipes.ranges import Context, ContextOrNone, Count, Rows, Share, TopP, Warmth, WidthOrNone

if TYPE_CHECKING:
    from flashstill.recipes.distillation import DistillRecipe

_DRAWN = ("prompt_tokens", "new_tokens", "temperature", "top_p", "top_k", "batch")
REGIMES = {
    "offline": (),
    "on-policy": (*_DRAWN, "mix", "replay", "buffer", "every"),
    "sequence": (*_DRAWN, "samples", "soft"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RegimeRecipe:
    """offline: the text as it is; on-policy: also what the student makes of it; sequence: what the teacher makes of it.

    prompt_tokens: of a window, that are continued; new_tokens: drawn after them, 0 for the rest of the window;
    temperature: 0 for the likeliest ids; batch: rows that decode together.  on-policy: mix, the share of windows that
    the student writes; replay, the share of those taken again from the last `buffer` ones; every, steps whose new
    windows are sampled together.  sequence: samples a prompt; soft: the losses to the teacher on its text, instead of
    the cross-entropy to it alone.
    """

    kind: Annotated[str, one_of(REGIMES)] = "offline"
    prompt_tokens: Context = 32
    new_tokens: ContextOrNone = 0
    temperature: Warmth = 1.0
    top_p: TopP = 1.0
    top_k: WidthOrNone = 0
    batch: Rows = 64
    mix: Share = 0.5
    replay: Share = 0.0
    buffer: Rows = 1024
    every: Count = 1
    samples: Rows = 1
    soft: bool = False

    def new_tokens_in(self, window_tokens: int) -> int:
        """How many are drawn where a window has so many targets."""
        return self.new_tokens or window_tokens + 1 - self.prompt_tokens


def regime_problems(recipe: DistillRecipe) -> Iterator[str]:
    """What is wrong with the regime, and between it and the rest of the recipe."""
    regime = recipe.regime
    for entry in dataclasses.fields(regime):
        given = getattr(regime, entry.name) != entry.default
        if given and entry.name not in ("kind", *REGIMES[regime.kind]):
            yield f"regime.{entry.name} means nothing where regime.kind is {regime.kind!r}; leave it out"
    if regime.kind != "offline":
        yield from _beside(recipe)


def _beside(recipe: DistillRecipe) -> Iterator[str]:
    regime, window = recipe.regime, recipe.text.window_tokens
    if regime.prompt_tokens > window:
        yield f"regime.prompt_tokens is {regime.prompt_tokens}, which leaves nothing of text.window_tokens {window}"
    if recipe.routed:
        yield f"a regime of kind {regime.kind} makes text that belongs to no specialist; use teachers without data"
    if regime.kind == "on-policy":
        if recipe.signals.kind != "none":
            yield "signals.kind must be none in an on-policy regime: no signals on the disk know what a student writes"
        if regime.prompt_tokens + regime.new_tokens > window + 1:
            yield f"regime.prompt_tokens and new_tokens must fit a window, text.window_tokens + 1 = {window + 1}"
        return
    if len(recipe.teachers) > 1:
        yield "a regime of kind sequence asks one teacher for its text; name one"
    plain = recipe.hard_weight == 0 and recipe.losses == type(recipe).__dataclass_fields__["losses"].default
    if not regime.soft and not plain:
        yield "losses and hard_weight mean nothing where the teacher's text alone is learned; set regime.soft to true"
