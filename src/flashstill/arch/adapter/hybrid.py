"""Families that mix recurrent blocks with attention."""

from __future__ import annotations

import math
from dataclasses import replace

from flashstill.arch.adapter.build import ForLayer, assemble, grouped, routed
from flashstill.arch.adapter.experts import deepseek_experts, predictors, qwen_experts
from flashstill.arch.adapter.fields import CHOSEN, EXPERTS, HEADS, Fields
from flashstill.arch.adapter.latent import latent, stacked
from flashstill.arch.attention import Attention, LatentAttention
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer, Mixer
from flashstill.arch.recurrent import LinearAttention, gated_delta_net, kimi_delta, lightning
from flashstill.arch.state_space import mamba1, mamba2

_HYBRID = ("full", "linear")


def qwen3_next(fields: Fields) -> Architecture:
    """Qwen3-Next and Qwen3.5: gated delta nets, gated attention in every fourth block; dense or routed FFN."""
    bias = fields.flag("attention_bias", False)
    recurrent = gated_delta_net(
        width=fields.width,
        key_heads=fields.count("linear_num_key_heads"),
        key_width=fields.count("linear_key_head_dim"),
        value_heads=fields.count("linear_num_value_heads"),
        value_width=fields.count("linear_value_head_dim"),
        taps=fields.count("linear_conv_kernel_dim"),
    )
    full = grouped(
        fields,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="head",
        output_gate=fields.flag("attn_output_gate", True),
        head_width=fields.count("head_dim", default=256),
    )
    kinds = fields.layer_kinds("layer_types", known=_HYBRID)
    period = fields.count("full_attention_interval", default=4)
    if kinds is None:
        kinds = ["linear" if (i + 1) % period else "full" for i in range(fields.depth)]
    return stacked(fields, _mixers(kinds, full, recurrent), _qwen_ffn(fields), predictors(fields))


def _qwen_ffn(fields: Fields) -> ForLayer:
    if fields.value(*EXPERTS) is not None:
        return qwen_experts(fields)
    dense = FeedForward(width=fields.count("intermediate_size"))
    return lambda i: dense


def _mixers(kinds: list[str], full: Attention | LatentAttention, recurrent: LinearAttention) -> list[Mixer]:
    return [recurrent if kind == "linear" else full for kind in kinds]


def minimax(fields: Fields) -> Architecture:
    """MiniMax-Text-01 and M1: mostly lightning attention; attn_type_list has 0 for lightning, 1 for softmax."""
    fields.refuse("shared_intermediate_size", "sliding_window")
    fields.ignore("block_size")  # a kernel setting
    full = grouped(fields)
    recurrent = lightning(width=fields.width, heads=full.heads, head_width=full.head_width)
    kinds = fields.layer_kinds("layer_types", known=_HYBRID)
    if kinds is None:
        listed = fields.words("attn_type_list", (0, 1))
        kinds = [("linear", "full")[kind] for kind in listed] if listed else None
    if kinds is None:
        kinds = ["full" if (i + 1) % 2 else "linear" for i in range(fields.depth)]
    ffn = routed(fields, width=("intermediate_size",))
    return stacked(fields, _mixers(kinds, full, recurrent), lambda i: ffn)


def kimi_linear(fields: Fields) -> Architecture:
    """Kimi Linear and K3: Kimi delta attention, MLA in every fourth block, DeepSeek's experts.

    In K3 experts have a width of their own, MLA has an output gate, and each attention and FFN reads a weighted sum of
    what earlier groups of blocks added to the stream, which is not priced.
    """
    inner = fields.part("linear_attn_config")
    recurrent = kimi_delta(
        width=fields.width,
        heads=inner.count("num_heads", default=fields.count("linear_num_heads", default=32)),
        head_width=inner.count("head_dim", default=fields.count("linear_head_dim", default=128)),
        taps=inner.count("short_conv_kernel_size", default=fields.count("linear_conv_kernel_dim", default=4)),
        full_gate=inner.flag("use_full_rank_gate", False),
    )
    kinds = fields.layer_kinds("layer_types", known=_HYBRID)
    if kinds is None:
        full = inner.whole_numbers("full_attn_layers")  # 1-based layer numbers
        if not full or full | inner.whole_numbers("kda_layers") != frozenset(range(1, fields.depth + 1)):
            raise fields.fail(": linear_attn_config does not name each layer in full_attn_layers or kda_layers")
        kinds = ["full" if i + 1 in full else "linear" for i in range(fields.depth)]
    gate = fields.count(*HEADS) * fields.count("v_head_dim") if fields.flag("mla_use_output_gate", False) else 0
    fields.ignore("use_grouped_topk", "mla_use_nope")
    inner.ignore("gate_lower_bound")
    narrow = fields.count("routed_expert_hidden_size", default=0, least=0)
    norm = narrow if fields.flag("latent_moe_use_norm", False) else 0
    ffn, summed = deepseek_experts(fields, 1), fields.count("attn_res_block_size", default=0, least=0)
    # A weighted sum has a norm and one weight for each value of the stream, twice a block and once before the head.
    blocks = [
        Layer(
            count=1,
            attention=mixer,
            ffn=replace(ffn(i), latent_width=narrow, router_extra=norm) if narrow and ffn(i).experts else ffn(i),
            norm_parameters=(6 if summed else 2) * fields.width,
        )
        for i, mixer in enumerate(_mixers(kinds, latent(fields, extra_width=gate), recurrent))
    ]
    note = "the sums over what earlier groups of blocks added are left out" if summed else ""
    extra = 2 * fields.width if summed else 0
    return assemble(fields, blocks, extra=extra, mtp_layers=predictors(fields), note=note)


