"""The operations of a step: FLOPs, and bytes moved by kind.

Every field may be a number or a NumPy array; arrays broadcast, so one call prices a grid of batches and layouts.

    Matmul      rows m, columns n, depth k            2 m n k FLOPs, reads n k weights
    Attention   s sequences, q new tokens each        2 s h (e_k + e_v) pairs FLOPs, reads or writes the cache
    Experts     T tokens, each through k of E FFNs    2 w d f T k FLOPs, reads the weights of the distinct experts used
    Operation   moves activations only                no weights

w is the number of matrices of one FFN (3 if gated, else 2).  Activation bytes are computed from the shape in this
module only; the calibration uses the same classes, so fits and predictions agree.

    Matmul      reads m k inputs, writes m n outputs
    Attention   reads T h e_k queries, writes T h e_v outputs
    Experts     each token-expert pair reads d, writes and reads (w-1) f, then f, then d; each token with a local expert
                writes its sum, d

The last item counts the traffic of the engines' fused kernels: gate and up write a buffer of T k (w-1) f values, the
activation function reduces it to T k f, the down product writes T k d, and a sum over k writes T d (fused_experts of
vLLM's fused_moe.py: intermediate_cache1, 2, 3 and moe_sum; TensorRT-LLM's CUTLASS path also writes and reads the
permuted input, 2 d more per pair).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

EVEN = -1.0
Quantity = float | npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Widths:
    """Bytes per value. attention, experts, exact: None for the same as `weight`.

    attention: projections of the mixers.
    state: matrices of a recurrence, which engines keep in 32 bits.
    exact: weights that quantised checkpoints keep in 16 bits (LM head, router, absorbed MLA products).
    inputs, attention_inputs, expert_inputs: activations as matrix products read them, if the chip multiplies in fewer
    bits than `activation` has; None for the same as `activation`.
    """

    weight: Quantity = 2.0
    attention: Quantity | None = None
    experts: Quantity | None = None
    exact: Quantity | None = None
    kv: Quantity = 2.0
    activation: Quantity = 2.0
    state: Quantity = 4.0
    inputs: Quantity | None = None
    attention_inputs: Quantity | None = None
    expert_inputs: Quantity | None = None

    def inputs_of(self, role: str) -> Quantity:
        """Bytes of one input activation of a product of `role`, in the format in which the chip multiplies it."""
        narrow = {"linear": self.inputs, "attention": self.attention_inputs, "experts": self.expert_inputs}.get(role)
        return self.activation if narrow is None else narrow

    def of(self, role: str) -> Quantity:
        """Bytes of one weight of role "linear", "attention", "experts" or "exact"."""
        special = {"linear": None, "attention": self.attention, "experts": self.experts, "exact": self.exact}[role]
        return self.weight if special is None else special


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """`count` equal operations; all other fields describe one. A plain Operation only moves bytes."""

    name: str
    count: Quantity = 1
    activation_bytes: Quantity = 0.0
    reduce_bytes: Quantity = 0.0
    """bytes of the activation whose partial sums the shards of a layer reduce after this operation; 0 for none"""

    @property
    def flops(self) -> Quantity:
        """FLOPs; a multiply-accumulate counts as 2."""
        return 0.0

    @property
    def weight_bytes(self) -> Quantity:
        """Bytes of weights read."""
        return 0.0

    @property
    def kv_bytes(self) -> Quantity:
        """Bytes of cache and recurrent state, read and written."""
        return 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Matmul(Operation):
    """Matrix product, (rows x depth) (depth x columns). split under tensor parallelism: "columns", "rows", "none"."""

    rows: Quantity
    columns: Quantity
    depth: Quantity
    role: str = "linear"
    split: str = "columns"
    value_bytes: Quantity = 2.0
    input_value_bytes: Quantity = 2.0
    output_value_bytes: Quantity = 2.0
    activation_bytes: Quantity = field(init=False)

    def __post_init__(self) -> None:
        read = self.depth * self.input_value_bytes
        object.__setattr__(self, "activation_bytes", self.rows * (read + self.columns * self.output_value_bytes))

    @property
    def flops(self) -> Quantity:
        """2 m n k FLOPs."""
        return 2.0 * self.rows * self.columns * self.depth

    @property
    def weight_bytes(self) -> Quantity:
        """Bytes of n k weights."""
        return self.columns * self.depth * self.value_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention(Operation):
    """Softmax attention of `queries` new tokens per sequence over `seen` cached tokens.

    prompt: True for a causal prefill (many queries), False for a decode step (few queries over a long cache).
    latent: one compressed vector per token serves as key and value of all heads (MLA, absorbed form).
    """

    sequences: Quantity
    queries: Quantity
    seen: Quantity
    pairs: Quantity
    heads: Quantity
    kv_heads: Quantity
    key_width: float
    value_width: float
    kv_values: Quantity
    kv_value_bytes: Quantity
    prompt: bool
    latent: bool = False
    activation_value_bytes: Quantity = 2.0
    activation_bytes: Quantity = field(init=False)

    def __post_init__(self) -> None:
        values = self.heads * (self.key_width + self.value_width) * self.sequences * self.queries
        object.__setattr__(self, "activation_bytes", values * self.activation_value_bytes)

    @property
    def flops(self) -> Quantity:
        """2 s h (e_k + e_v) pairs FLOPs."""
        return 2.0 * self.sequences * self.heads * (self.key_width + self.value_width) * self.pairs

    @property
    def kv_bytes(self) -> Quantity:
        """Bytes of cached tokens read and new tokens written."""
        return self.sequences * (self.seen + self.queries) * self.kv_values * self.kv_value_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Experts(Operation):
    """Routed FFNs: each of `tokens` is routed to `chosen` of `experts`; this shard holds `local_experts` of them.

    skew: exponent a of expert popularity, p_i ~ i^-a; 0 for uniform routing; EVEN for round-robin routing as in kernel
    benchmarks, where no expert is used twice before all are used once.
    copies: stored copies of this shard's experts, relative to one of each; they share the tokens of their expert.
    load: tokens of the busiest shard, for which the others wait, relative to the mean (`busiest`).
    """

    tokens: Quantity
    experts: int
    chosen: int
    local_experts: Quantity
    width: int
    ffn_width: Quantity
    matrices: int
    value_bytes: Quantity = 2.0
    skew: float = 0.0
    activation_value_bytes: Quantity = 2.0
    input_value_bytes: Quantity = 2.0
    copies: Quantity = 1.0
    load: Quantity = 1.0
    activation_bytes: Quantity = field(init=False)

    def __post_init__(self) -> None:
        pairs = self.assignments
        moved = pairs * (3.0 * self.width + 2.0 * self.matrices * self.ffn_width)
        summed = np.minimum(self.tokens, pairs) * self.width
        object.__setattr__(self, "activation_bytes", (moved + summed) * self.activation_value_bytes)

    @property
    def assignments(self) -> Quantity:
        """Expected number of token-expert pairs on this shard."""
        return self.tokens * self.chosen * self.local_experts / self.experts

    @property
    def distinct(self) -> Quantity:
        """Expected number of this shard's experts that receive at least one token."""
        share = distinct_experts(self.experts, self.chosen, self.tokens, self.skew) / self.experts
        # Copies are of popular experts and take a part of their tokens: few tokens meet few of them.
        met = self.local_experts * share * (1.0 + (self.copies - 1.0) * share)
        return np.maximum(met, np.minimum(1.0, self.assignments))

    @property
    def busiest(self) -> Experts:
        """The work of the busiest shard, which sets the time of all; the energy is that of their mean."""
        if np.ndim(self.load) == 0 and self.load == 1.0:
            return self
        return replace(self, tokens=self.tokens * self.load, load=1.0)

    @property
    def flops(self) -> Quantity:
        """2 w d f FLOPs per token-expert pair."""
        return 2.0 * self.matrices * self.width * self.ffn_width * self.assignments

    @property
    def weight_bytes(self) -> Quantity:
        """Bytes of the weights of the distinct experts used."""
        return self.matrices * self.width * self.ffn_width * self.distinct * self.value_bytes


