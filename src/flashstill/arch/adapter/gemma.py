"""Gemma 1 to 4: wide heads, a tied head, from the second on norms on both sides and windows in most blocks."""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch.adapter.build import Kinds, assemble, dense, every_so_often, grouped, routed, uniform
from flashstill.arch.adapter.fields import Fields
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
    """Gemma 3: five blocks of six have a window; norms on queries and keys."""
    period = fields.count("sliding_window_pattern", "_sliding_window_pattern", default=6)
    return _gemma(fields, norms=4, kinds=every_so_often(period), qk_norm="head")


def gemma4(fields: Fields) -> Architecture:
    """Gemma 4: global blocks have heads of their own width and take the key as value; experts beside the dense FFN."""
    if fields.count("hidden_size_per_layer_input", default=256, least=0):
        raise fields.fail(": hidden_size_per_layer_input other than 0 is not supported yet")
    fields.refuse("use_double_wide_mlp", "num_kv_shared_layers")
    fields.ignore("vocab_size_per_layer_input")
    bias = fields.flag("attention_bias", False)
    shared = fields.flag("attention_k_eq_v", False)
    local = grouped(
        fields,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="head",
        head_width=fields.count("head_dim", default=256),
        window=fields.count("sliding_window", default=512),
    )
    wide, kv_heads = _global_heads(fields, shared)
    distant = grouped(
        fields, qkv_bias=bias, output_bias=bias, qk_norm="head", head_width=wide, kv_heads=kv_heads
    )  # fmt: skip
    distant = replace(distant, shared_key_value=shared)
    kinds = fields.layer_kinds("layer_types", known=frozenset({"full", "sliding"}))
    pattern = every_so_often(6)
    kinds = kinds or [*map(pattern, range(fields.depth - 1)), "full"]
    ffn, norms = _gemma4_ffn(fields)
    blocks = [
        Layer(
            count=1,
            attention=distant if kind == "full" else local,
            ffn=ffn,
            norm_parameters=norms * fields.width,
            norms=norms,
        )
        for kind in kinds
    ]
    return assemble(fields, blocks, tied=True)


def _gemma4_ffn(fields: Fields) -> tuple[FeedForward, int]:
    """The FFN, and how many norms its block has."""
    width = fields.count("intermediate_size")
    if not fields.flag("enable_moe_block", False):
        return FeedForward(width=width), 4
    experts = routed(fields, width=("moe_intermediate_size",))
    # The router scales its input by a vector and its choices by one number for each expert.
    return replace(experts, dense_width=width, router_extra=fields.width + experts.experts), 7


def _global_heads(fields: Fields, shared: bool) -> tuple[int, int]:
    """Head width and key/value heads of the global blocks; newer files hold them for each block apart."""
    usual = fields.count("num_key_value_heads")
    overrides = fields.value("per_layer_config")
    if isinstance(overrides, dict) and overrides:
        blocks = fields.part("per_layer_config")
        found = {_heads_of(blocks.part(number), usual) for number in overrides}
        if len(found) > 1:
            raise fields.fail(": per_layer_config holds more than one shape of global blocks, which is not supported")
        return found.pop()
    kv_heads = fields.count("num_global_key_value_heads", default=usual) if shared else usual
    return fields.count("global_head_dim", default=512), kv_heads


def _heads_of(block: Fields, usual: int) -> tuple[int, int]:
    return block.count("head_dim"), block.count("num_key_value_heads", default=usual)
