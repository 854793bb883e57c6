"""Decode any transformers causal language model one token per step, with the library's own cache if it takes that.

All rows of a batch start together with prompts of equal length, so no row is padded.  This is correct for recurrent
layers, sliding windows and any use of positions.  Finished rows can leave the cache, but no new row can join it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.models import Model, parts
from flashstill.errors import BadInput

CACHE_NAMES = ("past_key_values", "cache_params")  # names of the cache argument in transformers


def cache_names(model: Model) -> list[str]:
    """Names of the argument by which the model takes transformers' own cache; none if it takes no cache, or one of its
    own kind (MiniMax, xLSTM)."""
    model_parts = parts(model)
    if not getattr(model, "_supports_default_dynamic_cache", lambda: True)():
        return []
    return [name for name in CACHE_NAMES if model_parts.takes(name)]


def note_on_cache(model: Model) -> str | None:
    """A sentence about a model that is sampled without a cache, and so slowly; None if it takes one."""
    if cache_names(model):
        return None
    return (
        f"{type(model).__name__} takes no cache of transformers' usual kind: for each token that it writes, all before"
        " it are read again, which is slow"
    )


class Decoder(Protocol):
    """The decoding state (caches) of a batch of B rows."""

    joins: bool
    """whether prompts of any length may join while other rows are being decoded"""

    def regroup(self, kept: Tensor, prompts: Sequence[np.ndarray]) -> None:
        """Keep the rows `kept` [K] (repeats allowed), append one row per prompt, and prefill each prompt up to its
        last token, which is the input of the next step."""
        ...

    def copy(self, sources: Tensor, slots: Tensor) -> bool:
        """Overwrite the rows `slots` with copies of `sources`; False if the caller must call `regroup` instead."""
        ...

    def replace(self, slots: Tensor, prompts: Sequence[np.ndarray]) -> bool:
        """Overwrite the finished rows `slots` with new prompts; False if the caller must call `regroup` instead."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to every row: token ids [B] -> logits [B, V] of the following token."""
        ...


def _begun(kept: Tensor, prompts: Sequence[np.ndarray]) -> Tensor:
    """The prompts of a new batch without their last tokens, [B, L - 1]."""
    if len(kept) or len({len(prompt) for prompt in prompts}) > 1:
        raise BadInput("for this architecture, all rows of a batch start together, with prompts of equal length")
    return torch.from_numpy(np.stack(prompts).astype(np.int64))[:, :-1]


class CachedDecoder:
    """Decoder for any transformers model that takes a cache."""

    joins = False

    def __init__(self, model: Model) -> None:
        if note := note_on_cache(model):
            raise BadInput(note)
        model_parts = parts(model)
        self._model, self._parts, self._head = model, model_parts, model_parts.head.detach()
        self._cache: Any = None
        self._name = cache_names(model)[0]

    def regroup(self, kept: Tensor, prompts: Sequence[np.ndarray]) -> None:
        if not prompts:
            self._cache.reorder_cache(kept)  # drops and repeats rows, also for recurrent layers
            return
        from transformers import DynamicCache

        read = _begun(kept, prompts).to(self._head.device)
        self._cache = DynamicCache(config=self._model.config)
        if read.shape[1]:
            self._run(read)

    def copy(self, sources: Tensor, slots: Tensor) -> bool:
        return False

    def replace(self, slots: Tensor, prompts: Sequence[np.ndarray]) -> bool:
        return False

    def step(self, tokens: Tensor) -> Tensor:
        return self._head.logits(self._run(tokens[:, None])[:, 0])

    def _run(self, tokens: Tensor) -> Tensor:
        return self._parts.hidden(tokens, use_cache=True, **{self._name: self._cache})


class RereadingDecoder:
    """Decoder for models that take no cache of the usual kind: every step reads all tokens again, as exact and slower.

    A cache that such a model is given would be swallowed by its **kwargs, and every token sampled without its context.
    """

    joins = False

    def __init__(self, model: Model) -> None:
        self._parts = parts(model)
        self._head, self._read = self._parts.head.detach(), torch.empty(0, 0, dtype=torch.int64)

    def regroup(self, kept: Tensor, prompts: Sequence[np.ndarray]) -> None:
        self._read = _begun(kept, prompts).to(self._head.device) if prompts else self._read[kept]

    def copy(self, sources: Tensor, slots: Tensor) -> bool:
        return False

    def replace(self, slots: Tensor, prompts: Sequence[np.ndarray]) -> bool:
        return False

    def step(self, tokens: Tensor) -> Tensor:
        self._read = torch.cat([self._read, tokens[:, None]], dim=1)
        return self._head.logits(self._parts.hidden(self._read)[:, -1])
