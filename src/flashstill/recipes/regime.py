"""The [regime] of a distill.toml: whether the student learns from the text, its own samples or its teacher's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from flashstill.checked import one_of
from flashstill.recipes.ranges import (
    Context,
    ContextOrNone,
    Count,
    Rows,
    Seconds,
    Share,
    Source,
    TopP,
    Warmth,
    WidthOrNone,
)
from flashstill.recipes.teachers import is_address

if TYPE_CHECKING:
    from flashstill.recipes.distillation import DistillRecipe

_DRAWN = ("prompt_tokens", "new_tokens", "temperature", "top_p", "top_k", "batch")
REGIMES = {
    "offline": (),
    "on-policy": (*_DRAWN, "mix", "replay", "buffer", "every", "rollouts"),
    "sequence": (*_DRAWN, "samples", "soft"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutRecipe:
    """A vLLM server that samples for the student, whose weights it is given. server: its URL, up to /v1, empty to
    sample here; name: of the student there; in_flight: concurrent requests; time_limit_s: per request."""

    server: Source = ""
    name: Source = ""
    in_flight: Rows = 8
    time_limit_s: Seconds = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RegimeRecipe:
    """offline: the text; on-policy: also the student's continuations of it; sequence: the teacher's continuations.

    prompt_tokens: prompt length in a window; new_tokens: sampled after it, 0 for the rest of the window; temperature:
    0 for greedy; batch: rows decoded together.  on-policy: mix, the share of windows that the student samples; replay,
    the share of those taken from the last `buffer` ones; every, steps whose new windows are sampled together; rollouts,
    a server that samples them.
    sequence: samples per prompt; soft: train with the losses to the teacher on its text, not cross-entropy alone.
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
    rollouts: RolloutRecipe = field(default_factory=RolloutRecipe)

    def new_tokens_in(self, window_tokens: int) -> int:
        """Number of sampled tokens in a window of `window_tokens` targets."""
        return self.new_tokens or window_tokens + 1 - self.prompt_tokens


def regime_problems(recipe: DistillRecipe) -> Iterator[str]:
    """Errors in the regime, and contradictions with the rest of the recipe."""
    regime = recipe.regime
    for name in _given(regime, RegimeRecipe()):
        if name not in ("kind", *REGIMES[regime.kind]):
            own: Any = getattr(regime, name)
            inside = f" (its {', '.join(_given(own, RolloutRecipe()))})" if isinstance(own, RolloutRecipe) else ""
            yield f"regime.{name} means nothing where regime.kind is {regime.kind!r}; leave it out{inside}"
    if regime.kind != "offline":
        yield from _beside(recipe)


def _given(own: Any, usual: Any) -> list[str]:
    """The keys of a table that are not the usual ones."""
    names = [entry.name for entry in dataclasses.fields(own)]
    return [name for name in names if getattr(own, name) != getattr(usual, name)]


def _beside(recipe: DistillRecipe) -> Iterator[str]:
    regime, window = recipe.regime, recipe.text.window_tokens
    if regime.prompt_tokens > window:
        yield f"regime.prompt_tokens is {regime.prompt_tokens}, which leaves nothing of text.window_tokens {window}"
    if recipe.routed:
        yield f"a regime of kind {regime.kind} makes text that belongs to no specialist; use teachers without data"
    if regime.kind == "on-policy":
        if not recipe.losses:
            yield "losses is empty: without a teacher (on-policy) a student's own text has nothing to teach it"
        if recipe.signals.kind != "none":
            yield "signals.kind must be none in an on-policy regime: no signals on the disk know what a student writes"
        if regime.prompt_tokens + regime.new_tokens > window + 1:
            yield f"regime.prompt_tokens and new_tokens must fit a window, text.window_tokens + 1 = {window + 1}"
        yield from _rollout_problems(recipe)
        return
    if len(recipe.teachers) > 1:
        yield "a regime of kind sequence asks one teacher for its text; name one"
    plain = recipe.hard_weight == 0 and recipe.losses == type(recipe).__dataclass_fields__["losses"].default
    if not regime.soft and not plain:
        yield "losses and hard_weight mean nothing where the teacher's text alone is learned; set regime.soft to true"


def _rollout_problems(recipe: DistillRecipe) -> Iterator[str]:
    rollouts, student = recipe.regime.rollouts, recipe.student
    if rollouts == RolloutRecipe():
        return
    if not is_address(rollouts.server) or not rollouts.name:
        yield "regime.rollouts needs server, an address (http://.../v1), and name, of the student there"
    if "@" in rollouts.server:
        yield "regime.rollouts.server must not hold a password; put the key into the variable FLASHSTILL_API_KEY"
    if student.quantise or student.adapter.rank:
        what = "quantised in training" if student.quantise else "an adapter"
        yield f"regime.rollouts hands plain weights to the server, and this student is {what}; leave rollouts out"
