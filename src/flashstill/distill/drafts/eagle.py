"""A drafting head on the target's hidden states (EAGLE: Li et al. 2024, section 4).

    f_(t+1) = block(fc [e(x_(t+1)); h_t])      h_t: the target's final hidden state after token x_t (f_t for own steps)
    q_(t+1) = softmax(W f_(t+1))               e, W: the target's own embedding and LM head, shared and not trained

The block is that of Llama without its first norm, for targets of every family, as the engines expect it (vLLM's
llama_eagle, SGLang's LlamaForCausalLMEagle).  Drafting several tokens feeds f back in place of h, with the drafted
tokens.  `unrolled` runs such steps from every position of a text at once, as training and evaluation need them: step
k at position t attends to the pairs (h, x) up to t - k + 1, and then to its own k - 1 earlier steps (the training-time
test of EAGLE-3: Li et al. 2025, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn

from flashstill.arch.adapter.drafting import HeadShape, new_shape
from flashstill.distill.losses.logits import Head
from flashstill.errors import UnsupportedArchitecture

INITIAL_STD = 0.02


class Norm(nn.Module):
    """RMS norm, rounded before it is multiplied by its weight, as in Llama."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.variance_epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return self.weight * (wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + self.variance_epsilon)).to(
            x.dtype
        )


class Attention(nn.Module):
    """Projections of grouped-query attention with rotary positions; heads [B, H, T, w]."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.heads, self.key_heads, self.width, self.theta = (
            shape.heads, shape.key_heads, shape.head_width, shape.theta
        )  # fmt: skip
        width = shape.width
        self.q_proj = nn.Linear(width, self.heads * self.width, bias=False)
        self.k_proj = nn.Linear(width, self.key_heads * self.width, bias=False)
        self.v_proj = nn.Linear(width, self.key_heads * self.width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.width, width, bias=False)

    def projected(self, x: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x [B, T, d] at the positions first, first + 1, ..."""
        q, k, v = (
            each(x).unflatten(-1, (-1, self.width)).transpose(1, 2) for each in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = self._turned(q, first), self._turned(k, first)
        share = self.heads // self.key_heads
        return q, k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)

    def _turned(self, x: Tensor, first: int) -> Tensor:
        half = self.width // 2
        rates = self.theta ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
        angles = torch.arange(first, first + x.shape[-2], dtype=torch.float32, device=x.device)[:, None] * rates
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        one, two = x[..., :half], x[..., half:]
        return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


