"""Families with multi-head latent attention: DeepSeek and those that took it over."""

from __future__ import annotations

from collections.abc import Sequence

from flashstill.arch.adapter.build import ForLayer, assemble
from flashstill.arch.adapter.experts import deepseek_experts, predictors
from flashstill.arch.adapter.fields import HEADS, Fields
from flashstill.arch.attention import Indexer, LatentAttention, Mixer
from flashstill.arch.model import Architecture, Layer


def latent(
    fields: Fields,
    indexer: Indexer | None = None,
    *,
    top: int | None = None,
    window: int | None = None,
    extra_width: int = 0,
    extra_parameters: int = 0,
) -> LatentAttention:
    """MLA from DeepSeek's fields; without q_lora_rank queries are projected directly."""
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
    """Blocks with one mixer each. norms: learned vectors a block."""
    blocks = [
        Layer(count=1, attention=mixer, ffn=ffn(i), norm_parameters=norms * fields.width, norms=norms)
        for i, mixer in enumerate(mixers)
    ]
    return assemble(fields, blocks, tied=tied, mtp_layers=mtp_layers)


def deepseek_v2(fields: Fields) -> Architecture:
    """DeepSeek-V2 and V2-Lite."""
    return stacked(fields, [latent(fields)] * fields.depth, deepseek_experts(fields, 0))


def deepseek_v3(fields: Fields, dense_default: int = 3) -> Architecture:
    """DeepSeek-V3 and R1, Kimi K2: the correction of the router's choice is a buffer and not counted."""
    fields.refuse("index_topk")
    return stacked(fields, [latent(fields)] * fields.depth, deepseek_experts(fields, dense_default), predictors(fields))


def glm4_moe_lite(fields: Fields) -> Architecture:
    """GLM-4.7-Flash: DeepSeek-V3 with one dense block."""
    return deepseek_v3(fields, dense_default=1)


def deepseek_v32(fields: Fields) -> Architecture:
    """DeepSeek-V3.2, GLM-5: an indexer chooses which tokens the attention reads."""
    shared = fields.words("indexer_types", ("full", "shared")) or []
    if "shared" in shared or fields.value("index_topk_pattern") or fields.count("index_topk_freq", default=1) != 1:
        raise fields.fail(": indexer_types names blocks that share an indexer, which is not supported yet")
    fields.layer_kinds("layer_types", known=("indexed",))
    scorer = Indexer(
        heads=fields.count("index_n_heads"),
        head_width=fields.count("index_head_dim"),
        top=fields.count("index_topk"),
    )
    mixers = [latent(fields, scorer)] * fields.depth
    return stacked(fields, mixers, deepseek_experts(fields, 3), predictors(fields))
