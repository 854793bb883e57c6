"""Newer families with routed experts: Trinity, EXAONE MoE, MiMo, Laguna, MiniMax-M3, Hunyuan 3 and others."""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch.adapter.build import ForLayer, Kinds, assemble, every_so_often, grouped, routed, uniform
from flashstill.arch.adapter.dense import lettered
from flashstill.arch.adapter.experts import deepseek_experts, predictors, qwen_experts
from flashstill.arch.adapter.fields import CHOSEN, EXPERTS, HEADS, Fields
from flashstill.arch.adapter.relatives import first_of
from flashstill.arch.attention import Attention, Indexer
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer


def mlp_kinds(fields: Fields, default: list[str]) -> list[str]:
    """ "dense" or "sparse" for every block, from the config's list or `default`."""
    return fields.words("mlp_layer_types", ("dense", "sparse")) or default


def sparse_or_dense(fields: Fields, sparse: FeedForward, kinds: list[str], dense_field: str) -> ForLayer:
    """Experts in the sparse blocks; a dense FFN of the width in `dense_field` in the others."""
    fields.ignore(dense_field)
    if "dense" not in kinds:
        return lambda i: sparse
    dense = FeedForward(width=fields.count(dense_field))
    return lambda i: dense if kinds[i] == "dense" else sparse


def first_dense(fields: Fields, count: int) -> list[str]:
    """The first `count` blocks are dense, the others sparse."""
    return ["dense" if i < count else "sparse" for i in range(fields.depth)]


def _shared(fields: Fields, default: int = 1) -> int:
    width = fields.count("moe_intermediate_size")
    return width * fields.count("num_shared_experts", "n_shared_experts", default=default, least=0)


def afmoe(fields: Fields) -> Architecture:
    """Arcee Trinity: pre- and post-norms, gated attention output, windows in three of four blocks."""
    fields.ignore("mup_enabled", "global_attn_every_n_layers")
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head", output_gate=True)
    if bias:
        raise fields.fail(": attention_bias is not supported for this model_type")
    sparse = routed(fields, width=("moe_intermediate_size",), shared_width=_shared(fields), router_bias=True)
    kinds = first_dense(fields, fields.count("num_dense_layers", default=1, least=0))
    period = every_so_often(fields.count("global_attn_every_n_layers", default=4))
    return uniform(
        fields, attention, sparse_or_dense(fields, sparse, kinds, "intermediate_size"), kinds=period, norms=4
    )  # fmt: skip


def aria(fields: Fields) -> Architecture:
    """Aria: experts and shared experts of the same width in every block."""
    fields.refuse("mlp_bias")
    bias, width = fields.flag("attention_bias", False), fields.count("intermediate_size")
    shared = width * fields.count("moe_num_shared_experts", default=2, least=0)
    ffn = routed(fields, width=("intermediate_size",), shared_width=shared)
    return uniform(fields, grouped(fields, qkv_bias=bias, output_bias=bias), ffn)


def cohere2_moe(fields: Fields) -> Architecture:
    """Command with experts: attention and FFN in parallel, windows in three of four blocks."""
    fields.ignore("first_k_dense_replace", "prefix_dense_sliding_window_pattern", "sliding_window_pattern")
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    dense_blocks = fields.count("first_k_dense_replace", default=0, least=0)
    wide = fields.count("num_shared_experts", default=0, least=0) * fields.count("intermediate_size")
    sparse = routed(fields, width=("intermediate_size",), shared_width=wide)
    kinds = mlp_kinds(fields, first_dense(fields, dense_blocks))
    if "dense" in kinds:
        raise fields.fail(": dense blocks are not supported yet for this model_type")
    windows = every_so_often(fields.count("sliding_window_pattern", default=4))
    return uniform(fields, attention, sparse, kinds=windows, norms=1, parallel=True, tied=True)