def distinct_experts(experts: int, chosen: int, tokens: Quantity, skew: float = 0.0) -> Quantity:
    """Expected number of experts used by T tokens: E (1 - (1 - k/E)^T) if uniform, else the sum of 1 - (1 - p_i)^T."""
    if skew == EVEN:
        dealt: Quantity = np.minimum(tokens * chosen, float(experts))
        return dealt
    count = np.maximum(tokens, 1.0)
    if skew == 0.0:
        uniform: Quantity = -experts * np.expm1(count * np.log1p(-min(chosen / experts, 1.0 - 1e-12)))
        return uniform
    popularity = np.arange(1.0, experts + 1.0) ** -skew
    share = np.minimum(popularity * chosen / popularity.sum(), 1.0 - 1e-12)
    met: npt.NDArray[np.float64] = -np.expm1(np.asarray(count)[..., None] * np.log1p(-share)).sum(-1)
    return met


def matmul(
    name: str,
    rows: Quantity,
    columns: Quantity,
    depth: Quantity,
    widths: Widths,
    role: str = "linear",
    split: str = "columns",
) -> Matmul:
    """A matrix product with bytes per weight and activation taken from `widths` by role."""
    return Matmul(
        name=name,
        rows=rows,
        columns=columns,
        depth=depth,
        role=role,
        split=split,
        value_bytes=widths.of(role),
        input_value_bytes=widths.inputs_of(role),
        output_value_bytes=widths.activation,
    )
