"""Softmax attention: grouped-query attention, and multi-head latent attention (MLA).

Symbols: d model width, h query heads, g key/value heads, e width of a query or key head, v width of a value head,
q and r ranks of the compressed queries and of the latent, n and p widths of a head without and with rotary position.

    grouped   d h e (twice with an output gate)  +  d g (e + v), or d g e where V is K  +  h v d
    latent    d q + q h (n + p), or d h (n + p) without query rank;  d (r + p);  r h (n + v);  h v d
    cache     g (e + v) values a token and layer;  latent: r + p  (DeepSeek-V2, arXiv 2405.04434, section 2.1)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Grouped-query attention (h = g: multi-head; g = 1: multi-query)."""

    heads: int
    kv_heads: int
    head_width: int
    """of queries and keys"""
    value_width: int | None = None
    """of values; None for the same as `head_width`"""
    window: int | None = None
    """tokens a query sees, its own included (sliding), or length of a chunk; None for all"""
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm_parameters: int = 0
    """of the norms of queries and keys: per head width, or over all heads at once"""
    sinks: bool = False
    """a learned logit a head that takes attention away from the tokens"""
    shared_key_value: bool = False
    """one projection serves as key and value; the cache holds both, because only the key is rotated"""
    output_gate: bool = False
    """a projection as wide as the queries gates the output"""
    extra_width: int = 0
    """further columns of the input projection: one gate a head, relative positions"""
    extra_parameters: int = 0
    """small vectors besides: norms inside, mixing weights"""
    cached: bool = True
    """False: makes no keys and values, and reads those of an earlier block"""
    indexer: Indexer | None = None
    """sparse attention: only the `indexer.top` best tokens are read"""

    @property
    def limit(self) -> int | None:
        """The most cached tokens that a query reads; None for all."""
        return self.indexer.top if self.indexer else self.window

    @property
    def value_head_width(self) -> int:
        """Width of a value head."""
        return self.head_width if self.value_width is None else self.value_width

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normalised with learned scales."""
        return self.qk_norm_parameters > 0

    @property
    def norms(self) -> int:
        """How many norms stand between the projections."""
        return 2 if self.qk_norm else 0

    @property
    def query_width(self) -> int:
        """All query heads together, the output gate not counted."""
        return self.heads * self.head_width

    @property
    def gate_width(self) -> int:
        """Width of all gates and further columns of the input projection."""
        return (self.output_width if self.output_gate else 0) + self.extra_width

    @property
    def kv_width(self) -> int:
        """Values that the key and value projections make of one token."""
        if not self.cached:
            return 0
        return self.kv_heads * (self.head_width if self.shared_key_value else self.head_width + self.value_head_width)

    @property
    def output_width(self) -> int:
        """All value heads together: what the output projection reads."""
        return self.heads * self.value_head_width

    @property
    def kv_values_read(self) -> int:
        """Numbers of the cache that attending to one token reads, also where another block made them."""
        return self.kv_heads * (self.head_width + self.value_head_width)

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token adds to the cache of one layer, the indexer's key included."""
        scorer = self.indexer.head_width if self.indexer else 0
        return (self.kv_values_read if self.cached else 0) + scorer

    @property
    def state_values(self) -> int:
        """Numbers of recurrent state: none."""
        return 0

    def matrix_parameters(self, width: int) -> int:
        """The projections without biases and norms."""
        scorer = self.indexer.matrix_parameters(width, width) if self.indexer else 0
        return width * (self.query_width + self.gate_width + self.kv_width) + self.output_width * width + scorer

    def parameters(self, width: int) -> int:
        """Weights and biases, norms of queries and keys and sinks included."""
        biases = self.qkv_bias * (self.query_width + self.gate_width + self.kv_width) + self.output_bias * width
        scorer = self.indexer.norm_parameters if self.indexer else 0
        norms = self.qk_norm_parameters + scorer
        return self.matrix_parameters(width) + biases + norms + self.sinks * self.heads + self.extra_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexer:
    """The small scorer of sparse attention: it reads every cached token and lets the attention read `top` of them."""

    heads: int
    head_width: int
    top: int
    weighted: bool = True
    """a projection weighs the heads"""

    @property
    def norm_parameters(self) -> int:
        """Two vectors of one head's width: scale and bias of the key's norm, or scales of query and key."""
        return 2 * self.head_width

    def matrix_parameters(self, width: int, query_rank: int) -> int:
        """Queries from the compressed queries, one key, and a weight for each head."""
        weights = self.heads if self.weighted else 0
        return query_rank * self.heads * self.head_width + width * (self.head_width + weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentAttention:
    """Multi-head latent attention: all heads read keys and values from one compressed vector a token."""

    heads: int
    query_rank: int | None
    """None: queries are projected directly"""
    kv_rank: int
    rope_width: int
    nope_width: int
    value_width: int
    bias: bool = False
    """on the two down-projections and on the output"""
    indexer: Indexer | None = None
    """sparse attention: only the `indexer.top` best tokens are read"""
    top: int | None = None
    """the same, with the choice that the indexer of an earlier block made"""
    window: int | None = None
    """tokens a query sees, its own included; None for all"""
    extra_width: int = 0
    """further columns of the input projection: gates of the output"""
    extra_parameters: int = 0
    """small vectors besides: sinks, norms"""

    @property
    def limit(self) -> int | None:
        """The most cached tokens that a query reads; None for all."""
        return self.indexer.top if self.indexer else self.top or self.window

    @property
    def norms(self) -> int:
        """How many norms stand between the projections: of the latent, and of compressed queries."""
        return 1 if self.query_rank is None else 2

    @property
    def head_width(self) -> int:
        """Width of a query or key head before absorption."""
        return self.nope_width + self.rope_width

    @property
    def query_width(self) -> int:
        """All query heads together."""
        return self.heads * self.head_width

    @property
    def output_width(self) -> int:
        """All value heads together: what the output projection reads."""
        return self.heads * self.value_width

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token adds to the cache of one layer, the indexer's key included."""
        return self.kv_rank + self.rope_width + (self.indexer.head_width if self.indexer else 0)

    @property
    def state_values(self) -> int:
        """Numbers of recurrent state: none."""
        return 0

    def matrix_parameters(self, width: int) -> int:
        """The projections without biases and norms."""
        if self.query_rank is None:
            queries = width * self.query_width
        else:
            queries = width * self.query_rank + self.query_rank * self.query_width
        latent = width * (self.kv_rank + self.rope_width + self.extra_width)
        expansion = self.kv_rank * self.heads * (self.nope_width + self.value_width)
        scorer = self.indexer.matrix_parameters(width, self.query_rank or width) if self.indexer else 0
        return queries + latent + expansion + self.output_width * width + scorer

    def parameters(self, width: int) -> int:
        """Weights, biases and the norms of the compressed queries and of the latent."""
        rank = self.query_rank or 0
        biases = self.bias * (rank + self.kv_rank + self.rope_width + width)
        key_norm = self.indexer.norm_parameters if self.indexer else 0
        return self.matrix_parameters(width) + rank + self.kv_rank + biases + key_norm + self.extra_parameters