def exaone_moe(fields: Fields) -> Architecture:
    """EXAONE MoE: QK norms, first block dense, windows in three of four blocks."""
    kinds = lettered(fields)
    # Which blocks have experts is stated twice: by how many first ones do not, and block by block.
    ffn, listed = deepseek_experts(fields, 1), fields.words("is_moe_layer", (True, False))
    fields.ignore("first_last_k_dense_replace")
    if listed is not None and listed != [bool(ffn(i).experts) for i in range(fields.depth)]:
        raise fields.fail(": is_moe_layer names other blocks than first_k_dense_replace")
    wide = FeedForward(width=fields.count("intermediate_size"))
    return uniform(
        fields, grouped(fields, qk_norm="head"), ffn, kinds=kinds, mtp_layers=predictors(fields), mtp_ffn=wide
    )  # fmt: skip


def flint(fields: Fields) -> Architecture:
    """Flint: sinks; shared expert without a scalar gate; full attention in blocks 0, 1, every fourth and the last."""
    bias, last = fields.flag("attention_bias", False), fields.depth - 1
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head", sinks=True)
    kinds: Kinds = lambda i: "full" if i < 2 or i % 4 == 1 or i == last else "sliding"
    fields = fields.with_defaults({"mlp_only_layers": [0, 1]})
    return uniform(fields, attention, _without_gate(qwen_experts(fields)), kinds=kinds)


def _without_gate(ffn: ForLayer) -> ForLayer:
    return lambda i: replace(ffn(i), shared_gate=False)


def granitemoe_swa(fields: Fields) -> Architecture:
    """Granite MoE with sinks, and windows in three of four blocks."""
    fields.ignore("layer_rope_theta")
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, sinks=True)
    shared = fields.count("shared_intermediate_size", default=0, least=0)
    ffn = routed(fields, width=("intermediate_size",), shared_width=shared)
    return uniform(fields, attention, ffn, kinds=first_of(4))


def hunyuan3(fields: Fields) -> Architecture:
    """Hunyuan 3: first block dense, one shared expert, QK norms."""
    fields.refuse("mlp_bias")
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head")
    sparse = routed(fields, width=("moe_intermediate_size",), shared_width=_shared(fields))
    kinds = mlp_kinds(fields, first_dense(fields, fields.count("first_k_dense_replace", default=1, least=0)))
    ffn = sparse_or_dense(fields, sparse, kinds, "intermediate_size")
    return uniform(fields, attention, ffn, mtp_layers=predictors(fields))


def kolibri1(fields: Fields) -> Architecture:
    """Kolibri: pre- and post-norms, a shared expert, full attention in every fifth block."""
    shared = fields.count("shared_expert_intermediate_size")
    ffn = routed(fields, width=("moe_intermediate_size",), shared_width=shared)
    return uniform(fields, grouped(fields, qk_norm="head"), ffn, kinds=every_so_often(5), norms=4)


