"""Families with several residual streams (hyper-connections): DeepSeek-V4 and Hunyuan 4.

Before attention and FFN a small matrix mixes the n streams into one; the result is then distributed to all streams.
"""

from __future__ import annotations

from collections.abc import Sequence

from flashstill.arch.adapter.build import ForLayer, assemble, routed
from flashstill.arch.adapter.experts import deepseek_experts, predictors
from flashstill.arch.adapter.fields import HEADS, Fields
from flashstill.arch.adapter.latent import indexed
from flashstill.arch.attention import Indexer
from flashstill.arch.compressed import CompressedAttention
from flashstill.arch.model import Architecture, Layer, Mixer

_KINDS = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


def _connected(
    fields: Fields, mixers: Sequence[Mixer], ffn: ForLayer, *, outputs: int, scales: int, mtp_layers: int = 0
) -> Architecture:
    """Blocks with hyper-connections that compute `outputs` mixing weights from all streams, with `scales` scales."""
    width, streams = fields.width, fields.count("hc_mult", default=4)
    side = 2 * outputs * streams * width
    blocks = [
        Layer(
            count=1,
            attention=mixer,
            ffn=ffn(i),
            norm_parameters=2 * width + 2 * (outputs + scales),
            side_weights=side,
            streams=streams,
        )
        for i, mixer in enumerate(mixers)
    ]
    head = streams * streams * width + streams + 1  # mixes the streams before the LM head
    return assemble(fields, blocks, extra=head, mtp_layers=mtp_layers)


def deepseek_v4(fields: Fields) -> Architecture:
    """DeepSeek-V4: a window of recent tokens, compressed entries of older ones; the first routers are tables."""
    fields.refuse("attention_bias", "mlp_bias")
    fields.require("num_key_value_heads", 1)
    fields.ignore(
        "qk_rope_head_dim", "partial_rotary_factor", "compress_rates", "compress_ratios", "compress_rate_csa",
        "compress_rate_hca", "num_hash_layers", "n_hash_layers", "hc_sinkhorn_iters", "intermediate_size",
        "expert_dtype",
    )  # fmt: skip
    kinds = _v4_kinds(fields)
    given = fields.part("compress_rates")
    rates = {
        "compressed_sparse_attention": fields.count("compress_rate_csa", default=given.count(
            "compressed_sparse_attention", default=4)),
        "heavily_compressed_attention": fields.count("compress_rate_hca", default=given.count(
            "heavily_compressed_attention", default=128)),
    }  # fmt: skip
    scorer = Indexer(
        heads=fields.count("index_n_heads", default=64),
        head_width=fields.count("index_head_dim", default=128),
        top=fields.count("index_topk", default=512),
    )
    mixers = [
        CompressedAttention(
            heads=fields.count(*HEADS),
            head_width=fields.count("head_dim", default=512),
            query_rank=fields.count("q_lora_rank", default=1024),
            output_groups=fields.count("o_groups", default=8),
            output_rank=fields.count("o_lora_rank", default=1024),
            near=fields.count("sliding_window", default=128),
            rate=rates.get(kind),
            indexer=scorer if kind == "compressed_sparse_attention" else None,
        )
        for kind in kinds
    ]
    fields.words("mlp_layer_types", ("hash_moe", "moe"))
    shared = fields.count("n_shared_experts", default=1, least=0) * fields.count("moe_intermediate_size")
    ffn = routed(fields, width=("moe_intermediate_size",), shared_width=shared)
    streams = fields.count("hc_mult", default=4)
    return _connected(
        fields, mixers, lambda i: ffn, outputs=(2 + streams) * streams, scales=3, mtp_layers=predictors(fields)
    )  # fmt: skip


def _v4_kinds(fields: Fields) -> list[str]:
    listed = fields.words("layer_types", tuple(_KINDS.values()))
    if listed is not None:
        return listed
    ratios = fields.value("compress_ratios")
    if isinstance(ratios, list) and len(ratios) >= fields.depth:
        if any(type(ratio) is not int or ratio not in _KINDS for ratio in ratios):
            raise fields.fail(": compress_ratios holds others than 0, 4 and 128")
        return [_KINDS[ratio] for ratio in ratios[: fields.depth]]
    later = [
        "compressed_sparse_attention" if i % 2 else "heavily_compressed_attention" for i in range(fields.depth - 2)
    ]
    return (["heavily_compressed_attention"] * 2 + later)[: fields.depth]


def hunyuan4(fields: Fields) -> Architecture:
    """Hunyuan 4: MLA with shared indexers, gates and sinks."""
    fields.refuse("attention_bias")
    fields.ignore("learnable_sink_init", "hc_magnitude")
    if fields.value("indexer_types", "index_topk_pattern", "index_topk_freq") is None:
        raise fields.fail(" has no indexer_types")
    heads, values = fields.count(*HEADS), fields.count("v_head_dim")
    mixers = indexed(fields, extra_width=heads * values, extra_parameters=heads)
    streams = fields.count("hc_mult", default=4)
    ffn = deepseek_experts(fields, 1)
    return _connected(fields, mixers, ffn, outputs=2 * streams, scales=2, mtp_layers=predictors(fields))
