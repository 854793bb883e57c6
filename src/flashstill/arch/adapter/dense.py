"""Dense families with RMS norms and gated FFNs: Llama and its descendants."""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch.adapter.build import Kinds, always, dense, every_so_often, grouped, switched, uniform
from flashstill.arch.adapter.fields import Fields
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture
from flashstill.errors import shown


def llama(fields: Fields, tied: bool = False) -> Architecture:
    """Llama, Granite and others with the same fields: biases on all projections or on none."""
    bias = fields.flag("attention_bias", False)
    ffn = dense(fields, bias=fields.flag("mlp_bias", False))
    return uniform(fields, grouped(fields, qkv_bias=bias, output_bias=bias), ffn, tied=tied)


def smollm3(fields: Fields) -> Architecture:
    """Llama with a tied head; blocks without rotary embedding (NoPE) have the same shape."""
    fields.refuse("use_sliding_window")
    fields.ignore("max_window_layers")
    return llama(fields, tied=True)


def mistral(fields: Fields) -> Architecture:
    """Mistral, Ministral, Phi-3: a window in every block if one is set, unless `layer_types` says otherwise."""
    return uniform(fields, grouped(fields), dense(fields), kinds=always("sliding"))


def phi4mm(fields: Fields) -> Architecture:
    """Phi-4 multimodal under the name of its repository: the encoders and the adapters for them are left out."""
    fields.ignore("audio_processor", "embd_layer", "img_processor", "speech_lora", "vision_lora", "full_attn_mod")
    fields.ignore("interpolate_factor", "lm_head_bias")
    shape = mistral(fields)
    return replace(shape, note="text part only: encoders of images and speech, and their adapters, not counted")


def qwen2(fields: Fields) -> Architecture:
    """Biases on query, key and value only."""
    attention = grouped(fields, qkv_bias=True)
    return uniform(switched(fields), attention, dense(fields), kinds=_late_windows(fields))


def qwen3(fields: Fields) -> Architecture:
    """Norms on queries and keys instead of biases."""
    bias = fields.flag("attention_bias", False)
    head_width = fields.count("head_dim", default=128)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="head", head_width=head_width)
    return uniform(switched(fields), attention, dense(fields), kinds=_late_windows(fields))


def _late_windows(fields: Fields) -> Kinds:
    fields.ignore("max_window_layers")
    if not fields.flag("use_sliding_window", False):
        return always("full")
    first = fields.count("max_window_layers", least=0)
    return lambda i: "sliding" if i >= first else "full"


def olmo(fields: Fields) -> Architecture:
    """OLMo 1: norms without learned scales."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    return uniform(fields, attention, dense(fields), norms=0, final_norm=False)


def olmo2(fields: Fields, kinds: Kinds | None = None) -> Architecture:
    """OLMo 2: norms after attention and FFN, and over all query and key heads at once."""
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm="all")
    return uniform(fields, attention, dense(fields), kinds=kinds)


def olmo3(fields: Fields) -> Architecture:
    """OLMo 2 with windows in three of four blocks."""
    return olmo2(fields, every_so_often(4))


def glm(fields: Fields, norms: int = 2) -> Architecture:
    """GLM-4 of 2024: biases on query, key and value."""
    bias = fields.flag("attention_bias", True)
    attention = grouped(fields, qkv_bias=bias, head_width=fields.count("head_dim", default=128))
    return uniform(fields, attention, dense(fields), norms=norms)


def glm4(fields: Fields) -> Architecture:
    """GLM-4 of 2025: norms before and after attention and FFN."""
    return glm(fields, norms=4)


def glm_ocr(fields: Fields) -> Architecture:
    """GLM-OCR: GLM-4 of 2025 without biases."""
    return uniform(fields, grouped(fields), dense(fields), norms=4)


def exaone4(fields: Fields) -> Architecture:
    """QK norms; windows follow a pattern, given as a period or as letters such as LLLG."""
    predicted = fields.count("num_nextn_predict_layers", default=0, least=0)
    return uniform(
        fields, grouped(fields, qk_norm="head"), dense(fields), kinds=lettered(fields), mtp_layers=predicted
    )  # fmt: skip


def lettered(fields: Fields) -> Kinds:
    """Windows by a period, or by letters such as LLLG; none if there is no window."""
    pattern = fields.value("sliding_window_pattern")
    if fields.value("sliding_window") is None:
        return always("full")
    if not isinstance(pattern, str):
        return every_so_often(fields.count("sliding_window_pattern", default=4, least=0))
    if not pattern or set(pattern) - set("LG"):
        raise fields.fail(f": sliding_window_pattern is {shown(pattern)}, not letters L (local) and G (global)")
    return lambda i: "sliding" if pattern[i % len(pattern)] == "L" else "full"


def hunyuan(fields: Fields) -> Architecture:
    """Hunyuan dense: norms on queries and keys, after the rotation."""
    bias = fields.flag("attention_bias", False)
    qk_norm = "head" if fields.flag("use_qk_norm", True) else ""
    attention = grouped(fields, qkv_bias=bias, output_bias=bias, qk_norm=qk_norm)
    # Published configs contain num_experts = 1, and of older code attention_head_dim beside head_dim.
    fields.require("num_experts", 1)
    fields.require("attention_head_dim", attention.head_width)
    fields.refuse("use_cla", "add_classification_head")
    fields.ignore("cla_share_factor", "org_vocab_size", "class_num", "dense_list")
    # Of a multimodal model, and of MLA, which is not used.
    fields.ignore("anyres_pooling_size", "num_media_embeds", "pool_type", "query_key_norm", "use_rotary_pos_emb")
    fields.refuse("use_mla")
    return uniform(fields, attention, FeedForward(width=fields.count("intermediate_size")))


def seed_oss(fields: Fields) -> Architecture:
    """Biases on query, key and value, and a separate switch for the output bias."""
    attention = grouped(
        fields,
        qkv_bias=fields.flag("attention_bias", True),
        output_bias=fields.flag("attention_out_bias", False),
        head_width=fields.count("head_dim", default=128),
    )
    return uniform(fields, attention, dense(fields, bias=fields.flag("mlp_bias", False)))


def ernie(fields: Fields) -> Architecture:
    """ERNIE 4.5 dense: one flag for all biases, tied head."""
    bias = fields.flag("use_bias", False)
    attention = grouped(
        fields, qkv_bias=bias, output_bias=bias, head_width=fields.count("head_dim", default=128)
    )  # fmt: skip
    return uniform(fields, attention, dense(fields, bias=bias), tied=True)
