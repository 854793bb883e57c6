"""Families with routed experts whose checkpoints come with their own code: read from the fields that vLLM reads.

As in remote.py no defaults of transformers stand behind absent fields.
"""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch.adapter.build import ForLayer, assemble, grouped, routed, uniform
from flashstill.arch.adapter.experts import deepseek_experts, predictors
from flashstill.arch.adapter.fields import HEADS, Fields
from flashstill.arch.adapter.latent import latent, stacked
from flashstill.arch.adapter.mixed import enumerated
from flashstill.arch.adapter.remote import renamed
from flashstill.arch.adapter.routed import sparse_or_dense
from flashstill.arch.attention import Attention
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer, Mixer
from flashstill.arch.recurrent import lightning

_TRAINING = ("norm_head", "norm_softmax", "group_norm_size", "linear_silu", "max_window_layers", "rotary_type")
"""fields of Ling's configs that change no shape"""


def bailing(fields: Fields) -> Architecture:
    """Ling 1 and 2, Ring, Sarvam-30B: grouped attention, shared experts, first blocks dense."""
    return uniform(fields, _bailing_attention(fields), bailing_experts(fields), mtp_layers=predictors(fields))


def _bailing_attention(fields: Fields) -> Attention:
    fields.refuse("use_sliding_window", "multi_gate")
    fields.ignore(*_TRAINING, "sliding_window", "use_rmsnorm")
    bias = fields.flag("use_bias", False)
    norm = "head" if fields.flag("use_rmsnorm", True) else "biased"
    return grouped(
        fields, qkv_bias=bias or fields.flag("use_qkv_bias", False), output_bias=bias,
        qk_norm=norm if fields.flag("use_qk_norm", False) else "",
    )  # fmt: skip


def bailing_experts(fields: Fields, dense_default: int = 0) -> ForLayer:
    """DeepSeek's experts; the shared ones may have a width of their own, and all of them biases."""
    fields.refuse("use_bias")
    fields.ignore("moe_router_enable_expert_bias", "moe_router_enable_shared_expert")
    shared = fields.count("num_shared_experts", "n_shared_experts", default=0, least=0)
    wide = fields.count("moe_shared_expert_intermediate_size", default=fields.count("moe_intermediate_size"))
    ffn = deepseek_experts(fields, dense_default)
    return lambda i: replace(ffn(i), shared_width=shared * wide) if ffn(i).experts else ffn(i)


def sarvam_latent(fields: Fields) -> Architecture:
    """Sarvam-105B: DeepSeek's latent attention with the experts of Ling 2."""
    fields.ignore("use_qk_norm", "q_head_dim")  # the norms on latents, which MLA always has
    return stacked(fields, [latent(fields)] * fields.depth, bailing_experts(fields), predictors(fields))


