"""Gemma 1 to 4: wide attention heads, tied LM head; since Gemma 2 pre- and post-norms, and windows in most blocks.

Gemma 3n and small Gemma 4 models have per-layer embeddings: a table of E values per token and block, added to the
residual stream through a narrow gate and projection. Their last blocks read the KV cache of earlier blocks.
"""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch.adapter.build import Kinds, assemble, dense, every_so_often, grouped, routed, uniform
from flashstill.arch.adapter.fields import Fields
from flashstill.arch.attention import Attention
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer


def _gemma(fields: Fields, norms: int, kinds: Kinds | None, qk_norm: str = "") -> Architecture:
    bias = fields.flag("attention_bias", False)
    head_width = fields.count("head_dim", default=256)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, head_width=head_width, qk_norm=qk_norm)
    return uniform(fields, attention, dense(fields), kinds=kinds, norms=norms, tied=True)


def gemma(fields: Fields) -> Architecture:
    """Gemma 1."""
    return _gemma(fields, norms=2, kinds=None)


def gemma2(fields: Fields) -> Architecture:
    """Gemma 2: every second block has a window."""
    return _gemma(fields, norms=4, kinds=every_so_often(2))


def gemma3(fields: Fields) -> Architecture:
    """Gemma 3: five of six blocks have a window; QK norms."""
    period = fields.count("sliding_window_pattern", "_sliding_window_pattern", default=6)
    return _gemma(fields, norms=4, kinds=every_so_often(period), qk_norm="head")


def _kinds(fields: Fields, period: int) -> list[str]:
    listed = fields.layer_kinds("layer_types", known=frozenset({"full", "sliding"}))
    pattern = every_so_often(period)
    return listed or [pattern(i) for i in range(fields.depth)]


def _reads_earlier(fields: Fields) -> int:
    """Index of the first block that reads an earlier block's KV cache; the depth if none does."""
    shared = fields.count("num_kv_shared_layers", default=0, least=0)
    if shared >= fields.depth:
        raise fields.fail(f": num_kv_shared_layers is {shared} of {fields.depth} layers")
    return fields.depth - shared


