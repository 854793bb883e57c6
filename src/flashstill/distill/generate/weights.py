"""The weights of Llama and its kin (Mistral, Qwen2, Qwen3) as decoding wants them.

Rotary embedding turns the pairs (i, i + width/2) of a head's dimensions (Su et al. 2021, "RoFormer").  The rows of the
query and key projections are put in the order 0, width/2, 1, width/2 + 1, ..., which no scalar product sees: a pair
lies side by side then, and is turned by one complex product.
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
    """weight [in, out]; bias [out] or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def onto(self, x: Tensor, y: Tensor) -> None:
        """Add what it makes of y to x."""
        x.addmm_(y, self.weight)
        if self.bias is not None:
            x.add_(self.bias)


@dataclass(frozen=True, kw_only=True, slots=True)
class Norm:
    """x / rms(x) * weight over the last dimension."""

    weight: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One block; q_norm and k_norm where heads are normalised (Qwen3)."""

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
        """Add the second half of the block to x [N, d]."""
        y = self.between(x)
        self.down.onto(x, self.act(self.gate(y)).mul_(self.up(y)))


def block_of(layer: Any, heads: int, key_heads: int, width: int) -> Block:
    """The weights of a decoder layer; only queries, keys and values are copied."""
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
    """A norm's weights, in another order where one is given."""
    weight = module.weight.detach()
    return Norm(weight=weight if order is None else weight[order], epsilon=module.variance_epsilon)


def turns(rotary: Any, positions: int, width: int, like: Tensor) -> Tensor:
    """[positions, width/2], complex: what a pair is multiplied with."""
    probe = torch.zeros(1, dtype=like.dtype if like.dtype == torch.float64 else torch.float32, device=like.device)
    cos, sin = rotary(probe, torch.arange(positions, device=like.device)[None])
    return torch.complex(cos[0, :, : width // 2].contiguous(), sin[0, :, : width // 2].contiguous())


def _linear(module: Any) -> Linear:
    bias = None if module.bias is None else module.bias.detach()
    return Linear(weight=module.weight.detach().T, bias=bias)


def _joined(modules: list[Any], pairs: Tensor, turned_heads: int) -> Linear:
    """Several projections as one; the first `turned_heads` heads with their pairs side by side."""
    width = len(pairs)
    order = (torch.arange(turned_heads, device=pairs.device)[:, None] * width + pairs).flatten()

    def whole(parts: list[Tensor]) -> Tensor:
        every = torch.cat([part.detach() for part in parts])
        return torch.cat([every[order], every[len(order) :]])

    biased = modules[0].bias is not None
    weight = whole([module.weight for module in modules])
    return Linear(weight=weight.T, bias=whole([module.bias for module in modules]) if biased else None)
