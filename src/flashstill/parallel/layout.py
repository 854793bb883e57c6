"""Layout of a model over chips: tensor, pipeline, expert and data parallelism, and what each chip then holds.

    chips = tp x pp x dp
    attention and dense FFNs are split over tp and replicated dp times; each replica takes 1/dp of the sequences
    routed experts are stored once on the tp x dp chips of a stage: ep groups of whole experts, each expert split over
    tp dp / ep chips (ep = 1: every chip holds a slice of every expert; ep = tp dp: every chip holds whole experts)
    a pipeline runs pp groups of sequences at the same time, so each stage works on 1/pp of the batch

Without routed experts dp means independent replicas.  If there are fewer key/value heads than tp, they are replicated;
`shard_batch` splits the cache by sequences instead (Pope et al. 2022, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.arch import Architecture, Attention, LinearAttention
from flashstill.errors import BadInput, unknown
from flashstill.workload import Quantity

FFN_LAYOUTS = ("1d", "2d", "gathered")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Degrees of parallelism, each a number or an array of candidates.

    ffn: weight-stationary in one or two dimensions, or weights gathered (Pope et al. 2022, section 3.2).
    gather: number of chips over which weights are gathered; 0 for the degree with the least traffic.
    shard_batch: split the cache by sequences instead of replicating key/value heads.
    """

    tp: Quantity = 1.0
    pp: Quantity = 1.0
    ep: Quantity = 1.0
    dp: Quantity = 1.0
    ffn: str = "1d"
    gather: Quantity = 0.0
    shard_batch: bool = False

    def __post_init__(self) -> None:
        if self.ffn not in FFN_LAYOUTS:
            raise BadInput(unknown("layout of the weights", self.ffn, FFN_LAYOUTS))

    @property
    def chips(self) -> Quantity:
        """Number of chips."""
        return self.tp * self.pp * self.dp

    @property
    def expert_tp(self) -> Quantity:
        """Number of chips that share one expert."""
        return self.tp * self.dp / self.ep

    def local_batch(self, batch: Quantity) -> Quantity:
        """Sequences per tensor-parallel group and pipeline stage; at least one."""
        return np.maximum(batch / (self.dp * self.pp), 1.0)


def layout_reason(model: Architecture, tp: int, pp: int, ep: int, dp: int) -> str | None:
    """Reason why a layout cannot be built, or None. The part before the colon is the kind of reason."""
    if pp > model.depth:
        return f"pp exceeds the layers: {pp} stages for {model.depth} layers"
    for layer in model.layers:
        mixer, experts = layer.attention, layer.ffn.experts
        heads = mixer.shards if isinstance(mixer, LinearAttention) else mixer.heads
        if heads % tp:
            return f"tp does not divide the heads: {heads} heads over {tp} chips"
        if isinstance(mixer, Attention) and mixer.kv_heads % tp and tp % mixer.kv_heads:
            return f"tp does not fit the key/value heads: {mixer.kv_heads} heads over {tp} chips"
        if experts and (experts % ep or (tp * dp) % ep):
            return f"ep does not divide the experts or tp x dp: {experts} experts, {tp * dp} chips, ep {ep}"
    if not model.routed and ep > 1:
        return f"ep without experts: {model.name} is dense"
    return None
