"""Operations of attention over a window and over compressed entries (DeepSeek-V4; see arch/compressed.py)."""

from __future__ import annotations

from flashstill.arch import CompressedAttention
from flashstill.workload.operations import Attention, Operation, Widths, matmul
from flashstill.workload.seen import NewTokens


def compressed(
    width: int,
    mixer: CompressedAttention,
    new: NewTokens,
    widths: Widths,
) -> list[Operation]:
    """Operations of one compressed-attention mixer; a sequence of n tokens has n / rate compressed entries."""
    tokens, heads, wide = new.tokens, mixer.heads, mixer.head_width

    def attention(name: str, limit: int | None, rate: float, heads: int, key: int, value: int) -> Attention:
        seen, pairs = new.attended(limit)
        return Attention(
            name=name,
            sequences=new.sequences,
            queries=new.queries,
            seen=seen,
            pairs=pairs / rate,
            limit=limit,
            heads=heads,
            kv_heads=1,
            key_width=key,
            value_width=value,
            kv_values=key / rate,
            kv_value_bytes=widths.kv,
            activation_value_bytes=widths.activation,
            prompt=new.prompt,
            latent=value > 0 and not new.prompt,
        )

    operations: list[Operation] = [
        matmul("latent down", tokens, mixer.down_width, width, widths, "attention", "none"),
        matmul("query up", tokens, mixer.query_width + mixer.scorer_width, mixer.query_rank, widths, "attention"),
    ]
    if mixer.rate and mixer.indexer:
        operations.append(attention("index scores", None, mixer.rate, mixer.indexer.heads, mixer.indexer.head_width, 0))
    operations.append(attention("attention", mixer.near, 1.0, heads, wide, wide))
    if mixer.rate:
        operations.append(attention("attention to entries", mixer.limit, mixer.rate, heads, wide, wide))
    grouped = heads * wide / mixer.output_groups
    operations += [
        matmul("grouped output", tokens, mixer.middle_width, grouped, widths, "attention"),
        matmul("attention output", tokens, width, mixer.middle_width, widths, "attention", "rows"),
    ]
    return operations