class FeedForward(nn.Module):
    """Gated feed-forward network with SiLU."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):
    """A Llama block without its first norm."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(shape), FeedForward(shape)
        self.post_attention_layernorm = Norm(shape.width, shape.epsilon)

    def after(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The block's output from its input x [B, T, d] and the mixed values [B, H, T, w]."""
        x = x + self.self_attn.o_proj(mixed.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Eagle(nn.Module):
    """The drafting head. shape: its sizes; embedding [V, d], head: the target's, shared.

    Neither belongs to its parameters; both follow it to another device.  `fc.bias` is zero and not trained: engines
    differ on whether it exists.
    """

    def __init__(self, shape: HeadShape, embedding: Tensor, head: Head) -> None:
        super().__init__()
        self.shape = shape
        self.fc = nn.Linear(2 * shape.width, shape.width)
        self.layers = nn.ModuleList([Block(shape)])
        self.embedding, self.head = embedding.detach(), head.detach()
        nn.init.zeros_(self.fc.bias)
        self.fc.bias.requires_grad_(False)

    def _apply(self, fn: Any, recurse: bool = True) -> Eagle:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.embedding.device != self.device:  # what is no parameter and no buffer would be left behind
            self.embedding = self.embedding.to(self.device)
        if self.head.device != self.device:
            self.head = self.head.to(self.device)
        return self

    @property
    def _block(self) -> Block:
        block = self.layers[0]
        assert isinstance(block, Block)
        return block

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the weights."""
        return self.fc.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.fc.weight.device

    def get_input_embeddings(self) -> None:
        """None: it has no embedding of its own."""
        return

    def get_output_embeddings(self) -> None:
        """None: it has no LM head of its own."""
        return

    def read(
        self, features: Tensor, tokens: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Hidden states [B, T, d] after T pairs of features [B, T, d] and the tokens [B, T] that follow them, and the
        keys and values [B, H, n + T, w] of all pairs so far. past: those of n earlier pairs."""
        x, block = self._joined(features, tokens), self._block
        first = 0 if past is None else past[0].shape[2]
        q, k, v = block.self_attn.projected(x, first)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        seen = torch.ones(x.shape[1], k.shape[2], dtype=torch.bool, device=x.device).tril(first)
        return block.after(x, F.scaled_dot_product_attention(q, k, v, seen)), (k, v)

    def unrolled(self, features: Tensor, tokens: Tensor, steps: int, starts: Tensor | None = None) -> Iterator[Tensor]:
        """Hidden states [B, L, d] of step 1, 2, ... `steps`, from the target's states [B, L, d] of the tokens [B, L].

        Row t of step k predicts what the target's state t predicts, from its states up to t - k and the tokens after.
        starts [B, L]: nonzero where a document begins, which sees nothing before it; None if each row is one.  In step
        k the first k rows of a document mean nothing: there is no text before them.
        """
        block, length = self._block, features.shape[1] - 1
        given, following = features[:, :-1], tokens[:, 1:]
        before = torch.ones(length, length, dtype=torch.bool, device=features.device)
        if starts is not None:
            document = (starts[:, :-1] != 0).cumsum(-1)
            before = document[:, None, :, None] == document[:, None, None, :]
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for step in range(steps):
            x = self._joined(given, following)
            q, k, v = block.self_attn.projected(x, 0)
            keys.append(k)
            values.append(v)
            own_keys = [_shifted(key, step - own) for own, key in enumerate(keys[1:], 1)]
            own_values = [_shifted(value, step - own) for own, value in enumerate(values[1:], 1)]
            scale = q.shape[-1] ** -0.5
            scores = (q @ keys[0].mT * scale).masked_fill(~before.tril(-step), -torch.inf)
            own = [(q * key).sum(-1, keepdim=True) * scale for key in own_keys]
            weights = torch.softmax(torch.cat([scores, *own], -1).float(), -1).to(v.dtype)
            mixed = weights[..., :length] @ values[0]
            for place, value in enumerate(own_values):
                mixed = mixed + weights[..., length + place, None] * value
            out = block.after(x, mixed)
            yield F.pad(out, (0, 0, 1, 0))
            given = torch.cat([given[:, :1], out[:, :-1]], 1)

    def _joined(self, features: Tensor, tokens: Tensor) -> Tensor:
        joined: Tensor = self.fc(
            torch.cat([F.embedding(tokens, self.embedding).to(self.dtype), features.to(self.dtype)], -1)
        )
        return joined


def new_eagle(embedding: Tensor, head: Head, feed_forward: int, positions: int, seed: int) -> Eagle:
    """A head with random weights for a target with this embedding [V, d] and head; it begins by handing h_t on.

    feed_forward: neurons, 0 for 8/3 of the width; positions: of the target's context.
    """
    vocabulary, width = head.shape
    if embedding.shape[1] != width:
        raise UnsupportedArchitecture(
            f"the target's embedding is {embedding.shape[1]} wide and its LM head {width}; a head joins equal widths"
        )
    shape = new_shape(width, vocabulary, positions, feed_forward)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        eagle = Eagle(shape, embedding, head)
        for weight in eagle.parameters():
            if weight.dim() > 1 and weight.requires_grad:
                nn.init.normal_(weight, std=INITIAL_STD)
        with torch.no_grad():
            eagle.fc.weight[:, width:] += torch.eye(width)
    return eagle.to(device=head.device, dtype=head.dtype)


def _shifted(heads: Tensor, by: int) -> Tensor:
    """[B, H, T, w] with row t holding what row t - by held; the first rows mean nothing."""
    return heads if by == 0 else torch.cat([heads[..., :by, :], heads[..., :-by, :]], -2)
