"""Families with multi-head latent attention (MLA): DeepSeek and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flashstill.arch.adapter.build import ForLayer, assemble
from flashstill.arch.adapter.experts import deepseek, deepseek_experts, predictors
from flashstill.arch.adapter.fields import HEADS, Fields
from flashstill.arch.attention import Indexer, LatentAttention
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer, Mixer


def latent(
    fields: Fields,
    indexer: Indexer | None = None,
    *,
    top: int | None = None,
    window: int | None = None,
    extra_width: int = 0,
    extra_parameters: int = 0,
) -> LatentAttention:
    """MLA from DeepSeek's fields; without q_lora_rank, queries are projected directly."""
    fields.ignore("head_dim", "qk_head_dim", "num_key_value_heads")  # all heads read one latent vector
    return LatentAttention(
        heads=fields.count(*HEADS),
        query_rank=fields.count("q_lora_rank") if fields.value("q_lora_rank") is not None else None,
        kv_rank=fields.count("kv_lora_rank"),
        rope_width=fields.count("qk_rope_head_dim"),
        nope_width=fields.count("qk_nope_head_dim"),
        value_width=fields.count("v_head_dim"),
        bias=fields.flag("attention_bias", False),
        indexer=indexer,
        top=top,
        window=window,
        extra_width=extra_width,
        extra_parameters=extra_parameters,
    )


def stacked(
    fields: Fields, mixers: Sequence[Mixer], ffn: ForLayer, mtp_layers: int = 0, *, tied: bool = False, norms: int = 2
) -> Architecture:
    """A model with one mixer per block. norms: norm vectors per block."""
    blocks = [
        Layer(count=1, attention=mixer, ffn=ffn(i), norm_parameters=norms * fields.width, norms=norms)
        for i, mixer in enumerate(mixers)
    ]
    return assemble(fields, blocks, tied=tied, mtp_layers=mtp_layers)


def deepseek_v2(fields: Fields) -> Architecture:
    """DeepSeek-V2 and V2-Lite; without MLA, as in DeepSeek-OCR, multi-head attention."""
    if not fields.flag("use_mla", True):
        return deepseek(fields)
    return stacked(fields, [latent(fields)] * fields.depth, deepseek_experts(fields, 0))


def deepseek_v3(fields: Fields, dense_default: int = 3) -> Architecture:
    """DeepSeek-V3 and R1, Kimi K2: the router's bias correction is a buffer and not counted."""
    fields.refuse("index_topk")
    return stacked(fields, [latent(fields)] * fields.depth, deepseek_experts(fields, dense_default), predictors(fields))


def glm4_moe_lite(fields: Fields) -> Architecture:
    """GLM-4.7-Flash: DeepSeek-V3 with one dense block."""
    return deepseek_v3(fields, dense_default=1)


def indexed(fields: Fields, *, extra_width: int = 0, extra_parameters: int = 0) -> list[Mixer]:
    """Sparse MLA for every block, with its own indexer or the tokens selected by an earlier block."""
    fields.layer_kinds("layer_types", known=("indexed",))
    top = fields.count("index_topk")
    scorer = Indexer(heads=fields.count("index_n_heads"), head_width=fields.count("index_head_dim"), top=top)
    own = latent(fields, scorer, extra_width=extra_width, extra_parameters=extra_parameters)
    shared = latent(fields, top=top, extra_width=extra_width, extra_parameters=extra_parameters)
    return [own if kind == "full" else shared for kind in _indexer_kinds(fields)]


def _indexer_kinds(fields: Fields) -> list[str]:
    """ "full" or "shared" for every block: from a list, letters F and S, or a period after the first blocks."""
    fields.ignore("index_topk_pattern", "index_topk_freq", "index_skip_topk_offset", "index_share_for_mtp_iteration")
    listed = fields.words("indexer_types", ("full", "shared"))
    pattern = fields.value("index_topk_pattern")
    if listed is not None:
        return listed
    if isinstance(pattern, str):
        if len(pattern) != fields.depth or set(pattern) - set("FS"):
            raise fields.fail(": index_topk_pattern is not one of F and S for each layer")
        return ["full" if letter == "F" else "shared" for letter in pattern]
    if pattern is not None:
        return fields.words("index_topk_pattern", ("full", "shared")) or []
    period = fields.count("index_topk_freq", default=1)
    offset = fields.count("index_skip_topk_offset", default=2, least=0)
    return ["full" if max(i - offset + 1, 0) % period == 0 else "shared" for i in range(fields.depth)]


def deepseek_v32(fields: Fields) -> Architecture:
    """DeepSeek-V3.2, GLM-5: an indexer selects the tokens that attention reads; its modules have one, too."""
    mixers, ffn = indexed(fields), deepseek_experts(fields, 3)
    own = [mixer for mixer in mixers if isinstance(mixer, LatentAttention) and mixer.indexer]
    if not own:
        raise fields.fail(": no block has an indexer of its own that others could share")
    blocks = [
        Layer(count=1, attention=mixer, ffn=ffn(i), norm_parameters=2 * fields.width) for i, mixer in enumerate(mixers)
    ]
    module = replace(blocks[-1], attention=own[-1])
    return assemble(fields, blocks, mtp_layers=predictors(fields), mtp_blocks=[module])


def axk1(fields: Fields) -> Architecture:
    """A.X K1: DeepSeek-V3 with one dense block, and a norm after the experts."""
    ffn = deepseek_experts(fields, 1)
    mixer, width = latent(fields), fields.width
    blocks = [
        Layer(count=1, attention=mixer, ffn=ffn(i), norm_parameters=(3 if ffn(i).experts else 2) * width)
        for i in range(fields.depth)
    ]
    return assemble(fields, blocks, mtp_layers=predictors(fields))


def dots3(fields: Fields) -> Architecture:
    """dots3: MLA, with an indexer in some blocks and a window in the others; the two kinds differ in shape."""
    fields.refuse("mlp_bias")
    kinds = fields.layer_kinds("layer_types", known=("indexed", "sliding"))
    if kinds is None or fields.value("per_layer_config") is None:
        raise fields.fail(" has no layer_types or no per_layer_config")
    mixers: list[Mixer] = []
    for i, kind in enumerate(kinds):
        own = fields.block(i)
        heads, rope = own.count(*HEADS), own.count("qk_rope_head_dim")
        scorer = Indexer(
            heads=own.count("index_n_heads"), head_width=own.count("index_head_dim"), top=own.count("index_topk")
        )
        near = own.count("sliding_window")
        mixers.append(
            latent(own, scorer, extra_width=heads, extra_parameters=rope)
            if kind == "indexed"
            else latent(own, window=near, extra_width=heads, extra_parameters=rope)
        )
    width = fields.count("shared_experts_intermediate_size", default=fields.count("moe_intermediate_size"))
    fields.require("n_shared_experts", 1)
    ffn = deepseek_experts(fields, 1)
    return stacked(fields, mixers, lambda i: _with_shared(ffn(i), width), predictors(fields))


def _with_shared(ffn: FeedForward, width: int) -> FeedForward:
    return replace(ffn, shared_width=width) if ffn.experts else ffn