def jamba(fields: Fields) -> Architecture:
    """Jamba: Mamba with periodic attention blocks, experts in every second block."""
    width = fields.width
    rank = fields.value("mamba_dt_rank")
    recurrent = mamba1(
        width=width,
        inner=fields.count("mamba_expand", default=2) * width,
        state_width=fields.count("mamba_d_state", default=16),
        step_rank=math.ceil(width / 16) if rank in (None, "auto") else fields.count("mamba_dt_rank"),
        taps=fields.count("mamba_d_conv", default=4),
        conv_bias=fields.flag("mamba_conv_bias", True),
        bias=fields.flag("mamba_proj_bias", False),
    )
    kinds = fields.layer_kinds("layer_types", "layers_block_type", known=_HYBRID)
    if kinds is None:
        attends = _periodic(fields, "attn_layer", 8, 4)
        kinds = ["full" if attends[i] else "linear" for i in range(fields.depth)]
    dense = FeedForward(width=fields.count("intermediate_size"))
    sparse = dense if fields.count("num_experts", default=16) == 1 else routed(fields, width=("intermediate_size",))
    fields.ignore(*CHOSEN)  # stated as 1 beside one expert, which is a dense FFN
    expert = _periodic(fields, "expert_layer", 2, 1)
    return stacked(fields, _mixers(kinds, grouped(fields), recurrent), lambda i: sparse if expert[i] else dense)


def _periodic(fields: Fields, prefix: str, period: int, offset: int) -> list[bool]:
    period = fields.count(f"{prefix}_period", default=period)
    offset = fields.count(f"{prefix}_offset", default=offset, least=0)
    return [i % period == offset for i in range(fields.depth)]


def _mamba2(fields: Fields) -> LinearAttention:
    inner = fields.count("mamba_expand", default=2) * fields.width
    heads = fields.count("mamba_n_heads")
    auto = fields.value("mamba_d_head") in (None, "auto")
    return mamba2(
        width=fields.width,
        heads=heads,
        head_width=inner // heads if auto else fields.count("mamba_d_head"),
        groups=fields.count("mamba_n_groups", default=1),
        state_width=fields.count("mamba_d_state"),
        taps=fields.count("mamba_d_conv", default=4),
        conv_bias=fields.flag("mamba_conv_bias", True),
        bias=fields.flag("mamba_proj_bias", False),
    )


def bamba(fields: Fields) -> Architecture:
    """Bamba: Mamba 2 with attention in the blocks of attn_layer_indices."""
    bias = fields.flag("attention_bias", False)
    kinds = fields.layer_kinds("layer_types", "layers_block_type", known=_HYBRID)
    if kinds is None:
        full = fields.whole_numbers("attn_layer_indices")
        kinds = ["full" if i in full else "linear" for i in range(fields.depth)]
    ffn = FeedForward(width=fields.count("intermediate_size"), bias=fields.flag("mlp_bias", False))
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    return stacked(fields, _mixers(kinds, attention, _mamba2(fields)), lambda i: ffn)


def granite_hybrid(fields: Fields) -> Architecture:
    """Granite 4: Mamba 2 and attention; a shared FFN, plus routed experts in the larger models."""
    bias = fields.flag("attention_bias", False)
    kinds = fields.layer_kinds("layer_types", "layers_block_type", known=_HYBRID)
    kinds = kinds or ["linear"] * fields.depth
    shared = fields.count("shared_intermediate_size", default=1024)
    fields.ignore("intermediate_size", *CHOSEN)
    if fields.count(*EXPERTS, default=0, least=0):
        ffn = routed(fields, width=("intermediate_size",), shared_width=shared)
    else:
        ffn = FeedForward(width=shared)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    return stacked(fields, _mixers(kinds, attention, _mamba2(fields)), lambda i: ffn)