def grouped_layers(fields: Fields) -> list[str]:
    """ "full" for the last layer of every group and for those after the last whole group, else "linear"."""
    size, depth = fields.count("layer_group_size"), fields.depth
    return ["full" if (i + 1) % size == 0 or i >= depth // size * size else "linear" for i in range(depth)]


def _lightning(fields: Fields) -> Mixer:
    heads = fields.count(*HEADS)
    return lightning(
        width=fields.width, heads=heads, head_width=fields.count("head_dim", default=fields.width // heads)
    )  # fmt: skip


def bailing_linear(fields: Fields) -> Architecture:
    """Ring-mini and flash-linear 2.0: Lightning attention, with grouped attention at the end of each group."""
    full, recurrent = _bailing_attention(fields), _lightning(fields)
    mixers: list[Mixer] = [full if kind == "full" else recurrent for kind in grouped_layers(fields)]
    return stacked(fields, mixers, bailing_experts(fields), predictors(fields))


def bailing_lightning(fields: Fields) -> Architecture:
    """Ling and Ring 2.5: Lightning attention, with latent attention at the end of each group."""
    fields.ignore(*_TRAINING, "use_qk_norm", "use_rmsnorm", "use_qkv_bias", "num_key_value_heads", "head_dim")
    full, recurrent = latent(fields), _lightning(fields)
    mixers: list[Mixer] = [full if kind == "full" else recurrent for kind in grouped_layers(fields)]
    return stacked(fields, mixers, bailing_experts(fields), predictors(fields))


def dbrx(fields: Fields) -> Architecture:
    """DBRX: layer norms without bias, clipped projections."""
    attention, inner = fields.part("attn_config"), fields.part("ffn_config")
    attention.ignore("clip_qkv", "attn_pdrop")
    inner.ignore("moe_loss_weight", "moe_normalize_expert_weights", "moe_jitter_eps", "uniform_expert_assignment")
    inner.ignore("hidden_size")
    fields.ignore("emb_pdrop", "resid_pdrop")
    own = fields.changed({"max_position_embeddings": fields.value("max_seq_len", "max_position_embeddings")})
    ffn = FeedForward(
        width=inner.count("ffn_hidden_size"), experts=inner.count("moe_num_experts"),
        experts_per_token=inner.count("moe_top_k"),
    )  # fmt: skip
    return uniform(own, grouped(own, kv_heads=attention.count("kv_n_heads")), ffn)


def arctic(fields: Fields) -> Architecture:
    """Snowflake Arctic: beside attention and experts a dense FFN, as wide as the model, in every block."""
    fields.require("moe_layer_frequency", 1)
    fields.require("parallel_attn_mlp_res", True)
    fields.require("use_residual", True)
    fields.refuse("attention_bias", "sliding_window")
    fields.ignore("enable_expert_tensor_parallelism", "moe_eval_capacity_factor", "moe_min_capacity")
    fields.ignore("moe_token_dropping", "moe_train_capacity_factor", "enc_index", "num_local_experts")
    ffn = replace(routed(fields, width=("intermediate_size",)), dense_width=fields.width)
    return uniform(fields, grouped(fields), ffn, norms=3)


def grok(fields: Fields) -> Architecture:
    """Grok-1: four norms in a block, tied head."""
    fields.ignore("max_attn_value", "attn_output_multiplier", "embedding_multiplier_scale", "output_multiplier_scale")
    return uniform(fields, grouped(fields), routed(fields, width=("intermediate_size",)), norms=4, tied=True)


def step3(fields: Fields) -> Architecture:
    """Step-3: multi-matrix factorisation attention (arXiv 2507.19427): low-rank queries, one key and one value head."""
    fields.ignore("moe_every_n_layer", "use_moe", "use_im_start_end", "norm_expert_weight", "share_q_dim")
    own = renamed(
        fields, num_key_value_heads="num_attention_groups", num_experts="moe_num_experts",
        num_experts_per_tok="moe_top_k", max_position_embeddings="max_position_embedding",
    ).changed({"moe_num_experts": None})  # fmt: skip
    fields.ignore("max_seq_len")
    attention = replace(grouped(own), query_rank=own.count("share_q_dim"))
    sparse = routed(own, width=("moe_intermediate_size",), shared_width=own.count("share_expert_dim"))
    return uniform(own, attention, sparse_or_dense(own, sparse, enumerated(own, 1), "intermediate_size"))


def longcat_flash(fields: Fields) -> Architecture:
    """LongCat-Flash: a block has two attentions and two dense FFNs, and experts that run beside the first FFN.

    Some experts return their input and cost nothing: of the `moe_topk` that a token chooses, those that compute are
    counted in proportion to their number, which is what the router is trained to keep (arXiv 2509.01322, section 2.1).
    """
    fields.ignore("zero_expert_type", "mla_scale_q_lora", "mla_scale_kv_lora", "attention_method", "num_layers")
    fields.ignore(
        "num_hidden_layers", "num_experts_per_tok", "intermediate_size", "moe_intermediate_size", "router_bias"
    )
    own = renamed(fields, num_hidden_layers="num_layers", num_experts_per_tok="moe_topk")
    idle, experts = own.count("zero_expert_num", default=0, least=0), own.count("n_routed_experts", "num_local_experts")
    chosen = own.count("moe_topk", "num_experts_per_tok") * experts // (experts + idle)
    wide = own.count("ffn_hidden_size", "intermediate_size")
    mixer, width = latent(own), own.width
    routers = idle * width + (experts + idle if own.flag("router_bias", False) else 0)
    sparse = FeedForward(
        width=own.count("expert_ffn_hidden_size", "moe_intermediate_size"), experts=experts,
        experts_per_token=max(chosen, 1), dense_width=wide, router_extra=routers,
    )  # fmt: skip
    halves = [
        Layer(count=own.depth, attention=mixer, ffn=ffn, norm_parameters=2 * width)
        for ffn in (sparse, FeedForward(width=wide))
    ]
    note = "a block of two attentions is priced as two blocks, and experts that return their input as free"
    return assemble(own, halves, mtp_layers=predictors(own), note=note)
