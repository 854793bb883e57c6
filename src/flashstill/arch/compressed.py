"""Attention over a short window and over compressed entries of all earlier tokens (DeepSeek-V4).

Symbols: d model width, h query heads of width e, q rank of the compressed queries, w window, m tokens per entry,
t entries selected by an indexer of width i, G groups and o rank of the output projection.

    weights  d q + q h e;  d e;  h e o + G o d;  and for the entries 2 d e (heavy, m = 128) or 4 d e (sparse, m = 4)
    cache    w e values, and e / m (+ i / m) values per token: one vector is key and value of all heads
"""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.arch.attention import Indexer


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressedAttention:
    """One key/value vector for all heads; older tokens are compressed, `rate` tokens to one entry."""

    heads: int
    head_width: int
    query_rank: int
    output_groups: int
    output_rank: int
    near: int
    """window of uncompressed tokens, including the query's own"""
    rate: int | None = None
    """tokens per compressed entry; None: window only, no entries"""
    indexer: Indexer | None = None
    """selects `top` entries; with it, entries overlap and their projections are twice as wide"""

    @property
    def norms(self) -> int:
        """Number of norms: on the compressed queries and on the key/value vector."""
        return 2

    @property
    def window(self) -> int | None:
        """Maximum tokens cached: None (unlimited) with compressed entries, else the window."""
        return self.near if self.rate is None else None

    @property
    def query_width(self) -> int:
        """Total width of all query heads."""
        return self.heads * self.head_width

    @property
    def kv_values_per_token(self) -> float:
        """Values that one token adds to the cache of one layer, on average."""
        if self.rate is None:
            return self.head_width
        return (self.head_width + (self.indexer.head_width if self.indexer else 0)) / self.rate

    @property
    def state_values(self) -> int:
        """Values of the fixed-size window cache; the entries, which grow with the sequence, are not included."""
        return 0 if self.rate is None else self.near * self.head_width

    @property
    def limit(self) -> int | None:
        """Maximum number of tokens covered by the entries that a query reads; None for all."""
        return None if self.indexer is None or self.rate is None else self.indexer.top * self.rate

    @property
    def down_width(self) -> int:
        """Columns of all projections of the residual stream: queries, key/value, entries and their gates, indexer."""
        wide = 2 if self.indexer else 1
        entries = 2 * wide * self.head_width if self.rate else 0
        scorer = 4 * self.indexer.head_width + self.indexer.heads if self.indexer else 0
        return self.query_rank + self.head_width + entries + scorer

    @property
    def scorer_width(self) -> int:
        """Columns of the indexer's queries."""
        return self.indexer.heads * self.indexer.head_width if self.indexer else 0

    @property
    def middle_width(self) -> int:
        """Width between the two output projections."""
        return self.output_groups * self.output_rank

    def matrix_parameters(self, width: int) -> int:
        """Parameters of the projections, without norms and positions."""
        queries = self.query_rank * (self.query_width + self.scorer_width)
        return width * self.down_width + queries + self.query_width * self.output_rank + self.middle_width * width

    def parameters(self, width: int) -> int:
        """All parameters: weights, norms, sinks, and learned positions within an entry."""
        small = self.query_rank + self.head_width + self.heads
        if self.rate:
            small += self.head_width + self.rate * self.head_width * (2 if self.indexer else 1)
            small += self.indexer.head_width * (1 + 2 * self.rate) if self.indexer else 0
        return self.matrix_parameters(width) + small
