"""Operations of sparse attention around the products: scores of an indexer, selected tokens, and small kernels.

scores      each query scores all cached tokens with H_i short heads of width i in 8 bits; the logits are written in
            32 bits and read by the selection of the best k   (DeepSeek-V3.2, 2025, equations 1 and 2)
            2 H_i i pairs FLOPs;  (i + 4/128 i) bytes per cached key;  8 bytes per pair
small       norms, rotary positions, concatenations and copies between the products of a latent mixer: kernels that
            move activations only, and in their number cost more than the bytes they move
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flashstill.arch import Indexer, LatentAttention
from flashstill.workload.operations import Operation, Quantity, Widths, matmul
from flashstill.workload.seen import NewTokens

KEY_BYTES, LOGIT_BYTES = 1.0 + 4.0 / 128.0, 8.0
"""bytes of a value of an indexer's key, with one 32-bit scale per 128 values; bytes per logit, written and read"""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexScores(Operation):
    """Scores of `queries` new tokens per sequence against all cached tokens, and the selection of the best.

    shared: every chip of a tensor-parallel group scores with all heads, as its query heads read the same tokens.
    """

    sequences: Quantity
    queries: Quantity
    seen: Quantity
    pairs: Quantity
    heads: Quantity
    width: float
    prompt: bool
    shared: bool
    activation_bytes: Quantity = field(init=False)

    def __post_init__(self) -> None:
        read = self.queries * self.heads * self.width * KEY_BYTES
        object.__setattr__(self, "activation_bytes", self.sequences * (read + LOGIT_BYTES * self.pairs))

    @property
    def flops(self) -> Quantity:
        """2 H_i i FLOPs per query and cached token."""
        return 2.0 * self.sequences * self.heads * self.width * self.pairs

    @property
    def kv_bytes(self) -> Quantity:
        """Bytes of cached keys read and new keys written."""
        return self.sequences * (self.seen + self.queries) * self.width * KEY_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallKernels(Operation):
    """The small kernels of a latent mixer.

    headed_bytes: traffic per head, split over chips; shared_bytes: the rest.
    selecting: the mixer attends to selected tokens and has other kernels, to read and write the indexer's keys as well.
    """

    headed_bytes: Quantity
    shared_bytes: Quantity
    prompt: bool
    selecting: bool
    activation_bytes: Quantity = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation_bytes", self.headed_bytes + self.shared_bytes)


def scoring(
    width: int,
    scorer: Indexer,
    query_rank: int,
    new: NewTokens,
    widths: Widths,
) -> list[Operation]:
    """The indexer of sparse attention: its projections, and its scores of all cached tokens."""
    tokens, (seen, pairs) = new.tokens, new.attended(None)
    weights = scorer.heads if scorer.weighted else 0
    split = "none" if scorer.shared else "columns"
    return [
        matmul("index query", tokens, scorer.heads * scorer.head_width, query_rank, widths, "attention", split),
        matmul("index key", tokens, scorer.head_width + weights, width, widths, "attention", "none"),
        IndexScores(
            name="index scores",
            sequences=new.sequences,
            queries=new.queries,
            seen=seen,
            pairs=pairs,
            heads=scorer.heads,
            width=scorer.head_width,
            prompt=new.prompt,
            shared=scorer.shared,
        ),
    ]


def small_kernels(width: int, mixer: LatentAttention, tokens: Quantity, absorbed: bool, widths: Widths) -> SmallKernels:
    """Each token: norms of both latents, rotary positions, and the query or the keys put together from two parts."""
    latent = mixer.kv_rank + mixer.rope_width
    joined = latent if absorbed else mixer.head_width
    headed = 2.0 * mixer.heads * (mixer.rope_width + joined)
    shared = 2.0 * (width + (mixer.query_rank or 0) + latent)
    return SmallKernels(
        name="small kernels",
        headed_bytes=headed * widths.activation * tokens,
        shared_bytes=shared * widths.activation * tokens,
        prompt=not absorbed,
        selecting=mixer.indexer is not None or mixer.top is not None,
    )
