"""The shape of a decoder-only transformer, and what follows from it: parameters and KV cache.

Symbols: d model width, h query heads, g key/value heads, e head width, f FFN width, E experts, k experts per token.

    attention parameters   d (h + 2 g) e  +  h e d  (+ biases, + query/key norms of width e)
    FFN parameters         (3 if gated else 2) d f,  times E with a router d E for routed experts
    KV cache per token     2 g e values a layer
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Grouped-query attention (h = g: multi-head; g = 1: multi-query)."""

    heads: int
    kv_heads: int
    head_width: int
    window: int | None = None
    """tokens a query sees; None for all"""
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False

    def parameters(self, width: int) -> int:
        """Weights and biases, norms of queries and keys included."""
        projections = width * (self.heads + 2 * self.kv_heads) * self.head_width + self.heads * self.head_width * width
        biases = self.qkv_bias * (self.heads + 2 * self.kv_heads) * self.head_width + self.output_bias * width
        return projections + biases + 2 * self.head_width * self.qk_norm

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token adds to the cache of one layer."""
        return 2 * self.kv_heads * self.head_width


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedForward:
    """A dense or routed FFN. experts = 0: dense."""

    width: int
    gated: bool = True
    bias: bool = False
    experts: int = 0
    experts_per_token: int = 0

    def expert_parameters(self, model_width: int) -> int:
        """Weights of one expert, or of the dense FFN."""
        biases = self.bias * ((2 if self.gated else 1) * self.width + model_width)
        return (3 if self.gated else 2) * model_width * self.width + biases

    def parameters(self, model_width: int, active: bool = False) -> int:
        """All weights, or with `active` those that one token meets; the router counts in both."""
        if not self.experts:
            return self.expert_parameters(model_width)
        used = self.experts_per_token if active else self.experts
        return used * self.expert_parameters(model_width) + model_width * self.experts


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """`count` identical blocks."""

    count: int
    attention: Attention
    ffn: FeedForward
    norm_parameters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A decoder-only transformer."""

    name: str
    width: int
    vocabulary: int
    layers: tuple[Layer, ...]
    tied: bool
    """whether the LM head is the embedding"""
    context: int
    """longest context the model was made for"""
    final_norm_parameters: int

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return sum(layer.count for layer in self.layers)

    @property
    def embedding_parameters(self) -> int:
        """The embedding, and the LM head where it is separate."""
        return self.width * self.vocabulary * (1 if self.tied else 2)

    def _blocks(self, active: bool) -> int:
        return sum(
            layer.count
            * (
                layer.attention.parameters(self.width)
                + layer.ffn.parameters(self.width, active)
                + layer.norm_parameters
            )
            for layer in self.layers
        )

    @property
    def parameters(self) -> int:
        """Every weight, counted once."""
        return self.embedding_parameters + self._blocks(active=False) + self.final_norm_parameters

    @property
    def active_parameters(self) -> int:
        """The weights that one token meets, embedding and head included."""
        return self.embedding_parameters + self._blocks(active=True) + self.final_norm_parameters

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token adds to the whole KV cache (windows not considered)."""
        return sum(layer.count * layer.attention.kv_values_per_token for layer in self.layers)
