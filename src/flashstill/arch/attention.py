"""Softmax attention: grouped-query attention, and multi-head latent attention (MLA).

Symbols: d model width, h query heads, g key/value heads, e width of a query or key head, v width of a value head,
q and r ranks of the compressed queries and of the KV latent, n and p head widths without and with rotary position.

    grouped   d h e (twice with an output gate), or d q + q h e with query rank
              +  d g (e + v), or d g e where V is K  +  h v d
    latent    d q + q h (n + p), or d h (n + p) without query rank;  d (r + p);  r h (n + v);  h v d
    cache     g (e + v) values per token and layer;  latent: r + p  (DeepSeek-V2, arXiv 2405.04434, section 2.1)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Grouped-query attention (h = g: multi-head; g = 1: multi-query)."""

    heads: int
    kv_heads: int
    head_width: int
    """head width of queries and keys"""
    value_width: int | None = None
    """head width of values; None for `head_width`"""
    query_rank: int | None = None
    """rank of the queries, which share a projection and then a norm (Step-3, arXiv 2507.19427); None: full rank"""
    window: int | None = None
    """sliding-window length in tokens, including the query's own, or chunk length; None for full attention"""
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm_parameters: int = 0
    """parameters of the QK norms, which cover one head's width or all heads at once"""
    sinks: bool = False
    """attention sinks: one learned logit per head in the softmax's denominator"""
    shared_key_value: bool = False
    """one projection gives key and value; both are cached, as only the key is rotated"""
    output_gate: bool = False
    """the output has a gate, projected from the input and as wide as the queries"""
    extra_width: int = 0
    """additional columns of the input projection: one gate per head, relative positions"""
    extra_parameters: int = 0
    """other small parameters: internal norms, mixing weights"""
    cached: bool = True
    """False: no key and value projections; the cache of an earlier block is read"""
    indexer: Indexer | None = None
    """sparse attention: only the `indexer.top` highest-scored tokens are read"""

    @property
    def limit(self) -> int | None:
        """Maximum number of cached tokens that a query reads; None for all."""
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
        """Number of norms between the projections."""
        return (2 if self.qk_norm else 0) + (1 if self.query_rank else 0)

    @property
    def query_width(self) -> int:
        """Total width of all query heads, excluding the output gate."""
        return self.heads * self.head_width

    @property
    def gate_width(self) -> int:
        """Total width of the gates and additional columns of the input projection."""
        return (self.output_width if self.output_gate else 0) + self.extra_width

    @property
    def input_width(self) -> int:
        """Output width of the input projection: queries or their shared low-rank form, gates, keys and values."""
        return (self.query_rank or self.query_width) + self.gate_width + self.kv_width

    @property
    def kv_width(self) -> int:
        """Output width of the key and value projections, in values per token."""
        if not self.cached:
            return 0
        return self.kv_heads * (self.head_width if self.shared_key_value else self.head_width + self.value_head_width)

    @property
    def output_width(self) -> int:
        """Total width of all value heads, the input width of the output projection."""
        return self.heads * self.value_head_width

    @property
    def kv_values_read(self) -> int:
        """Cached values read per attended token, including those written by another block."""
        return self.kv_heads * (self.head_width + self.value_head_width)

    @property
    def kv_values_per_token(self) -> int:
        """Values that one token adds to the cache of one layer, including the indexer's key."""
        scorer = self.indexer.head_width if self.indexer else 0
        return (self.kv_values_read if self.cached else 0) + scorer

    @property
    def state_values(self) -> int:
        """0: no recurrent state."""
        return 0

    def matrix_parameters(self, width: int) -> int:
        """Parameters of the projections, without biases and norms."""
        scorer = self.indexer.matrix_parameters(width, width) if self.indexer else 0
        expansion = self.query_rank * self.query_width if self.query_rank else 0
        return width * self.input_width + expansion + self.output_width * width + scorer

    def parameters(self, width: int) -> int:
        """All parameters: weights, biases, QK norms and sinks."""
        biases = self.qkv_bias * self.input_width + self.output_bias * width
        scorer = self.indexer.norm_parameters if self.indexer else 0
        norms = self.qk_norm_parameters + scorer + (self.query_rank or 0)
        return self.matrix_parameters(width) + biases + norms + self.sinks * self.heads + self.extra_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexer:
    """The indexer of sparse attention: it scores every cached token and selects `top` of them for the attention."""

    heads: int
    head_width: int
    top: int
    weighted: bool = True
    """a projection of the input gives one weight per indexer head"""
    shared: bool = True
    """all query heads read the tokens selected by all indexer heads; False: each key/value head selects its own"""

    @property
    def norm_parameters(self) -> int:
        """Two head-width vectors: scale and bias of the key norm, or the scales of query and key norms."""
        return 2 * self.head_width

    def matrix_parameters(self, width: int, query_rank: int) -> int:
        """Projections to queries (from the compressed queries), to one key, and to head weights."""
        weights = self.heads if self.weighted else 0
        return query_rank * self.heads * self.head_width + width * (self.head_width + weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentAttention:
    """Multi-head latent attention: keys and values of all heads come from one compressed vector per token."""

    heads: int
    query_rank: int | None
    """None: queries are projected directly"""
    kv_rank: int
    rope_width: int
    nope_width: int
    value_width: int
    bias: bool = False
    """biases on the two down-projections and on the output projection"""
    indexer: Indexer | None = None
    """sparse attention: only the `indexer.top` highest-scored tokens are read"""
    top: int | None = None
    """number of tokens read, if they are selected by the indexer of an earlier block"""
    window: int | None = None
    """sliding-window length in tokens, including the query's own; None for full attention"""
    extra_width: int = 0
    """additional columns of the input projection: output gates"""
    extra_parameters: int = 0
    """other small parameters: sinks, norms"""

    @property
    def limit(self) -> int | None:
        """Maximum number of cached tokens that a query reads; None for all."""
        return self.indexer.top if self.indexer else self.top or self.window

    @property
    def norms(self) -> int:
        """Norms between the projections: 0, as those of the latents are among its small kernels, timed with it."""
        return 0

    @property
    def head_width(self) -> int:
        """Width of a query or key head before absorption."""
        return self.nope_width + self.rope_width

    @property
    def query_width(self) -> int:
        """Total width of all query heads."""
        return self.heads * self.head_width

    @property
    def output_width(self) -> int:
        """Total width of all value heads, the input width of the output projection."""
        return self.heads * self.value_width

    @property
    def kv_values_per_token(self) -> int:
        """Values that one token adds to the cache of one layer, including the indexer's key."""
        return self.kv_rank + self.rope_width + (self.indexer.head_width if self.indexer else 0)

    @property
    def state_values(self) -> int:
        """0: no recurrent state."""
        return 0

    def matrix_parameters(self, width: int) -> int:
        """Parameters of the projections, without biases and norms."""
        if self.query_rank is None:
            queries = width * self.query_width
        else:
            queries = width * self.query_rank + self.query_rank * self.query_width
        latent = width * (self.kv_rank + self.rope_width + self.extra_width)
        expansion = self.kv_rank * self.heads * (self.nope_width + self.value_width)
        scorer = self.indexer.matrix_parameters(width, self.query_rank or width) if self.indexer else 0
        return queries + latent + expansion + self.output_width * width + scorer

    def parameters(self, width: int) -> int:
        """All parameters: weights, biases, and norms of the compressed queries and of the latent."""
        rank = self.query_rank or 0
        biases = self.bias * (rank + self.kv_rank + self.rope_width + width)
        key_norm = self.indexer.norm_parameters if self.indexer else 0
        return self.matrix_parameters(width) + rank + self.kv_rank + biases + key_norm + self.extra_parameters
