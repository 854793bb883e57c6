"""Routed FFNs (mixture of experts): T tokens, each through k of E FFNs, of which this chip holds some.

    FLOPs     2 w d f per token-expert pair
    weights   w d f of every distinct expert used: E (1 - (1 - k/E)^T) if routing is uniform
    moved     each pair reads d, writes and reads (w-1) f, then f, then d; each token with an expert here writes d
    remote    kernels that are handed all tokens also activate and sum the rows of pairs whose expert is on another
              chip: d + w f a pair

w is the number of matrices of one FFN (3 if gated, else 2).  The traffic is that of the engines' fused kernels: gate
and up write a buffer of T k (w-1) f values, the activation function reduces it to T k f, the down product writes T k d,
and a sum over k writes T d (fused_experts of vLLM's fused_moe.py: intermediate_cache1, 2, 3 and moe_sum;
TensorRT-LLM's CUTLASS path also writes and reads the permuted input, 2 d more per pair).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from flashstill.workload.operations import Operation, Quantity

EVEN = -1.0
FEW = 64
"""numbers of tokens that are not worth sorting"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Routed:
    """Routing that was counted: this chip's token-expert pairs, and the number of experts that they reach."""

    pairs: Quantity
    distinct: Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Experts(Operation):
    """Routed FFNs: each of `tokens` is routed to `chosen` of `experts`; this shard holds `local_experts` of them.

    skew: exponent a of expert popularity, p_i ~ i^-a; 0 for uniform routing; EVEN for round-robin routing, where no
    expert is used twice before all are used once.
    copies: stored copies of this shard's experts, relative to one of each; they share the tokens of their expert.
    load: tokens of the busiest shard, for which the others wait, relative to the mean (`busiest`).
    counted: the routing where it is known; else its expectation.
    remote: token-expert pairs that the chip's kernels are handed although their expert is on another chip.
    """

    tokens: Quantity
    experts: Quantity
    chosen: Quantity
    local_experts: Quantity
    width: Quantity
    ffn_width: Quantity
    matrices: Quantity
    value_bytes: Quantity = 2.0
    skew: float = 0.0
    counted: Routed | None = None
    remote: Quantity = 0.0
    activation_value_bytes: Quantity = 2.0
    input_value_bytes: Quantity = 2.0
    copies: Quantity = 1.0
    load: Quantity = 1.0
    activation_bytes: Quantity = field(init=False)
    _distinct: Quantity | None = field(init=False, default=None, repr=False, compare=False)
    _busiest: Experts | None = field(init=False, default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        pairs = self.assignments
        moved = pairs * (3.0 * self.width + 2.0 * self.matrices * self.ffn_width)
        summed = np.minimum(self.tokens, pairs) * self.width
        object.__setattr__(self, "activation_bytes", (moved + summed) * self.activation_value_bytes)

    @property
    def assignments(self) -> Quantity:
        """Number of token-expert pairs on this shard, expected if it was not counted."""
        if self.counted is not None:
            return self.counted.pairs
        return self.tokens * self.chosen * self.local_experts / self.experts

    @property
    def distinct(self) -> Quantity:
        """Number of this shard's experts that receive at least one token, expected if it was not counted."""
        if self.counted is not None:
            return self.counted.distinct
        found = self._distinct
        if found is None:
            found = self._expected()
            object.__setattr__(self, "_distinct", found)
        return found

    def _expected(self) -> Quantity:
        share = distinct_experts(self.experts, self.chosen, self.tokens, self.skew) / self.experts
        # Copies are of popular experts and take a part of their tokens: few tokens meet few of them.
        met = self.local_experts * share * (1.0 + (self.copies - 1.0) * share)
        return np.maximum(met, np.minimum(1.0, self.assignments))

    @property
    def busiest(self) -> Experts:
        """The work of the busiest shard, which sets the time of all, counted; the energy is that of their mean."""
        if self.counted is not None:
            return self
        found = self._busiest
        if found is None:
            found = self._counted()
            object.__setattr__(self, "_busiest", found)
        return found

    def _counted(self) -> Experts:
        alike = np.ndim(self.load) == 0 and self.load == 1.0
        busy = self if alike else replace(self, tokens=self.tokens * self.load, load=1.0)
        return replace(busy, counted=Routed(pairs=busy.assignments, distinct=busy.distinct))

    @property
    def remote_bytes(self) -> Quantity:
        """Bytes moved for the rows of remote pairs by kernels that do not skip them."""
        return self.remote * (self.width + self.matrices * self.ffn_width) * self.activation_value_bytes

    @property
    def flops(self) -> Quantity:
        """2 w d f FLOPs per token-expert pair."""
        return 2.0 * self.matrices * self.width * self.ffn_width * self.assignments

    @property
    def weight_bytes(self) -> Quantity:
        """Bytes of the weights of the distinct experts used."""
        return self.matrices * self.width * self.ffn_width * self.distinct * self.value_bytes


def _shares(experts: float, chosen: float, skew: float) -> npt.NDArray[np.float64]:
    """Share of the tokens that choose each expert, popular ones first: they sum to k, and none is above 1.

    Where popularity asks for more than every token, the expert gets every token and the others share the rest.
    """
    popularity = np.arange(1.0, experts + 1.0) ** -skew
    full = 0  # experts that every token chooses
    share: npt.NDArray[np.float64] = popularity * chosen / popularity.sum()
    while full < min(chosen, experts) and share[full] > 1.0:
        share[full] = 1.0
        full += 1
        rest = popularity[full:].sum()
        share[full:] = popularity[full:] * ((chosen - full) / rest) if rest > 0.0 else 0.0
    return share


def distinct_experts(experts: Quantity, chosen: Quantity, tokens: Quantity, skew: float = 0.0) -> Quantity:
    """Expected number of experts used by T tokens: E (1 - (1 - k/E)^T) if uniform, else the sum of 1 - (1 - p_i)^T."""
    if skew == EVEN:
        dealt: Quantity = np.minimum(tokens * chosen, experts)
        return dealt
    count = np.maximum(tokens, 1.0)
    if skew == 0.0:
        uniform: Quantity = -experts * np.expm1(count * np.log1p(-np.minimum(chosen / experts, 1.0 - 1e-12)))
        return uniform
    share = np.minimum(_shares(float(experts), float(chosen), skew), 1.0 - 1e-12)
    counts, where = np.asarray(count), None
    if counts.size > FEW:  # a grid of layouts and batches has few different numbers of tokens
        shape = counts.shape
        counts, where = np.unique(counts, return_inverse=True)
    met: npt.NDArray[np.float64] = -np.expm1(counts[..., None] * np.log1p(-share)).sum(-1)
    return met if where is None else met[where.reshape(shape)]
