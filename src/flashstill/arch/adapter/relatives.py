"""Variants of Llama: dense blocks that differ in biases, norms, windows or FFN gating."""

from __future__ import annotations

from flashstill.arch.adapter.build import Kinds, dense, every_so_often, grouped, uniform
from flashstill.arch.adapter.fields import Fields
from flashstill.arch.adapter.latent import latent, stacked
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture
from flashstill.errors import shown


def first_of(period: int) -> Kinds:
    """A window in all blocks except the first of every `period`."""
    return lambda i: "full" if i % period == 0 else "sliding"


def apertus(fields: Fields) -> Architecture:
    """QK norms; ungated FFN whose activation has two learned parameters."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head")
    return uniform(fields, attention, dense(fields, gated=False), small=2)


def arcee(fields: Fields) -> Architecture:
    """Ungated FFN (squared ReLU)."""
    bias = fields.flag("attention_bias", False)
    ffn = dense(fields, gated=False, bias=fields.flag("mlp_bias", False))
    return uniform(fields, grouped(fields, qkv_bias=bias, output_bias=bias), ffn)


def bitnet(fields: Fields) -> Architecture:
    """Norms before the output projection of attention and before the last matrix of the FFN."""
    bias, ffn = fields.flag("attention_bias", False), dense(fields)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    return uniform(fields, attention, ffn, small=fields.width + ffn.width, norms=2)


def cwm(fields: Fields) -> Architecture:
    """Windows in three of four blocks."""
    return uniform(fields, grouped(fields), dense(fields, bias=fields.flag("mlp_bias", False)), kinds=first_of(4))


def diffllama(fields: Fields) -> Architecture:
    """Differential attention: the difference of two softmaxes, weighted by four learned vectors."""
    bias = fields.flag("attention_bias", False)
    plain = grouped(fields, qkv_bias=bias, output_bias=bias)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, extra_parameters=4 * plain.head_width)
    note = "differential attention is priced as plain attention"
    return uniform(fields, attention, dense(fields), note=note)


def doge(fields: Fields) -> Architecture:
    """An attention mask computed from the values; learned weights on the residuals."""
    if fields.flag("is_moe", False):
        raise fields.fail(": is_moe is not supported yet")
    fields.ignore("num_experts", "num_experts_per_tok", "keep_window_size")
    bias = fields.flag("attention_bias", False)
    kv_heads = fields.count("num_key_value_heads", default=fields.count("num_attention_heads"))
    attention = grouped(
        fields, qkv_bias=bias, output_bias=bias, qk_norm="head", extra_parameters=kv_heads + (kv_heads * bias),
    )  # fmt: skip
    mask = kv_heads * kv_heads * attention.head_width
    ffn = FeedForward(width=fields.count("intermediate_size"), bias=fields.flag("mlp_bias", False))
    return uniform(fields, attention, ffn, small=2 * fields.width + mask)


def helium(fields: Fields) -> Architecture:
    """Llama with a square output projection in attention."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias)
    if attention.query_width != fields.width:
        raise fields.fail(
            ": head_dim x num_attention_heads other than hidden_size is not supported for this model_type"
        )
    return uniform(fields, attention, dense(fields, bias=fields.flag("mlp_bias", False)))


def hyperclovax(fields: Fields) -> Architecture:
    """Post-norms after attention and FFN as well, unless disabled."""
    bias = fields.flag("attention_bias", False)
    norms = 4 if fields.flag("use_post_norm", True) else 2
    ffn = dense(fields, bias=fields.flag("mlp_bias", False))
    return uniform(fields, grouped(fields, qkv_bias=bias, output_bias=bias), ffn, norms=norms)


def jais2(fields: Fields) -> Architecture:
    """Layer norms, biases, ungated FFN."""
    bias = fields.flag("attention_bias", True)
    ffn = dense(fields, gated=False, bias=fields.flag("mlp_bias", True))
    return uniform(fields, grouped(fields, qkv_bias=bias, output_bias=bias), ffn, norm_bias=True)


def nanochat(fields: Fields) -> Architecture:
    """Norms without learned scales, ungated FFN."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    return uniform(fields, attention, dense(fields, gated=False), norms=0, final_norm=False)


def granite_swa(fields: Fields) -> Architecture:
    """Sinks, windows in three of four blocks, a rotary base per block."""
    fields.ignore("layer_rope_theta")
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, sinks=True)
    return uniform(fields, attention, dense(fields, bias=fields.flag("mlp_bias", False)), kinds=first_of(4))


def vaultgemma(fields: Fields) -> Architecture:
    """Gemma 2 with two norms per block."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, head_width=fields.count("head_dim", default=256))
    return uniform(fields, attention, dense(fields), kinds=every_so_often(2), tied=True)


def latent_dense(fields: Fields) -> Architecture:
    """MiniCPM3, Youtu: DeepSeek's latent attention with a dense FFN."""
    fields.ignore("dim_model_base", "scale_depth", "scale_emb")  # factors of MiniCPM's parametrisation
    ffn = dense(fields, bias=fields.flag("mlp_bias", False))
    return stacked(fields, [latent(fields)] * fields.depth, lambda i: ffn, tied=True)


def persimmon(fields: Fields) -> Architecture:
    """Biases everywhere, QK norms, ungated FFN."""
    qk_norm = "biased" if fields.flag("qk_layernorm", True) else ""
    attention = grouped(fields, qkv_bias=True, output_bias=True, qk_norm=qk_norm)
    return uniform(fields, attention, dense(fields, gated=False, bias=True), norm_bias=True)


def modernbert(fields: Fields) -> Architecture:
    """ModernBERT's decoder: no norm before the first attention, a dense layer before the head."""
    width = fields.width
    near = fields.count("local_attention", default=128) // 2
    fields = fields.with_defaults({"sliding_window": near})
    if fields.flag("norm_bias", False) or fields.flag("mlp_bias", False) or fields.flag("attention_bias", False):
        raise fields.fail(": norm_bias, mlp_bias and attention_bias are not supported for this model_type")
    period = fields.count("global_attn_every_n_layers", default=3)
    head = width * width + width + (fields.count("vocab_size") if fields.flag("decoder_bias", True) else 0)
    ffn = FeedForward(width=fields.count("intermediate_size"))
    # The first block has one norm less; the embedding has a norm instead.
    return uniform(fields, grouped(fields), ffn, kinds=first_of(period), tied=True, extra=head)


def molmo2(fields: Fields) -> Architecture:
    """Molmo 2: norms on queries and keys; the embedding has rows for images that the head lacks."""
    fields.ignore("norm_after", "rope_scaling_layers", "qk_norm_type")
    kinds = {"qwen3": "head", "olmo": "all"}
    kind = fields.value("qk_norm_type") or "qwen3"
    if kind not in kinds:
        raise fields.fail(f": qk_norm_type {shown(kind)} is not qwen3 or olmo")
    rows = fields.count("additional_vocab_size", default=0, least=0)
    attention = grouped(fields, qkv_bias=fields.flag("attention_bias", False), qk_norm=kinds[kind])
    return uniform(fields, attention, dense(fields), extra=rows * fields.width)


def muse_glimmer(fields: Fields) -> Architecture:
    """Muse Glimmer: gated attention output, pre- and post-norms, QK norms without scales, windows."""
    fields.refuse("attention_bias")
    fields.ignore("layer_rope_theta", "post_norm_eps")
    return uniform(fields, grouped(fields, output_gate=True), dense(fields), norms=4)
