"""Decoding any causal language model of transformers one token a step, with the library's own cache.

Rows that start together have prompts of one length, so that no row is padded: right for recurrent layers, windows
and whatever else an architecture does with positions.  Rows that are finished leave the cache; none joins it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.models import Model, parts
from flashstill.errors import BadInput, UnsupportedArchitecture

CACHE_NAMES = ("past_key_values", "cache_params")  # names of the cache argument in transformers


class Decoder(Protocol):
    """The state of the rows at work."""

    joins: bool
    """whether prompts may join rows that are at work, and be of different lengths"""

    def regroup(self, kept: Tensor, prompts: Sequence[np.ndarray]) -> None:
        """Keep the rows `kept` [K], some perhaps more than once, and add one for each prompt, all but its last token
        read."""
        ...

    def copy(self, sources: Tensor, slots: Tensor) -> bool:
        """Put copies of the rows `sources` into the places of others; False where they must be regrouped instead."""
        ...

    def replace(self, slots: Tensor, prompts: Sequence[np.ndarray]) -> bool:
        """Put prompts into the places of rows that have ended; False where they must be regrouped instead."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """The next token of every row [B] -> logits [B, V] of the one after it."""
        ...


class CachedDecoder:
    """Decodes any model of transformers that takes a cache."""

    joins = False

    def __init__(self, model: Model) -> None:
        model_parts = parts(model)
        self._model, self._body, self._head = model, model_parts.body, model_parts.head.detach()
        self._cache: Any = None
        asked = inspect.signature(self._body.forward).parameters
        names = [name for name in CACHE_NAMES if name in asked]
        if not names:  # **kwargs would swallow the cache, and every token would be sampled without its context
            raise UnsupportedArchitecture(f"{type(model).__name__} takes no cache and cannot be sampled")
        self._name = names[0]

    def regroup(self, kept: Tensor, prompts: Sequence[np.ndarray]) -> None:
        if not prompts:
            self._cache.reorder_cache(kept)  # can drop and repeat rows; recurrent layers support it too
            return
        if len(kept) or len({len(prompt) for prompt in prompts}) > 1:
            raise BadInput("for this architecture, all rows of a batch start together, with prompts of equal length")
        from transformers import DynamicCache

        self._cache = DynamicCache(config=self._model.config)
        read = torch.from_numpy(np.stack(prompts).astype(np.int64))[:, :-1].to(self._head.device)
        if read.shape[1]:
            self._run(read)

    def copy(self, sources: Tensor, slots: Tensor) -> bool:
        return False

    def replace(self, slots: Tensor, prompts: Sequence[np.ndarray]) -> bool:
        return False

    def step(self, tokens: Tensor) -> Tensor:
        return self._run(tokens[:, None])[:, 0] @ self._head.T

    def _run(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self._body(input_ids=tokens, use_cache=True, **{self._name: self._cache}).last_hidden_state
        return hidden
