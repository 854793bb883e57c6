"""Layout of a model over chips: tensor, pipeline, expert and data parallelism, and what each chip then holds.

    chips = tp x pp x dp
    attention and dense FFNs are split over tp and replicated dp times; each replica takes 1/dp of the sequences
    routed experts are stored once on the tp x dp chips of a stage: ep groups of whole experts, each expert split over
    tp dp / ep chips (ep = 1: every chip holds a slice of every expert; ep = tp dp: every chip holds whole experts)
    redundant experts: second copies of popular ones, so that E + r copies ("slots") divide by ep, (E + r)/ep per group
    a pipeline runs pp groups of sequences at the same time, so each stage works on 1/pp of the batch

Without routed experts dp means independent replicas.  If there are fewer key/value heads than tp, they are replicated;
`shard_batch` splits the cache by sequences instead (Pope et al. 2022, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture, Attention, LinearAttention
from flashstill.errors import BadInput, unknown
from flashstill.workload import Quantity

FFN_LAYOUTS = ("1d", "2d", "gathered")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """Work that is sharded once for all candidates and then used for some of them again and again (shared.py).

    whole: the layout of all candidates.  known: its sharded work, by all that the work depends on.
    places: those of the candidates at hand, None for all.
    """

    whole: Layout
    known: dict[Any, Any]
    places: npt.NDArray[np.intp] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Degrees of parallelism, each a number or an array of candidates.

    ffn: weight-stationary in one or two dimensions, or weights gathered (Pope et al. 2022, section 3.2).
    redundant: copies of experts beyond one of each, which a load balancer assigns to the popular ones.
    balanced: every expert group receives the same number of tokens, as training's balancing losses see to.
    uneven: tokens of the busiest data-parallel group, which the operations hold, relative to the mean.
    gather: number of chips over which weights are gathered; 0 for the degree with the least traffic.
    shard_batch: split the cache by sequences instead of replicating key/value heads.
    dense, at: of a row of candidates, the distinct ones as far as all work but that of experts goes (tp), and the place
    of each candidate among them.  Operations then hold the sequences of `dense`.
    shared: the work of candidates as sharded before, of which these are some; None to keep none.
    """

    tp: Quantity = 1.0
    pp: Quantity = 1.0
    ep: Quantity = 1.0
    dp: Quantity = 1.0
    redundant: Quantity = 0.0
    balanced: bool = False
    uneven: float = 1.0
    ffn: str = "1d"
    gather: Quantity = 0.0
    shard_batch: bool = False
    dense: Layout | None = None
    at: npt.NDArray[np.intp] | None = None
    shared: Shared | None = None

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

    def each(self, quantity: Quantity) -> Quantity:
        """A quantity of the candidates of `dense`, for all candidates; any other quantity as it is."""
        if self.at is None or np.ndim(quantity) == 0 or np.shape(quantity)[-1] == 1:
            return quantity
        every: Quantity = np.take(quantity, self.at, axis=-1)
        return every

    def local_batch(self, batch: Quantity) -> Quantity:
        """Sequences per tensor-parallel group and pipeline stage; at least one."""
        return np.maximum(batch / (self.dp * self.pp), 1.0)


def layout_reason(model: Architecture, tp: int, pp: int, ep: int, dp: int, redundant: int = 0) -> str | None:
    """Reason why a layout cannot be built, or None. The part before the colon is the kind of reason.

    redundant: redundant experts in every layer of experts, of which ep must divide the sum (see `least_redundant`).
    """
    if pp > model.depth:
        return f"pp exceeds the layers: {pp} stages for {model.depth} layers"
    for layer in model.layers:
        mixer, experts = layer.attention, layer.ffn.experts
        heads = mixer.shards if isinstance(mixer, LinearAttention) else mixer.heads
        if heads % tp:
            return f"tp does not divide the heads: {heads} heads over {tp} chips"
        if isinstance(mixer, Attention) and mixer.kv_heads % tp and tp % mixer.kv_heads:
            return f"tp does not fit the key/value heads: {mixer.kv_heads} heads over {tp} chips"
        if experts and (tp * dp) % ep:
            nearest = max(degree for degree in range(1, min(ep, tp * dp) + 1) if tp * dp % degree == 0)
            return f"ep does not divide tp x dp: ep {ep}, {tp * dp} chips; the nearest that does is {nearest}"
        if experts and (experts + redundant) % ep:
            return (
                f"ep does not divide the experts and their copies: {experts} + {redundant} redundant experts, ep {ep};"
                f" the nearest number of redundant experts is {_nearest(experts, redundant, ep)}"
            )
        if experts and redundant > experts * (ep - 1):
            return (
                f"more redundant experts than ep can use: {redundant}; with a copy of each of {experts} experts in each"
                f" of {ep} groups there are {experts * (ep - 1)}"
            )
    if not model.routed and ep > 1:
        return f"ep without experts: {model.name} is dense"
    if not model.routed and redundant:
        return f"redundant experts without experts: {model.name} is dense; leave redundant_experts out"
    return None


def least_redundant(model: Architecture, ep: int) -> int:
    """The fewest redundant experts with which `ep` divides the experts of every layer; 0 if it divides them.

    0 also if no number does, as layers with different numbers of experts may need different ones.
    """
    if ep == 1:
        return 0
    counts = {layer.ffn.experts for layer in model.layers if layer.ffn.experts}
    rests = {-experts % ep for experts in counts}
    return rests.pop() if len(rests) == 1 else 0


def _nearest(experts: int, redundant: int, ep: int) -> int:
    """The number of redundant experts nearest to `redundant` that `ep` divides with `experts`."""
    above = redundant + -(experts + redundant) % ep
    below = above - ep
    return below if below >= 0 and redundant - below < above - redundant else above
