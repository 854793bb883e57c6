"""Operations of token mixers: grouped or latent attention, or a recurrence, in a decode step or a prefill.

MLA decodes in its absorbed form: queries are mapped into the latent space, so that h heads share one key of width r + p
and one value of width r (DeepSeek-V2, section 2.1.3).  In a prefill keys and values are expanded once per token.
With an indexer (DeepSeek-V3.2, 2025) each query scores all cached tokens with a short key and attends to the best, in
the absorbed form in a prefill as well, since every query reads other tokens.
"""

from __future__ import annotations

from flashstill.arch import Attention as GroupedAttention
from flashstill.arch import CompressedAttention, LatentAttention
from flashstill.arch.model import Mixer
from flashstill.workload.compressed import compressed
from flashstill.workload.operations import Attention, Operation, Widths, matmul
from flashstill.workload.recurrence import recurrent
from flashstill.workload.seen import NewTokens
from flashstill.workload.sparse import scoring, small_kernels

LATENT_FORMS = ("key, value up", "query into latent", "value out of latent")
"""MLA products that occur in one form only: the expanded form (prefill) or the absorbed form (decode)"""


def mix(
    width: int,
    mixer: Mixer,
    new: NewTokens,
    widths: Widths,
) -> list[Operation]:
    """Operations of one mixer on new tokens."""
    if isinstance(mixer, GroupedAttention):
        return _grouped(width, mixer, new, widths)
    if isinstance(mixer, LatentAttention):
        return _latent(width, mixer, new, widths)
    if isinstance(mixer, CompressedAttention):
        return compressed(width, mixer, new, widths)
    return recurrent(width, mixer, new, widths)


def _grouped(
    width: int,
    mixer: GroupedAttention,
    new: NewTokens,
    widths: Widths,
) -> list[Operation]:
    tokens, (seen, pairs) = new.tokens, new.attended(mixer.limit)
    projection = matmul(
        "query, key, value", tokens, mixer.input_width, width, widths, "attention",
        "none" if mixer.query_rank else "columns",
    )  # fmt: skip
    rank = mixer.query_rank
    up = [matmul("query up", tokens, mixer.query_width, rank, widths, "attention")] if rank else []
    indexer = scoring(width, mixer.indexer, width, new, widths) if mixer.indexer else []
    return [
        *indexer,
        projection,
        *up,
        Attention(
            name="attention",
            sequences=new.sequences,
            queries=new.queries,
            seen=seen,
            pairs=pairs,
            limit=mixer.limit,
            heads=mixer.heads,
            kv_heads=mixer.kv_heads,
            key_width=mixer.head_width,
            value_width=mixer.value_head_width,
            kv_values=mixer.kv_values_read,
            kv_value_bytes=widths.kv,
            activation_value_bytes=widths.activation,
            prompt=new.prompt,
            slots=mixer.indexer.top if mixer.indexer else None,
        ),
        matmul("attention output", tokens, width, mixer.output_width, widths, "attention", "rows"),
    ]


def _latent(
    width: int,
    mixer: LatentAttention,
    new: NewTokens,
    widths: Widths,
) -> list[Operation]:
    tokens, heads, rank = new.tokens, mixer.heads, mixer.kv_rank
    key = mixer.nope_width + mixer.rope_width
    seen, pairs = new.attended(mixer.limit)
    down = (mixer.query_rank or heads * key) + rank + mixer.rope_width
    operations: list[Operation] = [
        matmul("latent down", tokens, down, width, widths, "attention", "none" if mixer.query_rank else "columns")
    ]
    if mixer.extra_width:
        operations.append(matmul("output gate", tokens, mixer.extra_width, width, widths, "attention"))
    if mixer.query_rank:
        operations.append(matmul("query up", tokens, heads * key, mixer.query_rank, widths, "attention"))
    selected = mixer.indexer.top if mixer.indexer else mixer.top
    absorbed = not new.prompt or selected is not None
    if not absorbed:
        # A prefill expands keys and values once per token instead of attending in the latent space.
        expanded = heads * (mixer.nope_width + mixer.value_width)
        operations.append(matmul("key, value up", tokens, expanded, rank, widths, "attention"))
        wide_key, wide_value, kv_heads = key, mixer.value_width, heads
    else:
        operations.append(matmul("query into latent", tokens, heads * rank, mixer.nope_width, widths, "exact"))
        wide_key, wide_value, kv_heads = rank + mixer.rope_width, rank, 1
    operations.append(
        Attention(
            name="attention",
            sequences=new.sequences,
            queries=new.queries,
            seen=seen,
            pairs=pairs,
            limit=mixer.limit,
            heads=heads,
            kv_heads=kv_heads,
            key_width=wide_key,
            value_width=wide_value,
            kv_values=rank + mixer.rope_width,
            kv_value_bytes=widths.kv,
            activation_value_bytes=widths.activation,
            prompt=new.prompt,
            latent=absorbed,
            expanded=not absorbed,
            slots=selected,
        )
    )
    if absorbed:
        operations.append(matmul("value out of latent", tokens, heads * mixer.value_width, rank, widths, "exact"))
    operations += [
        small_kernels(width, mixer, tokens, absorbed, widths),
        matmul("attention output", tokens, width, heads * mixer.value_width, widths, "attention", "rows"),
    ]
    reads = mixer.query_rank or width
    indexer = scoring(width, mixer.indexer, reads, new, widths) if mixer.indexer else []
    return [*indexer, *operations]
