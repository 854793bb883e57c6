"""The shape of a decoder-only language model, and its parameter count, KV-cache size and weight bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from flashstill.arch.attention import Attention, LatentAttention
from flashstill.arch.compressed import CompressedAttention
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.formats import Formats
from flashstill.arch.recurrent import LinearAttention

Mixer = Attention | LatentAttention | CompressedAttention | LinearAttention
"""A block's token mixer; all have norms, kv_values_per_token, state_values, window and parameters(width)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """`count` identical blocks, not necessarily adjacent: a token mixer and an FFN."""

    count: int
    attention: Mixer
    ffn: FeedForward
    norm_parameters: int
    parallel: bool = False
    """mixer and FFN read the same input in parallel, so one all-reduce serves both"""
    norms: int = 2
    """number of norms on the residual stream, before or after mixer and FFN"""
    side_weights: int = 0
    """weights of small matrices outside mixer and FFN used by every token, such as per-layer embeddings"""
    streams: int = 1
    """number of residual streams, each as wide as the model (hyper-connections)"""

    def parameters(self, width: int, active: bool = False) -> int:
        """Parameters of one block; with `active`, those used by one token."""
        inside = self.attention.parameters(width) + self.ffn.parameters(width, active)
        return inside + self.side_weights + self.norm_parameters

    def weight_bits(self, width: int, formats: Formats) -> float:
        """Stored bits of all weights of one block, quantisation scales included."""
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
    """distinct kinds of blocks, in order of first appearance"""
    tied: bool
    """whether the LM head shares the embedding's weights"""
    context: int
    """maximum context length in tokens"""
    final_norm_parameters: int
    position_parameters: int = 0
    """parameters of learned position embeddings"""
    extra_parameters: int = 0
    """other parameters outside the blocks: bias of the head, norm of the embedding"""
    mtp_layers: int = 0
    """number of multi-token prediction (MTP) modules"""
    mtp_parameters: int = 0
    """parameters of all MTP modules, excluding the shared embedding and head; not part of `parameters`"""
    formats: Formats = field(default_factory=Formats)
    """number formats of the weights in the published checkpoint"""
    shares_ends: bool = False
    """whether embedding and LM head are those of another model, as a drafting head's are: read, but not stored again"""
    note: str = field(default="", compare=False)
    """text naming parts of the configuration that are not modelled"""
    depth: int = field(init=False, repr=False, compare=False)
    """number of blocks"""
    routed: bool = field(init=False, repr=False, compare=False)
    """whether any block routes tokens to experts"""
    parameters: int = field(init=False, repr=False, compare=False)
    """total parameters; tied weights are counted once"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", sum(layer.count for layer in self.layers))
        object.__setattr__(self, "routed", any(layer.ffn.experts for layer in self.layers))
        blocks = sum(layer.count * layer.parameters(self.width) for layer in self.layers)
        object.__setattr__(self, "parameters", self._outside + blocks)

    @property
    def routed_blocks(self) -> int:
        """Blocks with routed experts."""
        return sum(layer.count for layer in self.layers if layer.ffn.experts)

    @property
    def norm_pairs(self) -> float:
        """Norms beyond two per block, such as QK norms or post-norms, summed over blocks and divided by 2."""
        return sum(layer.count * (layer.norms + layer.attention.norms - 2) for layer in self.layers) / 2.0

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding, and of the LM head if untied; none if both are another model's."""
        return 0 if self.shares_ends else self.width * self.vocabulary * (1 if self.tied else 2)

    @property
    def _outside(self) -> int:
        return self.embedding_parameters + self.final_norm_parameters + self.position_parameters + self.extra_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters used by one token, including the whole embedding and head."""
        return self._outside + sum(layer.count * layer.parameters(self.width, active=True) for layer in self.layers)

    @property
    def kv_values_per_token(self) -> float:
        """Values that one token adds to the KV cache over all layers, ignoring windows."""
        return sum(layer.count * layer.attention.kv_values_per_token for layer in self.layers)

    @property
    def state_values(self) -> int:
        """Values of recurrent state per sequence, independent of its length."""
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
