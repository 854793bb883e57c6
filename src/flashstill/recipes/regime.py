"""The [regime] of a distill.toml: whose text the student learns from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flashstill.errors import unknown

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

    kind: str = "offline"
    prompt_tokens: int = 32
    new_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    batch: int = 64
    mix: float = 0.5
    replay: float = 0.0
    buffer: int = 1024
    every: int = 1
    samples: int = 1
    soft: bool = False

    def new_tokens_in(self, window_tokens: int) -> int:
        """How many are drawn where a window has so many targets."""
        return self.new_tokens or window_tokens + 1 - self.prompt_tokens


def regime_problems(recipe: DistillRecipe) -> Iterator[str]:
    """What is wrong with the regime, and between it and the rest of the recipe."""
    regime = recipe.regime
    if regime.kind not in REGIMES:
        yield unknown("regime.kind", regime.kind, REGIMES)
        return
    for entry in dataclasses.fields(regime):
        given = getattr(regime, entry.name) != entry.default
        if given and entry.name not in ("kind", *REGIMES[regime.kind]):
            yield f"regime.{entry.name} means nothing where regime.kind is {regime.kind!r}; leave it out"
    for name in ("prompt_tokens", "batch", "buffer", "every", "samples"):
        if getattr(regime, name) < 1:
            yield f"regime.{name} must be at least 1"
    for name in ("mix", "replay"):
        if not 0 <= getattr(regime, name) <= 1:
            yield f"regime.{name} must lie between 0 and 1"
    if regime.new_tokens < 0 or regime.top_k < 0 or regime.temperature < 0 or not 0 < regime.top_p <= 1:
        yield "regime.new_tokens, top_k and temperature must not be negative, and top_p must lie above 0 and up to 1"
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
