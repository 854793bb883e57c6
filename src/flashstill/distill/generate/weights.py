"""The weights of Llama and similar models (Mistral, Qwen2, Qwen3), rearranged for fast decoding.

Rotary embedding rotates the pairs (i, i + width/2) of a head's dimensions (Su et al. 2021, "RoFormer").  The rows of
the query and key projections are reordered to 0, width/2, 1, width/2 + 1, ..., which leaves query-key dot products
unchanged but makes each pair adjacent, so that one complex multiplication rotates it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """A linear layer: weight [in, out], bias [out] or None; maps x [N, in] to [N, out]."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def onto(self, x: Tensor, y: Tensor) -> None:
        """Add the layer's output for y to x, in place (x += y @ weight + bias)."""
        x.addmm_(y, self.weight)
        if self.bias is not None:
            x.add_(self.bias)


@dataclass(frozen=True, kw_only=True, slots=True)
class Norm:
    """RMS norm over the last dimension: x / rms(x) * weight."""

    weight: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The weights of one transformer block; q_norm and k_norm only if queries and keys are normalised (Qwen3)."""

    before: Norm
    qkv: Linear
    q_norm: Norm | None
    k_norm: Norm | None
    out: Linear
    between: Norm
    gate: Linear
    up: Linear
    act: Callable[[Tensor], Tensor]
    down: Linear

    def feed_forward(self, x: Tensor) -> None:
        """Add the output of the block's gated FFN, with its norm, to x [N, d] in place."""
        y = self.between(x)
        self.down.onto(x, self.act(self.gate(y)).mul_(self.up(y)))


def block_of(layer: Any, heads: int, key_heads: int, width: int) -> Block:
    """The weights of a transformers decoder layer; only the query, key and value projections are copied."""
    attention, mlp = layer.self_attn, layer.mlp
    pairs = torch.arange(width, device=attention.q_proj.weight.device).view(2, -1).T.flatten()
    return Block(
        before=norm_of(layer.input_layernorm),
        qkv=_joined([attention.q_proj, attention.k_proj, attention.v_proj], pairs, heads + key_heads),
        q_norm=norm_of(attention.q_norm, pairs) if hasattr(attention, "q_norm") else None,
        k_norm=norm_of(attention.k_norm, pairs) if hasattr(attention, "k_norm") else None,
        out=_linear(attention.o_proj),
        between=norm_of(layer.post_attention_layernorm),
        gate=_linear(mlp.gate_proj),
        up=_linear(mlp.up_proj),
        act=mlp.act_fn,
        down=_linear(mlp.down_proj),
    )


def norm_of(module: Any, order: Tensor | None = None) -> Norm:
    """The weight of an RMS norm, reordered if `order` is given."""
    weight = module.weight.detach()
    return Norm(weight=weight if order is None else weight[order], epsilon=module.variance_epsilon)


def turns(rotary: Any, positions: int, width: int, like: Tensor) -> Tensor:
    """Complex rotary factors [positions, width/2], by which the pairs of a head are multiplied."""
    probe = torch.zeros(1, dtype=like.dtype if like.dtype == torch.float64 else torch.float32, device=like.device)
    cos, sin = rotary(probe, torch.arange(positions, device=like.device)[None])
    return torch.complex(cos[0, :, : width // 2].contiguous(), sin[0, :, : width // 2].contiguous())


def _linear(module: Any) -> Linear:
    bias = None if module.bias is None else module.bias.detach()
    return Linear(weight=module.weight.detach().T, bias=bias)


def _joined(modules: list[Any], pairs: Tensor, turned_heads: int) -> Linear:
    """Concatenate projections into one; the first `turned_heads` heads get the pair order of the rotary embedding."""
    width = len(pairs)
    order = (torch.arange(turned_heads, device=pairs.device)[:, None] * width + pairs).flatten()

    def whole(parts: list[Tensor]) -> Tensor:
        every = torch.cat([part.detach() for part in parts])
        return torch.cat([every[order], every[len(order) :]])

    biased = modules[0].bias is not None
    weight = whole([module.weight for module in modules])
    return Linear(weight=weight.T, bias=whole([module.bias for module in modules]) if biased else None)
