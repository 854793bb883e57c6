"""Families with recurrences instead of, or next to, softmax attention: Mamba, Falcon-H1, Griffin, RWKV, xLSTM."""

from __future__ import annotations

import math

from flashstill.arch.adapter.build import NO_FFN, assemble, dense, grouped
from flashstill.arch.adapter.experts import predictors
from flashstill.arch.adapter.fields import HEADS, Fields
from flashstill.arch.adapter.latent import latent, stacked
from flashstill.arch.adapter.remote_experts import bailing_experts, bailing_lightning, grouped_layers
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer
from flashstill.arch.recurrent import (
    LinearAttention,
    gated_delta_net,
    gated_linear_recurrence,
    kimi_delta,
    matrix_lstm,
    rwkv4,
)
from flashstill.arch.state_space import mamba1, mamba2
from flashstill.errors import shown

_ENDLESS = 10**9
"""context of models with fixed-size state whose configuration states no limit"""


def _alone(fields: Fields, mixer: LinearAttention, tied: bool) -> Architecture:
    """A model whose blocks have one mixer, one norm and no FFN."""
    block = Layer(count=fields.depth, attention=mixer, ffn=NO_FFN, norm_parameters=fields.width)
    return assemble(fields, [block], tied=tied, context=_ENDLESS)


def mamba(fields: Fields) -> Architecture:
    """Mamba and Falcon Mamba."""
    width, expand = fields.width, fields.count("expand", default=2)
    rank = fields.value("time_step_rank")
    mixer = mamba1(
        width=width,
        inner=fields.count("intermediate_size", default=expand * width),
        state_width=fields.count("state_size", default=16),
        step_rank=math.ceil(width / 16) if rank in (None, "auto") else fields.count("time_step_rank"),
        taps=fields.count("conv_kernel", default=4),
        conv_bias=fields.flag("use_conv_bias", True),
        bias=fields.flag("use_bias", False),
        norms=False,
    )
    return _alone(fields, mixer, tied=True)


def mamba_2(fields: Fields) -> Architecture:
    """Mamba 2."""
    heads, head_width = fields.count("num_heads", default=128), fields.count("head_dim", default=64)
    if fields.count("expand", default=2) * fields.width != heads * head_width:
        raise fields.fail(": hidden_size x expand is not num_heads x head_dim")
    fields.ignore("time_step_rank", "intermediate_size")
    mixer = mamba2(
        width=fields.width,
        heads=heads,
        head_width=head_width,
        groups=fields.count("n_groups", default=8),
        state_width=fields.count("state_size", default=128),
        taps=fields.count("conv_kernel", default=4),
        conv_bias=fields.flag("use_conv_bias", True),
        bias=fields.flag("use_bias", False),
    )
    return _alone(fields, mixer, tied=False)


def falcon_h1(fields: Fields) -> Architecture:
    """Falcon-H1: attention and Mamba 2 in parallel after the same norm, then a gated FFN.

    Modelled as two consecutive blocks; the shared norm is counted once.
    """
    width, bias = fields.width, fields.flag("attention_bias", False)
    fields.ignore("mamba_expand", "mamba_norm_before_gate", "mamba_use_mlp")
    heads, inner = fields.count("mamba_n_heads", default=128), fields.count("mamba_d_ssm", default=2 * width)
    auto = fields.value("mamba_d_head") in (None, "auto")
    head_width = inner // heads if auto else fields.count("mamba_d_head")
    if heads * head_width != inner:
        raise fields.fail(": mamba_d_ssm is not mamba_n_heads x mamba_d_head")
    recurrent = mamba2(
        width=width,
        heads=heads,
        head_width=head_width,
        groups=fields.count("mamba_n_groups", default=1),
        state_width=fields.count("mamba_d_state", default=256),
        taps=fields.count("mamba_d_conv", default=4),
        conv_bias=fields.flag("mamba_conv_bias", True),
        bias=fields.flag("mamba_proj_bias", False),
        output_bias=fields.flag("projectors_bias", False),
        norm=fields.flag("mamba_rms_norm", False),
    )
    ffn = dense(fields, bias=fields.flag("mlp_bias", False))
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    block = [
        Layer(count=1, attention=recurrent, ffn=NO_FFN, norm_parameters=width),
        Layer(count=1, attention=attention, ffn=ffn, norm_parameters=width),
    ]
    note = "attention and Mamba of a block, which run side by side, are priced as two blocks in a row"
    return assemble(fields, block * fields.depth, note=note)


def olmo_hybrid(fields: Fields) -> Architecture:
    """OLMo hybrid: gated delta nets, with OLMo 2's attention in every fourth block."""
    bias, heads = fields.flag("attention_bias", False), fields.count(*HEADS)
    key_heads = fields.count("linear_num_key_heads", default=heads)
    key_width = fields.count("linear_key_head_dim", default=int(0.75 * fields.width / key_heads))
    recurrent = gated_delta_net(
        width=fields.width,
        key_heads=key_heads,
        key_width=key_width,
        value_heads=fields.count("linear_num_value_heads", default=heads),
        value_width=fields.count("linear_value_head_dim", default=2 * key_width),
        taps=fields.count("linear_conv_kernel_dim", default=4),
    )
    fields.ignore("linear_allow_neg_eigval", "linear_use_gate", "linear_a_log_max", "linear_a_log_min")
    fields.ignore("linear_dt_max", "linear_dt_min", "linear_dt_init_floor")
    full = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="all")
    kinds = fields.layer_kinds("layer_types", known=("full", "linear"))
    kinds = kinds or ["full" if i % 4 == 3 else "linear" for i in range(fields.depth)]
    ffn = dense(fields)
    return stacked(fields, [full if kind == "full" else recurrent for kind in kinds], lambda i: ffn)