def _without_cache(attention: Attention) -> Attention:
    """The same attention without keys, values and key norm, which an earlier block provides."""
    return replace(attention, cached=False, qk_norm_parameters=attention.qk_norm_parameters // 2)


def _tables(fields: Fields, default: int) -> tuple[int, int]:
    """(width of the per-layer embedding, parameters of all its tables)."""
    wide = fields.count("hidden_size_per_layer_input", default=default, least=0)
    fields.ignore("vocab_size_per_layer_input")
    rows = fields.count("vocab_size_per_layer_input", default=262144) if wide else 0
    return wide, rows * wide * fields.depth


def gemma3n(fields: Fields) -> Architecture:
    """Gemma 3n: AltUp (four streams, one computed per block), LAuReL low-rank branch, per-layer embeddings."""
    width, depth = fields.width, fields.depth
    fields.ignore("altup_active_idx", "altup_correct_scale", "altup_coef_clip", "activation_sparsity_pattern")
    fields.ignore("altup_lr_multiplier", "query_pre_attn_scalar")
    bias, streams = fields.flag("attention_bias", False), fields.count("altup_num_inputs", default=4)
    rank = fields.count("laurel_rank", default=64)
    wide, table = _tables(fields, 256)
    window, kinds = fields.count("sliding_window", default=512), _kinds(fields, 5)
    plain = grouped(
        fields, qkv_bias=bias, output_bias=bias, qk_norm="head", head_width=fields.count("head_dim", default=256)
    )
    sizes = fields.value("intermediate_size")
    sizes = sizes if isinstance(sizes, list) else [sizes] * depth
    if len(sizes) != depth:
        raise fields.fail(f": intermediate_size does not list one number for each of the {depth} layers")
    # AltUp router, prediction and correction; LAuReL; gate and projection of the per-layer embedding.
    side = streams * (width + streams + streams * streams) + 2 * rank * width + 3 * wide * width
    first = _reads_earlier(fields)
    blocks = []
    for i, kind in enumerate(kinds):
        attention = replace(plain, window=window if kind == "sliding" else None)
        # The projections that split and merge the parallel residual streams at both ends are counted in the last block.
        ends = 2 * (streams - 1) * width * width if i == depth - 1 else 0
        blocks.append(
            Layer(
                count=1,
                attention=attention if i < first else _without_cache(attention),
                ffn=FeedForward(width=fields.changed({"intermediate_size": sizes[i]}).count("intermediate_size")),
                norm_parameters=8 * width,
                norms=4,
                side_weights=side + ends,
                streams=streams,
            )
        )
    return assemble(fields, blocks, tied=True, position=table, extra=wide)


def gemma4(fields: Fields) -> Architecture:
    """Gemma 4: global blocks have a different head width; experts in parallel with the FFN; per-layer embeddings."""
    wide, table = _tables(fields, 256)
    bias = fields.flag("attention_bias", False)
    fields.ignore("use_double_wide_mlp", "global_head_dim", "num_global_key_value_heads")
    shared = fields.flag("attention_k_eq_v", False)
    local = grouped(
        fields,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="head",
        head_width=fields.count("head_dim", default=256),
        window=fields.count("sliding_window", default=512),
    )
    head_width, kv_heads = _global_heads(fields, shared)
    distant = grouped(
        fields, qkv_bias=bias, output_bias=bias, qk_norm="head", head_width=head_width, kv_heads=kv_heads
    )  # fmt: skip
    distant = replace(distant, shared_key_value=shared)
    kinds = _kinds(fields, 6)
    kinds[-1] = "full"
    ffn, norms = _gemma4_ffn(fields)
    first = _reads_earlier(fields)
    wider = replace(ffn, width=2 * ffn.width) if fields.flag("use_double_wide_mlp", False) else ffn
    if wider is not ffn and ffn.experts:
        raise fields.fail(": use_double_wide_mlp beside experts is not supported")
    blocks = []
    for i, kind in enumerate(kinds):
        attention = distant if kind == "full" else local
        blocks.append(
            Layer(
                count=1,
                attention=attention if i < first else _without_cache(attention),
                ffn=ffn if i < first else wider,
                norm_parameters=(norms + (1 if wide else 0)) * fields.width,
                norms=norms,
                side_weights=3 * wide * fields.width,
            )
        )
    return assemble(fields, blocks, tied=True, position=table, extra=wide)


def gemma4_unified(fields: Fields) -> Architecture:
    """Gemma 4 without per-layer embeddings."""
    return gemma4(fields.with_defaults({"hidden_size_per_layer_input": 0}))


def _gemma4_ffn(fields: Fields) -> tuple[FeedForward, int]:
    """(FFN, number of norms of its block)."""
    width = fields.count("intermediate_size")
    if not fields.flag("enable_moe_block", False):
        return FeedForward(width=width), 4
    experts = routed(fields, width=("moe_intermediate_size",))
    # The router has a scale vector for its input and one output scale per expert.
    return replace(experts, dense_width=width, router_extra=fields.width + experts.experts), 7


def _global_heads(fields: Fields, shared: bool) -> tuple[int, int]:
    """(head width, key/value heads) of the global blocks; newer configs list them per block."""
    usual = fields.count("num_key_value_heads")
    overrides = fields.value("per_layer_config")
    if isinstance(overrides, dict) and overrides:
        blocks = fields.part("per_layer_config")
        shapes = {_heads_of(blocks.part(number), usual) for number in overrides}
        if len(shapes) > 1:
            raise fields.fail(": per_layer_config holds more than one shape of global blocks, which is not supported")
        return shapes.pop()
    kv_heads = fields.count("num_global_key_value_heads", default=usual) if shared else usual
    return fields.count("global_head_dim", default=512), kv_heads


def _heads_of(block: Fields, usual: int) -> tuple[int, int]:
    return block.count("head_dim"), block.count("num_key_value_heads", default=usual)
