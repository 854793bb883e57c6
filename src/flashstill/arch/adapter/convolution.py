"""Liquid's families: short convolutions with attention in some blocks (LFM2, LFM2 MoE, LFM3)."""

from __future__ import annotations

import math

from flashstill.arch.adapter.build import ForLayer, grouped, routed
from flashstill.arch.adapter.fields import HEADS, Fields
from flashstill.arch.adapter.latent import stacked
from flashstill.arch.adapter.routed import first_dense, sparse_or_dense
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Mixer
from flashstill.arch.recurrent import short_convolution


def _lfm(
    fields: Fields, ffn: ForLayer, *, gated: bool = False, norms: int = 2, default: list[str] | None = None
) -> Architecture:
    bias = fields.flag("conv_bias", False)
    attention_bias = fields.flag("attention_bias", False)
    convolution = short_convolution(width=fields.width, taps=fields.count("conv_L_cache", default=3), bias=bias)
    kinds = fields.layer_kinds("layer_types", known=("full", "sliding", "convolution"))
    listed = fields.whole_numbers("full_attn_idxs") if fields.value("full_attn_idxs") is not None else None
    if kinds is None:
        kinds = default or ["full" if listed is None or i in listed else "convolution" for i in range(fields.depth)]
    mixers: list[Mixer] = []
    for kind in kinds:
        window = fields.count("sliding_window") if kind == "sliding" else None
        gates = fields.count(*HEADS) if gated else 0
        attention = grouped(
            fields, qk_norm="head", window=window, extra_width=gates, qkv_bias=attention_bias,
            output_bias=attention_bias,
        )  # fmt: skip
        mixers.append(convolution if kind == "convolution" else attention)
    return stacked(fields, mixers, ffn, tied=True, norms=norms)


def _older(fields: Fields, **names: str) -> Fields:
    """The config with older field names renamed to current ones; an older name takes precedence if set."""
    return fields.changed({new: fields.value(old) for old, new in names.items() if fields.value(old) is not None})


def lfm2(fields: Fields) -> Architecture:
    """LFM2: short convolutions, attention in some blocks; FFN width is 2/3 of the configured one, rounded up."""
    fields.ignore(
        "conv_dim", "conv_dim_out", "conv_use_xavier_init", "block_dim", "block_norm_eps", "num_heads",
        "block_use_xavier_init", "use_pos_enc",
    )  # fmt: skip
    fields.require("block_use_swiglu", True)
    fields = _older(fields, block_ff_dim="intermediate_size", tie_embedding="tie_word_embeddings")
    width = fields.count("intermediate_size")
    multiple, factor = fields.count("block_multiple_of", default=256), fields.value("block_ffn_dim_multiplier")
    if fields.flag("block_auto_adjust_ff_dim", True):
        width = int(2 * width / 3)
        if factor is not None:
            if type(factor) not in (int, float) or not 0 < factor < 100:
                raise fields.fail(": block_ffn_dim_multiplier is not a number between 0 and 100")
            width = multiple * math.ceil(int(factor * width) / multiple)
    ffn = FeedForward(width=width)
    return _lfm(fields, lambda i: ffn)


def lfm2_moe(fields: Fields) -> Architecture:
    """LFM2 with experts in all but the first blocks."""
    fields.ignore("num_heads")
    fields = _older(fields, tie_embedding="tie_word_embeddings")
    sparse = routed(fields, width=("moe_intermediate_size",))
    kinds = first_dense(fields, fields.count("num_dense_layers", default=2, least=0))
    fields.flag("use_expert_bias", True)  # the expert bias is a buffer, not a parameter
    return _lfm(fields, sparse_or_dense(fields, sparse, kinds, "intermediate_size"))


def lfm3(fields: Fields) -> Architecture:
    """LFM3: attention with per-head gates, pre- and post-norms, windows in some blocks."""
    ffn = FeedForward(width=fields.count("intermediate_size"))
    norms = 4 if fields.flag("use_sandwich_norm", True) else 2
    kinds = ["full" if i % 4 == 2 else "sliding" if i % 4 == 0 and i else "convolution" for i in range(fields.depth)]
    gated = fields.flag("use_attention_gate", True)
    return _lfm(fields, lambda i: ffn, gated=gated, norms=norms, default=kinds)