def bailing_hybrid(fields: Fields) -> Architecture:
    """Ling 3: Kimi delta attention with full-rank gates, latent attention at the end of each group; Ling 2.5.

    Published configs state the widths of the delta attention in the fields of softmax attention; those of Ling and Ring
    2.5, which have the same model_type, state no convolution and have Lightning attention.
    """
    if not fields.says("short_conv_kernel_size", "linear_conv_kernel_dim", "linear_head_dim"):
        return bailing_lightning(fields)
    fields.ignore("kda_safe_gate", "kda_lower_bound", "mtp_loss_scaling_factor", "layer_group_size", "use_qk_norm")
    heads = fields.count(*HEADS)
    recurrent = kimi_delta(
        width=fields.width,
        heads=fields.count("linear_num_heads", default=heads),
        head_width=fields.count("linear_head_dim", "head_dim"),
        taps=fields.count("linear_conv_kernel_dim", "short_conv_kernel_size", default=4),
        low_rank=not fields.flag("no_kda_lora", True),
    )
    gates = {"head_wise": heads, "element_wise": heads * fields.count("v_head_dim")}
    kind = fields.value("gated_attention_proj_granularity_type") or "head_wise"
    if kind not in gates:
        raise fields.fail(f": gated_attention_proj_granularity_type {shown(kind)} is not head_wise or element_wise")
    full = latent(fields, extra_width=gates[kind])
    kinds = fields.layer_kinds("layer_types", known=("full", "linear")) or grouped_layers(fields)
    mixers = [full if kind == "full" else recurrent for kind in kinds]
    return stacked(fields, mixers, bailing_experts(fields, 1), predictors(fields))


def recurrent_gemma(fields: Fields) -> Architecture:
    """RecurrentGemma: gated linear recurrences, with windowed attention in every third block."""
    bias, width = fields.flag("attention_bias", False), fields.width
    heads = fields.count(*HEADS)
    inner = fields.count("lru_width", default=width)
    recurrent = gated_linear_recurrence(
        width=width, inner=inner, heads=heads, taps=fields.count("conv1d_width", default=4)
    )
    window = fields.count("attention_window_size", default=2048)
    full = grouped(fields, qkv_bias=bias, output_bias=True, window=window)
    pattern = fields.value("block_types", "_block_types") or ["recurrent", "recurrent", "attention"]
    if not isinstance(pattern, list) or any(word not in ("recurrent", "attention") for word in pattern):
        raise fields.fail(": block_types holds other words than recurrent and attention")
    mixers = [full if pattern[i % len(pattern)] == "attention" else recurrent for i in range(fields.depth)]
    ffn = FeedForward(width=fields.count("intermediate_size") // 2, bias=True)
    blocks = [Layer(count=1, attention=mixer, ffn=ffn, norm_parameters=2 * width) for mixer in mixers]
    return assemble(fields, blocks, tied=True, context=_ENDLESS)


def rwkv(fields: Fields) -> Architecture:
    """RWKV 4."""
    width = fields.width
    fields.ignore("rescale_every")
    ffn = FeedForward(width=fields.count("intermediate_size", default=4 * width), gated=False)
    mixer = rwkv4(width=width, inner=fields.count("attention_hidden_size", default=width))
    block = Layer(count=fields.depth, attention=mixer, ffn=ffn, norm_parameters=4 * width)
    context = fields.count("context_length", default=_ENDLESS)
    return assemble(fields, [block], final_norm=2 * width, extra=2 * width, context=context)


def xlstm(fields: Fields) -> Architecture:
    """xLSTM 7B."""
    fields.require("weight_mode", "single")
    fields.refuse("use_bias")
    width, heads = fields.count("embedding_dim", "hidden_size"), fields.count("num_heads")
    fields.ignore("hidden_size", "num_blocks", "max_inference_chunksize", "return_last_states", "num_hidden_layers")
    keys, values = _share(fields, "qk_dim_factor", 0.5, width), _share(fields, "v_dim_factor", 1.0, width)
    multiple = fields.count("ffn_round_up_to_multiple_of", default=64)
    raw = _share(fields, "ffn_proj_factor", 2.667, width)
    ffn = FeedForward(width=multiple * math.ceil(raw / multiple))
    mixer = matrix_lstm(width=width, heads=heads, key_width=keys // heads, value_width=values // heads)
    named = fields.changed({"hidden_size": width, "num_hidden_layers": fields.count("num_blocks", "num_hidden_layers")})
    block = Layer(count=named.depth, attention=mixer, ffn=ffn, norm_parameters=2 * width)
    final = width if fields.flag("add_out_norm", True) else 0
    return assemble(named, [block], final_norm=final, context=_ENDLESS)


def _share(fields: Fields, name: str, default: float, width: int) -> int:
    """`width` times a factor from the config."""
    factor = fields.value(name)
    factor = default if factor is None else factor
    if type(factor) not in (int, float) or not 0 < factor < 100:
        raise fields.fail(f": {name} is not a number between 0 and 100")
    return int(width * factor)
