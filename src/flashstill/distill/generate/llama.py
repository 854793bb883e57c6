"""A fast decoder for Llama and similar models (Mistral, Qwen2, Qwen3).

Rows are left-padded, so that all rows write their next key and value to the same cache column.  Attention is two
batched matrix products: with one query per row, this is several times as fast on a CPU as
scaled_dot_product_attention (docs/log.md).  Residual additions are fused into the matrix products (addmm).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor

from flashstill.arch.adapter.sizes import HEADS, KEY_HEADS, attention_window, head_width, rotation, size
from flashstill.distill.adapters.training import is_adapted
from flashstill.distill.generate.caches import Caches
from flashstill.distill.generate.weights import Block, block_of, norm_of, turns
from flashstill.distill.losses.workspace import Workspace, wide
from flashstill.distill.models import Model, decoder_layers, parts

CLASSES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")
COLUMNS = 32  # cache widths are multiples of this many token positions
TOKENS_A_PASS = 4096  # prompt tokens per prefill pass


def is_plain(model: Model, longest: int) -> bool:
    """Whether `LlamaDecoder` supports the model up to `longest` positions.

    No sliding window may be shorter than that, rotary frequencies may not depend on the length, and its layers may not
    have adapters.
    """
    window = attention_window(model.config)
    in_window = window is None or longest <= window
    return (
        type(model).__name__ in CLASSES
        and not is_adapted(model)
        and in_window
        and rotation(model.config) in FIXED_ROTATIONS
    )


class LlamaDecoder:
    """Decodes B left-padded rows; _start [B]: column of each row's first token; _column: the next column to fill."""

    joins = True

    def __init__(self, model: Model, longest: int, space: Workspace) -> None:
        config, model_parts = model.config, parts(model)
        body: Any = model_parts.body
        attention = body.layers[0].self_attn
        self._heads, self._key_heads = size(config, HEADS), size(config, KEY_HEADS)
        self._width, self._scale = head_width(model.config), float(attention.scaling)
        self._blocks = [block_of(layer, self._heads, self._key_heads, self._width) for layer in decoder_layers(model)]
        self._embedding, self._head = body.embed_tokens.weight.detach(), model_parts.head.detach()
        weight = self._head.weight
        self._norm = norm_of(body.norm)
        self._turns = turns(body.rotary_emb, longest, self._width, weight)
        self._start = torch.zeros(0, dtype=torch.int64, device=self._head.device)
        self._column = self._columns = 0
        self._caches = Caches(2 * len(self._blocks), weight, space)  # keys of every block, then values
        self._padding = weight.new_zeros(0)

    def regroup(self, kept: Tensor, prompts: Sequence[np.ndarray]) -> None:
        """Shift the kept rows left as far as the longest row allows, and prefill the prompts in rows after them."""
        starts = self._start[kept]
        filled = slice(int(starts.min()) if len(starts) else self._column, self._column)
        self._column = max([filled.stop - filled.start, *(len(prompt) - 1 for prompt in prompts)])
        shift = self._column - filled.stop
        lengths = torch.tensor([len(prompt) - 1 for prompt in prompts], dtype=torch.int64, device=starts.device)
        self._start = torch.cat([starts + shift, self._column - lengths])
        self._lay_out(kept, filled, shift)
        self._read(prompts, torch.arange(len(starts), len(self._start), device=starts.device))

    def replace(self, slots: Tensor, prompts: Sequence[np.ndarray]) -> bool:
        """Prefill new prompts in the rows `slots`; False if a prompt is longer than the columns filled so far.

        Older keys and values of these rows stay in the cache, masked.
        """
        if max(len(prompt) for prompt in prompts) - 1 > self._column:
            return False
        lengths = torch.tensor([len(prompt) - 1 for prompt in prompts], dtype=torch.int64, device=slots.device)
        self._start[slots] = self._column - lengths
        self._mask()
        self._read(prompts, slots)
        return True

    def copy(self, sources: Tensor, slots: Tensor) -> bool:
        """Copy the filled columns of the rows `sources` to the rows `slots`."""
        self._start[slots] = self._start[sources]
        filled = slice(int(self._start[sources].min()), self._column)
        for cache in self._caches.held:
            cache[slots, :, filled] = cache[sources, :, filled]
        self._mask()
        return True

    def _lay_out(self, kept: Tensor | None, filled: slice, shift: int) -> None:
        """Lay out the caches with room for at least one more column."""
        self._columns = (self._column // COLUMNS + 1) * COLUMNS
        self._caches.lay_out((len(self._start), self._key_heads, self._columns, self._width), kept, filled, shift)
        self._mask()

    def _mask(self) -> None:
        """Set the additive attention mask (0 or -inf): [B * KV heads, 1, columns], or [1, 1, columns] if no row is
        padded."""
        columns = torch.arange(self._columns, device=self._start.device)
        start = self._start[:, None] if int(self._start.max()) else self._start[:1, None]
        masked = (columns < start) | (columns >= self._column)
        padding = torch.zeros(masked.shape, dtype=self._head.dtype, device=masked.device)
        padding.masked_fill_(masked, -torch.inf)
        self._padding = (padding.repeat_interleave(self._key_heads, 0) if len(start) > 1 else padding)[:, None]

    def _read(self, prompts: Sequence[np.ndarray], rows: Tensor) -> None:
        """Prefill all but the last token of each prompt into cache rows `rows`, ending just before the next column.

        Prompts must be sorted longest first; one-token prompts need no prefill.
        """
        first = 0
        while first < len(prompts) and len(prompts[first]) > 1:
            length = len(prompts[first]) - 1
            some = prompts[first : first + max(1, TOKENS_A_PASS // length)]
            tokens = np.zeros((len(some), length), dtype=np.int64)
            for row, prompt in zip(tokens, some, strict=True):
                row[length - (len(prompt) - 1) :] = prompt[:-1]
            self._pass(torch.from_numpy(tokens).to(self._head.device), rows[first : first + len(some)])
            first += len(some)

    def _pass(self, tokens: Tensor, rows: Tensor) -> None:
        """Prefill tokens [R, L], left-padded, into cache rows [R], ending just before the next column."""
        count, length = tokens.shape
        columns = torch.arange(self._column - length, self._column, device=tokens.device)
        place = columns - self._start[rows, None]
        itself = columns[:, None] == columns  # padding attends to itself, or its softmax would be NaN
        seen = (place[:, None] >= 0) & (columns[:, None] >= columns) | itself
        turn = self._turns[place.clamp(min=0)][:, :, None]
        x = self._embedding[tokens].flatten(0, 1)
        filled = slice(self._column - length, self._column)
        for index, block in enumerate(self._blocks):
            q, k, v = self._projected(block, x, (count, length), turn)
            self._caches.held[index][rows, :, filled] = k.transpose(1, 2)
            self._caches.held[index + len(self._blocks)][rows, :, filled] = v.transpose(1, 2)
            if index + 1 == len(self._blocks):
                return  # prefill needs only the keys and values of the last block
            q, k, v = (each.transpose(1, 2) for each in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, seen[:, None], scale=self._scale, enable_gqa=True)
            block.out.onto(x, mixed.transpose(1, 2).reshape(count * length, -1))
            block.feed_forward(x)

    def _projected(
        self, block: Block, x: Tensor, shape: tuple[int, ...], turn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys with rotary embedding, and values: x [N, d] -> [*shape, heads, head width] each."""
        heads = block.qkv(block.before(x)).view(*shape, -1, self._width)
        q, k, v = torch.split(heads, [self._heads, self._key_heads, self._key_heads], -2)
        q = q if block.q_norm is None else block.q_norm(q)
        k = k if block.k_norm is None else block.k_norm(k)
        return _turned(q, turn), _turned(k, turn), v

    def step(self, tokens: Tensor) -> Tensor:
        """One decode step for every row: token ids [B] -> logits [B, V] of the following token."""
        rows, column = len(tokens), self._column
        if column == self._columns:  # cache full: drop the columns before the first token of any row
            first = int(self._start.min())
            self._start, self._column = self._start - first, column - first
            self._lay_out(None, slice(first, column), -first)
            column = self._column
        self._padding[..., column] = 0
        # a finished row that is still in the batch can be past the last position of the rotary table
        turn = self._turns[(column - self._start).clamp_(max=len(self._turns) - 1)][:, None]
        x = self._embedding[tokens]
        for index, block in enumerate(self._blocks):
            q, k, v = self._projected(block, x, (rows,), turn)
            keys, values = self._caches.held[index], self._caches.held[index + len(self._blocks)]
            keys[:, :, column], values[:, :, column] = k, v
            q = q.reshape(rows * self._key_heads, -1, self._width)
            scores = torch.baddbmm(self._padding, q, keys.flatten(0, 1).mT, alpha=self._scale)
            mixed = torch.bmm(torch.softmax(scores, -1), values.flatten(0, 1))
            block.out.onto(x, mixed.view(rows, -1))
            block.feed_forward(x)
        self._column += 1
        return self._head.logits(self._norm(x))


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Apply rotary embedding: adjacent pairs in the last dimension of x are complex numbers, multiplied by `turn`."""
    pairs = torch.view_as_complex(x.to(wide(x.dtype)).view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