def mellum(fields: Fields) -> Architecture:
    """Mellum: Qwen3 MoE with windows in the blocks given by `layer_types`."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head")
    fields.refuse("num_mtp_layers")
    fields.ignore("mtp_layer_types", "mtp_mlp_layer_types")
    sparse = routed(fields, width=("moe_intermediate_size",))
    ffn = sparse_or_dense(fields, sparse, mlp_kinds(fields, first_dense(fields, 0)), "intermediate_size")
    return uniform(fields, attention, ffn)


_SPARSE_OLD = {
    "index_n_heads": "sparse_num_index_heads",
    "index_head_dim": "sparse_index_dim",
    "index_block_size": "sparse_block_size",
    "index_topk_blocks": "sparse_topk_blocks",
    "index_local_blocks": "sparse_local_block",
}


def minimax_m3(fields: Fields) -> Architecture:
    """MiniMax-M3: in sparse-attention layers an indexer selects token blocks; a shared expert, some dense FFNs."""
    older = fields.part("sparse_attention_config")
    older.require("use_sparse_attention", True)
    names = {new: older.value(old) for new, old in _SPARSE_OLD.items()}
    listed = older.value("sparse_attention_freq")
    if fields.value("layer_types") is None and listed is not None:
        kinds = ["blocks" if flag else "full" for flag in older.changed({"num_hidden_layers": fields.depth}).words(
            "sparse_attention_freq", (0, 1))or []]  # fmt: skip
    else:
        kinds = fields.layer_kinds("layer_types", known=("full", "blocks")) or ["full"] * fields.depth
    index = fields.changed({new: value for new, value in names.items() if value is not None})
    heads, top = index.count("index_n_heads", default=4), index.count("index_topk_blocks", default=16)
    block, local = index.count("index_block_size", default=128), index.count("index_local_blocks", default=1, least=0)
    scorer = Indexer(
        heads=heads,
        head_width=index.count("index_head_dim", default=128),
        top=(top + local) * block,
        weighted=False,
        shared=False,
    )
    fields.require("qk_norm_type", "per_head")
    fields.refuse("attention_output_gate")
    fields.require("n_shared_experts", 1)  # of shared_intermediate_size
    fields.ignore("num_mtp_modules", "num_nextn_predict_layers")  # which no checkpoint holds
    fields.ignore("use_gemma_norm")  # a norm whose weights are stored less one
    full = grouped(fields, qk_norm="head")
    fields.ignore("moe_layer_freq", "intermediate_size")
    default = first_dense(fields, 0)
    if fields.value("mlp_layer_types") is None and fields.value("moe_layer_freq") is not None:
        default = [("dense", "sparse")[flag] for flag in fields.words("moe_layer_freq", (0, 1)) or []]
    shared = fields.count("shared_intermediate_size", default=fields.count("intermediate_size"))
    sparse = routed(fields, width=("intermediate_size",), shared_width=shared)
    ffn = sparse_or_dense(fields, sparse, mlp_kinds(fields, default), "dense_intermediate_size")
    mixers = {"full": full, "blocks": replace(full, indexer=scorer)}
    blocks = [
        Layer(count=1, attention=mixers[kind], ffn=ffn(i), norm_parameters=2 * fields.width)
        for i, kind in enumerate(kinds)
    ]
    return assemble(fields, blocks)


def solar_open(fields: Fields) -> Architecture:
    """Solar Open: GLM-4.5's experts in every block."""
    attention = grouped(fields, qkv_bias=fields.flag("attention_bias", False))
    return uniform(fields, attention, deepseek_experts(fields, 0), mtp_layers=predictors(fields))


def jetmoe(fields: Fields) -> Architecture:
    """JetMoE: also has experts for the query and output projections of attention."""
    heads, width = fields.count(*HEADS), fields.width
    experts, chosen = fields.count(*EXPERTS), fields.count(*CHOSEN)
    kv_heads, head_width = fields.count("num_key_value_heads"), fields.count("kv_channels")
    inner = kv_heads * head_width
    # Each token uses `chosen` of the projections; the others are counted as small parameters.
    if heads != kv_heads * chosen:
        raise fields.fail(": num_attention_heads other than num_key_value_heads x num_experts_per_tok is not supported")
    fields.ignore("head_dim")
    attention = Attention(heads=heads, kv_heads=kv_heads, head_width=head_width)
    idle = (experts - chosen) * 2 * width * inner + experts * width + width
    return uniform(
        fields,
        attention,
        routed(fields, width=("intermediate_size",), router_bias=False),
        small=idle + width,
        tied=True,
        note="the experts of attention are priced as plain attention",
    )


def beam(fields: Fields) -> Architecture:
    """Beam: per-head output gates with bias on attention, pre- and post-norms, first blocks dense."""
    fields.refuse("attention_bias", "n_shared_experts", "num_shared_experts")
    if fields.value("layer_types") is None:
        raise fields.fail(" has no layer_types")
    attention = grouped(fields, qk_norm="head", output_gate=True, extra_parameters=fields.count(*HEADS))
    sparse = routed(fields, width=("moe_intermediate_size",))
    ffn = sparse_or_dense(fields, sparse, mlp_kinds(fields, first_dense(fields, 3)), "intermediate_size")
    return uniform(fields, attention, ffn, norms=4)
