"""Attention over a short window and over compressed entries of everything before it (DeepSeek-V4).

Symbols: d model width, h query heads of width e, q rank of the compressed queries, w window, m tokens that make one
entry, t entries that an indexer of width i picks, G groups and o rank of the output projection.

    weights  d q + q h e;  d e;  h e o + G o d;  and for the entries 2 d e (heavy, m = 128) or 4 d e (sparse, m = 4)
    cache    w e values, and e / m (+ i / m) values a token: one vector is key and value of all heads
"""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.arch.attention import Indexer


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressedAttention:
    """One key/value vector for all heads; recent tokens one by one, older ones `rate` at a time."""

    heads: int
    head_width: int
    query_rank: int
    output_groups: int
    output_rank: int
    near: int
    """tokens seen one by one, the query's own included"""
    rate: int | None = None
    """tokens that make one entry; None: nothing beyond the window is seen"""
    indexer: Indexer | None = None
    """picks `top` of the entries; entries then overlap, so that their projections are twice as wide"""

    @property
    def norms(self) -> int:
        """Of the compressed queries and of the key/value vector."""
        return 2

    @property
    def window(self) -> int | None:
        """What is cached at most: of entries everything, without them the window alone."""
        return self.near if self.rate is None else None

    @property
    def query_width(self) -> int:
        """All query heads together."""
        return self.heads * self.head_width

    @property
    def kv_values_per_token(self) -> float:
        """Numbers that one token adds to the cache of one layer, on average."""
        if self.rate is None:
            return self.head_width
        return (self.head_width + (self.indexer.head_width if self.indexer else 0)) / self.rate

    @property
    def state_values(self) -> int:
        """Numbers of the window beside the entries, which grow with the sequence."""
        return 0 if self.rate is None else self.near * self.head_width

    @property
    def limit(self) -> int | None:
        """The most tokens whose entries a query reads; None for all."""
        return None if self.indexer is None or self.rate is None else self.indexer.top * self.rate

    @property
    def down_width(self) -> int:
        """Columns of all projections of the model's stream: queries, key/value, entries and their gates, scorer."""
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
        """Between the two output projections."""
        return self.output_groups * self.output_rank

    def matrix_parameters(self, width: int) -> int:
        """The projections without norms and positions."""
        queries = self.query_rank * (self.query_width + self.scorer_width)
        return width * self.down_width + queries + self.query_width * self.output_rank + self.middle_width * width

    def parameters(self, width: int) -> int:
        """Weights, norms, sinks, and a learned position in each entry."""
        small = self.query_rank + self.head_width + self.heads
        if self.rate:
            small += self.head_width + self.rate * self.head_width * (2 if self.indexer else 1)
            small += self.indexer.head_width * (1 + 2 * self.rate) if self.indexer else 0
        return self.matrix_parameters(width) + small
