"""The operations of a step: FLOPs, and bytes moved by kind.

Every field may be a number or a NumPy array; arrays broadcast, so one call prices a grid of batches and layouts.

    Matmul      rows m, columns n, depth k            2 m n k FLOPs, reads n k weights
    Attention   s sequences, q new tokens each        2 s h (e_k + e_v) pairs FLOPs, reads or writes the cache
    Operation   moves activations only                no weights

Activation bytes are computed from the shape here only (those of experts in workload/experts.py); the calibration uses
the same classes, so fits and predictions agree.

    Matmul      reads m k inputs, writes m n outputs
    Attention   reads T h e_k queries, writes T h e_v outputs
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Quantity = float | npt.NDArray[np.float64]


def is_any(numbers: Quantity | npt.NDArray[np.bool_]) -> bool:
    """Whether any number is not 0: as np.any, which takes ten times as long as a product where numbers are few."""
    return bool(numbers.any()) if isinstance(numbers, np.ndarray) else bool(numbers)


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
    expanded: keys and values of every head are made from that vector and attended to (MLA in a prompt).
    slots: most tokens that an indexer selects for a query; None for attention that selects none.
    limit: most tokens that a query sees; None for all. Its effect is in `seen` and `pairs`; it tells kinds of blocks
    apart over short contexts, where all see the same.
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
    expanded: bool = False
    slots: Quantity | None = None
    limit: int | None = None
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
