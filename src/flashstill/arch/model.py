"""The shape of a decoder-only language model, and what follows from it: parameters, KV cache, bytes of weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from flashstill.arch.attention import Attention, LatentAttention
from flashstill.arch.compressed import CompressedAttention
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.formats import Formats
from flashstill.arch.recurrent import LinearAttention

Mixer = Attention | LatentAttention | CompressedAttention | LinearAttention
"""What mixes tokens in a block; all have norms, kv_values_per_token, state_values, window, parameters(width)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """`count` identical blocks, not necessarily in a row: a mixer of tokens and an FFN."""

    count: int
    attention: Mixer
    ffn: FeedForward
    norm_parameters: int
    parallel: bool = False
    """mixer and FFN read the same input, so that one all-reduce serves both"""
    norms: int = 2
    """of the stream, before and after mixer and FFN"""
    side_weights: int = 0
    """of narrow matrices beside mixer and FFN that every token meets, such as an embedding for each block"""
    streams: int = 1
    """residual streams of the model's width that pass the block"""

    def parameters(self, width: int, active: bool = False) -> int:
        """Of one of the blocks; with `active` what one token meets."""
        inside = self.attention.parameters(width) + self.ffn.parameters(width, active)
        return inside + self.side_weights + self.norm_parameters

    def weight_bits(self, width: int, formats: Formats) -> float:
        """Of all weights of one of the blocks, as they are stored; scales included."""
        ffn = self.ffn
        mixer = self.attention.matrix_parameters(width)
        one = ffn.expert_matrices(width)
        routed = ffn.experts * one
        dense = ffn.matrices * width * (ffn.shared_width + ffn.dense_width) if ffn.experts else one
        rest = self.parameters(width) - mixer - routed - dense
        return (
            mixer * formats.attention.bits
            + routed * formats.experts.bits
            + dense * formats.linear.bits
            + rest * formats.base.bits
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A decoder-only language model."""

    name: str
    width: int
    vocabulary: int
    layers: tuple[Layer, ...]
    """kinds of blocks in the order of their first appearance"""
    tied: bool
    """whether the LM head is the embedding"""
    context: int
    """longest context the model was made for"""
    final_norm_parameters: int
    position_parameters: int = 0
    """learned positions"""
    extra_parameters: int = 0
    """what stands outside the blocks besides: bias of the head, norm of the embedding"""
    mtp_layers: int = 0
    """modules that predict further tokens (multi-token prediction)"""
    mtp_parameters: int = 0
    """of these modules together, embedding and head shared with the model; not part of `parameters`"""
    formats: Formats = field(default_factory=Formats)
    """how a published checkpoint stores the weights"""
    note: str = field(default="", compare=False)
    """what of its configuration is left out of this description, in words"""

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return sum(layer.count for layer in self.layers)

    @property
    def routed(self) -> bool:
        """Whether any block routes tokens to experts."""
        return any(layer.ffn.experts for layer in self.layers)

    @property
    def norm_pairs(self) -> float:
        """Pairs of norms in all blocks beyond the one that every block has: of queries and keys, or behind the FFN."""
        return sum(layer.count * (layer.norms + layer.attention.norms - 2) for layer in self.layers) / 2.0

    @property
    def embedding_parameters(self) -> int:
        """The embedding, and the LM head where it is separate."""
        return self.width * self.vocabulary * (1 if self.tied else 2)

    @property
    def _outside(self) -> int:
        return self.embedding_parameters + self.final_norm_parameters + self.position_parameters + self.extra_parameters

    @property
    def parameters(self) -> int:
        """Every weight, counted once."""
        return self._outside + sum(layer.count * layer.parameters(self.width) for layer in self.layers)

    @property
    def active_parameters(self) -> int:
        """The weights that one token meets, embedding and head included in full."""
        return self._outside + sum(layer.count * layer.parameters(self.width, active=True) for layer in self.layers)

    @property
    def kv_values_per_token(self) -> float:
        """Numbers that one token adds to the whole KV cache (windows not considered)."""
        return sum(layer.count * layer.attention.kv_values_per_token for layer in self.layers)

    @property
    def state_values(self) -> int:
        """Numbers of recurrent state that one sequence holds, whatever its length."""
        return sum(layer.count * layer.attention.state_values for layer in self.layers)

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights as the published checkpoint stores them."""
        stored = self.formats
        bits = sum(layer.count * layer.weight_bits(self.width, stored) for layer in self.layers)
        head = 0 if self.tied else self.width * self.vocabulary
        blocks = sum(layer.count * layer.parameters(self.width) for layer in self.layers)
        outside = self.parameters - blocks - head
        return (bits + head * stored.head.bits + outside * stored.base.bits) / 8
