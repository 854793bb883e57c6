"""Tables common to several kinds of recipes: amounts of text, and the search for blocks to drop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from flashstill.checked import one_of
from flashstill.recipes.mixture import WINDOWS
from flashstill.recipes.ranges import Layers, Rows, Tokens, TokensOrNone, Window

SEARCH_METHODS = ("greedy", "influence")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRecipe:
    """Amounts of text, and tokens per window. Held-out, out-of-domain and validation tokens are never trained on; the
    last are looked at during training, 0 for none. windows: "stream" lets documents go on from one window to the next,
    with "documents" each window begins with one. document_masks: whether the documents of a window do not see each
    other."""

    window_tokens: Window = 256
    train_tokens: Tokens = 102_400
    heldout_tokens: Tokens = 8_192
    out_of_domain_tokens: Tokens = 8_192
    validation_tokens: TokensOrNone = 0
    windows: Annotated[str, one_of(WINDOWS)] = "stream"
    document_masks: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRecipe:
    """Method of the search for blocks to drop, and number of windows of training text it uses."""

    method: Annotated[str, one_of(SEARCH_METHODS)] = "greedy"
    windows: Rows = 4
    candidates: Layers = 6
