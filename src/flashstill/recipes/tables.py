"""Tables that recipes of several kinds have: how much text, and how blocks are searched for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from flashstill.checked import one_of
from flashstill.recipes.ranges import Layers, Rows, Tokens, Window

SEARCH_METHODS = ("greedy", "influence")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRecipe:
    """How much text, in windows of how many tokens. Held-out and out-of-domain tokens are never trained on."""

    window_tokens: Window = 256
    train_tokens: Tokens = 102_400
    heldout_tokens: Tokens = 8_192
    out_of_domain_tokens: Tokens = 8_192


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRecipe:
    """How the blocks to drop are found, on how many windows of training text."""

    method: Annotated[str, one_of(SEARCH_METHODS)] = "greedy"
    windows: Rows = 4
    candidates: Layers = 6
