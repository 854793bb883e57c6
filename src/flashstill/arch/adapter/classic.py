"""Families with layer norms and biases: GPT-2 and its descendants, parallel blocks, ungated FFNs; PaLM.

The model type `palm` is our own: these models were described in a paper and have no Hugging Face configuration.
"""

from __future__ import annotations

from flashstill.arch.adapter.build import always, dense, every_so_often, grouped, uniform
from flashstill.arch.adapter.fields import CONTEXT, HEADS, Fields
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture


def gpt2(fields: Fields) -> Architecture:
    """GPT-2, and GPT-3 without its sparse attention patterns: learned positions, biases everywhere."""
    return _gpt2(fields, kv_heads=every_head(fields))


def gpt_bigcode(fields: Fields) -> Architecture:
    """StarCoder 1: GPT-2 with one key/value head."""
    return _gpt2(fields, kv_heads=1 if fields.flag("multi_query", True) else every_head(fields))


def _gpt2(fields: Fields, kv_heads: int) -> Architecture:
    ffn = FeedForward(width=fields.count("n_inner", default=4 * fields.width), gated=False, bias=True)
    return uniform(
        fields,
        grouped(fields, qkv_bias=True, output_bias=True, kv_heads=kv_heads),
        ffn,
        norm_bias=True,
        tied=True,
        position=fields.count(*CONTEXT) * fields.width,
    )


def every_head(fields: Fields) -> int:
    """The number of key/value heads in multi-head families: equal to the number of heads."""
    heads = fields.count(*HEADS)
    fields.require("num_key_value_heads", heads)
    return heads


def gpt_neox(fields: Fields) -> Architecture:
    """GPT-NeoX and Pythia: attention and FFN in parallel, each with its own norm."""
    bias = fields.flag("attention_bias", True)
    return uniform(
        fields,
        grouped(fields, qkv_bias=bias, output_bias=bias, kv_heads=every_head(fields)),
        dense(fields, gated=False, bias=True),
        norm_bias=True,
        parallel=fields.flag("use_parallel_residual", True),
    )


def gptj(fields: Fields) -> Architecture:
    """GPT-J and CodeGen: one norm for attention and FFN in parallel; the head has a bias."""
    ffn = FeedForward(width=fields.count("n_inner", default=4 * fields.width), gated=False, bias=True)
    return uniform(
        fields,
        grouped(fields, kv_heads=every_head(fields)),
        ffn,
        norms=1,
        norm_bias=True,
        parallel=True,
        extra=fields.count("vocab_size"),
    )


def opt(fields: Fields) -> Architecture:
    """OPT: learned positions with two extra rows."""
    width = fields.width
    fields.require("word_embed_proj_dim", width)
    fields.require("do_layer_norm_before", True)
    fields.require("enable_bias", True)
    fields.require("layer_norm_elementwise_affine", True)
    fields.refuse("_remove_final_layer_norm")
    return uniform(
        fields,
        grouped(fields, qkv_bias=True, output_bias=True, kv_heads=every_head(fields)),
        FeedForward(width=fields.count("ffn_dim"), gated=False, bias=True),
        norm_bias=True,
        tied=True,
        position=(fields.count(*CONTEXT) + 2) * width,
    )


def bloom(fields: Fields) -> Architecture:
    """BLOOM: attention with linear biases instead of positions, and a norm on the embedding."""
    width = fields.width
    return uniform(
        fields,
        grouped(fields, qkv_bias=True, output_bias=True, kv_heads=every_head(fields)),
        FeedForward(width=4 * width, gated=False, bias=True),
        norm_bias=True,
        tied=True,
        extra=2 * width,
        context=2048,
    )


def falcon(fields: Fields) -> Architecture:
    """Falcon 1: multi-query, or grouped in the larger ones."""
    width, newer = fields.width, fields.flag("new_decoder_architecture", False)
    parallel = fields.flag("parallel_attn", True)
    fields.ignore("num_kv_heads", "n_head_kv", "num_ln_in_parallel_attn", "multi_query", "parallel_attn")
    single = not newer and fields.flag("multi_query", True)
    bias = fields.flag("bias", False)
    kv_heads = 1 if single else fields.count("num_kv_heads", "n_head_kv", default=fields.count(*HEADS))
    apart = fields.count("num_ln_in_parallel_attn", default=2 if newer else 1)
    return uniform(
        fields,
        grouped(fields, qkv_bias=bias, output_bias=bias, kv_heads=kv_heads),
        FeedForward(width=fields.count("ffn_hidden_size", default=4 * width), gated=False, bias=bias),
        norms=min(apart, 2) if parallel else 2,
        norm_bias=True,
        parallel=parallel or newer,
        tied=True,
        context=2048,
    )


def phi(fields: Fields) -> Architecture:
    """Phi-1 and Phi-2: one norm for attention and FFN in parallel, biases everywhere, the head included."""
    qk_norm = "biased" if fields.flag("qk_layernorm", False) else ""
    return uniform(
        fields,
        grouped(fields, qkv_bias=True, output_bias=True, qk_norm=qk_norm),
        dense(fields, gated=False, bias=True),
        norms=1,
        norm_bias=True,
        parallel=True,
        extra=fields.count("vocab_size"),
    )


def starcoder2(fields: Fields) -> Architecture:
    """StarCoder 2: ungated FFN, biases, a window."""
    bias = fields.flag("use_bias", True)
    return uniform(
        fields,
        grouped(fields, qkv_bias=bias, output_bias=bias),
        dense(fields, gated=False, bias=bias),
        kinds=always("sliding"),
        norm_bias=True,
        tied=True,
    )


def stablelm(fields: Fields) -> Architecture:
    """StableLM: a Llama block with layer norms; QK norms have separate scales per head."""
    parallel = fields.flag("use_parallel_residual", False)
    qk_norm = "all" if fields.flag("qk_layernorm", False) else ""
    return uniform(
        fields,
        grouped(fields, qkv_bias=fields.flag("use_qkv_bias", False), qk_norm=qk_norm),
        dense(fields),
        norms=1 if parallel else 2,
        norm_bias=True,
        parallel=parallel,
    )


def nemotron(fields: Fields) -> Architecture:
    """Nemotron 3 to 4 and Minitron: ungated FFN with squared ReLU."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    ffn = dense(fields, gated=False, bias=fields.flag("mlp_bias", False))
    return uniform(fields, attention, ffn, norm_bias=True)


def cohere(fields: Fields) -> Architecture:
    """Command R: one norm for attention and FFN in parallel, tied head."""
    bias = fields.flag("attention_bias", False)
    qk_norm = "all" if fields.flag("use_qk_norm", False) else ""
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm=qk_norm)
    return uniform(fields, attention, dense(fields), norms=1, parallel=True, tied=True)


def cohere2(fields: Fields) -> Architecture:
    """Command R7B and A: Command R with windows in three of four blocks."""
    bias = fields.flag("attention_bias", False)
    period = fields.count("sliding_window_pattern", "_sliding_window_pattern", "layer_switch", default=4)
    fields.require("layer_switch", period)
    for name in ("use_embedding_sharing", "use_gated_activation", "use_parallel_block", "use_parallel_embedding"):
        fields.require(name, True)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    return uniform(
        fields, attention, dense(fields), kinds=every_so_often(period), norms=1, parallel=True, tied=True
    )  # fmt: skip


def palm(fields: Fields) -> Architecture:
    """PaLM: multi-query attention and gated FFN in parallel, no biases, tied head (arXiv 2204.02311, section 2)."""
    return uniform(fields, grouped(fields), dense(fields), norms=1, parallel=True, tied=True)
