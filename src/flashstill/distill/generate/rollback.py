"""Read one text through a model in pieces, and take the end of it back.

Speculative sampling reads drafted tokens that may be rejected.  Where the model's cache can be cropped, rejected tokens
are dropped from it.  Where it cannot (a recurrent state holds no earlier one), or where the model takes no cache, the
whole text is read again: slower, and the same hidden states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flashstill.distill.generate.cached import cache_names
from flashstill.distill.models import Model, parts


class Reader:
    """The text read so far, and the cache of its keys and values if it can be cropped. tokens: ids of the text."""

    def __init__(self, model: Model) -> None:
        self._model, self._parts = model, parts(model)
        names = cache_names(model)
        self._name = names[0] if names else ""
        self._cache: Any = None
        self._fresh = 0  # tokens read since the cache was last cropped: windows hold no more than these
        self.tokens: list[int] = []

    def read(self, tokens: list[int]) -> Tensor:
        """Append n tokens; their final hidden states [n, d]."""
        self.tokens += tokens
        self._fresh += len(tokens)
        if self._name:
            hidden = self._with_cache(tokens)
            if self._cache.is_croppable:
                return hidden
            self._name, self._cache = "", None
            return hidden
        return self._run(self.tokens)[-len(tokens) :]

    def forget(self, count: int) -> None:
        """Take back the last `count` tokens, of those read since the last call that took any back."""
        assert count <= self._fresh
        if count:
            del self.tokens[-count:]
            if self._name:
                self._cache.crop(-count)
            self._fresh = 0

    def follow(self, tokens: list[int]) -> Tensor:
        """Read `tokens` in place of the text read so far, of which a common beginning is kept; the last token is always
        read. Returns the hidden states of the tokens that were read."""
        shared = 0
        for old, new in zip(self.tokens, tokens[:-1], strict=False):
            if old != new:
                break
            shared += 1
        if len(self.tokens) - shared > self._fresh:
            self.tokens, self._cache, self._fresh, shared = [], None, 0, 0
        self.forget(len(self.tokens) - shared)
        return self.read(tokens[shared:])

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [n, V] of the tokens after those with hidden states [n, d]."""
        return self._parts.head.logits(hidden)

    def _with_cache(self, tokens: list[int]) -> Tensor:
        if self._cache is None:
            from transformers import DynamicCache

            self._cache = DynamicCache(config=self._model.config)
            self._cache.activate_past_recording()  # windows and convolutions keep what a rollback needs
        return self._run(tokens, use_cache=True, **{self._name: self._cache})

    def _run(self, tokens: list[int], use_cache: bool = False, **cache: Any) -> Tensor:
        ids = torch.tensor([tokens], dtype=torch.int64, device=self._parts.head.device)
        return self._parts.hidden(ids, use_cache=use_cache, **cache)[0]
