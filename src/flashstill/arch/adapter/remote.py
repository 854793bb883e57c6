"""Dense families whose checkpoints come with their own code: read from the fields that vLLM reads, the code never run.

transformers has no class for them, so no defaults stand behind absent fields; those named here are vLLM's.
"""

from __future__ import annotations

import math
from typing import Any

from flashstill.arch.adapter.build import NO_FFN, always, assemble, dense, grouped, routed, switched, uniform
from flashstill.arch.adapter.classic import every_head
from flashstill.arch.adapter.dense import qwen2
from flashstill.arch.adapter.experts import predictors
from flashstill.arch.adapter.fields import CHOSEN, HEADS, Fields
from flashstill.arch.attention import Attention
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture, Layer
from flashstill.errors import shown

_ROUNDED = 256
"""multiple to which Puzzle models round the width of an FFN"""


def renamed(fields: Fields, **names: str) -> Fields:
    """The config with fields under the names of others: renamed(fields, vocab_size="padded_vocab_size")."""
    given = {usual: fields.value(own) for usual, own in names.items()}
    return fields.changed({usual: value for usual, value in given.items() if value is not None})


def chatglm(fields: Fields) -> Architecture:
    """ChatGLM2 and 3, GLM-4-9B and its vision models: biases on query, key and value, few key/value heads."""
    fields.refuse("position_encoding_2d", "pre_seq_len", "apply_residual_connection_post_layernorm")
    fields.require("rmsnorm", True)
    fields.ignore("hidden_dropout", "padded_vocab_size", "num_layers", "kv_channels", "multi_query_group_num")
    fields.ignore("original_rope", "fp32_residual_connection", "bias_dropout_fusion")
    own = renamed(fields, vocab_size="padded_vocab_size", num_hidden_layers="num_layers", head_dim="kv_channels")
    grouped_heads = own.flag("multi_query_attention", False)
    bias = own.flag("add_bias_linear", False)
    attention = grouped(
        own, qkv_bias=bias or own.flag("add_qkv_bias", False), output_bias=bias,
        kv_heads=own.count("multi_query_group_num") if grouped_heads else own.count(*HEADS),
    )  # fmt: skip
    ffn = FeedForward(width=own.count("ffn_hidden_size"), bias=bias)
    return uniform(own, attention, ffn, final_norm=own.flag("post_layer_norm", True))


def qwen(fields: Fields) -> Architecture:
    """Qwen 1: biases on query, key and value; the stated FFN width is that of both halves of the gated FFN."""
    fields.require("no_bias", True)
    fields.ignore("use_dynamic_ntk", "use_logn_attn", "use_flash_attn", "rotary_pct", "onnx_safe", "fp32")
    wide = fields.count("intermediate_size")
    if wide % 2:
        raise fields.fail(f": intermediate_size {wide} is not even")
    attention = grouped(
        renamed(fields, head_dim="kv_channels"), qkv_bias=True, kv_heads=every_head(fields),
    )  # fmt: skip
    return uniform(fields, attention, FeedForward(width=wide // 2))


def baichuan(fields: Fields) -> Architecture:
    """Baichuan 1 and 2: Llama with one matrix for queries, keys and values; the 13B models have ALiBi positions."""
    fields.ignore("z_loss_weight")
    return uniform(fields, grouped(fields, kv_heads=every_head(fields)), dense(fields))


def internlm(fields: Fields) -> Architecture:
    """InternLM 1 (multi-head) and 2 (grouped): `bias` is that of attention alone."""
    bias = fields.flag("bias", False)
    return uniform(fields, grouped(fields, qkv_bias=bias, output_bias=bias), dense(fields))


def exaone(fields: Fields) -> Architecture:
    """EXAONE 3 and 3.5: Llama under other names."""
    bias = fields.flag("attention_bias", False)
    own = renamed(fields, num_hidden_layers="num_layers")
    ffn = dense(own, bias=own.flag("mlp_bias", False))
    return uniform(own, grouped(own, qkv_bias=bias, output_bias=bias), ffn)


def orion(fields: Fields) -> Architecture:
    """Orion: Llama with layer norms."""
    return uniform(fields, grouped(fields), dense(fields), norm_bias=True)


def mimo(fields: Fields) -> Architecture:
    """MiMo-7B: Qwen2 with modules that predict further tokens."""
    fields.refuse("use_sliding_window")
    fields.ignore("max_window_layers")
    attention = grouped(fields, qkv_bias=fields.flag("attention_bias", True))
    return uniform(switched(fields), attention, dense(fields), kinds=always("full"), mtp_layers=predictors(fields))


def dots_ocr(fields: Fields) -> Architecture:
    """dots.ocr: Qwen2, with its biases stated."""
    fields.require("attention_bias", True)
    return qwen2(fields)


def minicpm(fields: Fields) -> Architecture:
    """MiniCPM 1, 2 and 4: Llama with scaled residuals, tied unless the config says otherwise; an MoE variant."""
    fields.ignore("scale_emb", "scale_depth", "dim_model_base", "mup_denominator", "use_mup", "sparse_config")
    fields.ignore("num_experts", *CHOSEN)
    bias = fields.flag("attention_bias", False)
    attention = grouped(fields, qkv_bias=bias, output_bias=bias)
    some = fields.count("num_experts", default=0, least=0)
    ffn = routed(fields, width=("intermediate_size",)) if some else FeedForward(width=fields.count("intermediate_size"))
    note = "sparse attention over long contexts (InfLLM) is left out" if fields.value("sparse_config") else ""
    return uniform(fields, attention, ffn, tied=True, note=note)


def pangu(fields: Fields) -> Architecture:
    """openPangu Embedded: Llama with biases on attention; `qkv_bias` is separate where it is stated."""
    fields.refuse("interleaved_sliding_window", "param_sink_number", "kv_lora_rank", "sandwich_norm")
    bias = fields.flag("attention_bias", False) or fields.flag("bias", False)
    attention = grouped(fields, qkv_bias=fields.flag("qkv_bias", bias), output_bias=bias)
    return uniform(fields, attention, dense(fields, bias=fields.flag("mlp_bias", False)))


def openelm(fields: Fields) -> Architecture:
    """OpenELM: every block has heads, key/value heads and an FFN of its own (arXiv 2404.14619, section 2)."""
    fields.ignore("qkv_multipliers", "num_gqa_groups", "rope_freq_constant", "rope_max_length", "activation_fn_name")
    fields.ignore("model_dim", "num_transformer_layers", "max_context_length", "normalization_layer_name")
    own = renamed(
        fields, hidden_size="model_dim", num_hidden_layers="num_transformer_layers",
        max_position_embeddings="max_context_length", tie_word_embeddings="share_input_output_layers",
    )  # fmt: skip
    width, divisor = own.width, own.count("ffn_dim_divisor", default=256)
    qk_norm, gated = own.flag("normalize_qk_projections", True), own.flag("ffn_with_glu", True)
    listed = [_each_block(own, name) for name in ("num_query_heads", "num_kv_heads", "ffn_multipliers")]
    layers = []
    for heads, kv_heads, multiple in zip(*listed, strict=True):
        attention = grouped(
            own.changed({"num_attention_heads": heads}), kv_heads=kv_heads, qk_norm="head" if qk_norm else "",
            head_width=own.count("head_dim"),
        )  # fmt: skip
        ffn = FeedForward(width=_divisible(multiple * width, divisor), gated=gated)
        layers.append(Layer(count=1, attention=attention, ffn=ffn, norm_parameters=2 * width))
    return assemble(own, layers, tied=True)


def _each_block(fields: Fields, name: str) -> list[Any]:
    """A list of one positive number for each block."""
    listed = fields.value(name)
    if not isinstance(listed, list) or len(listed) != fields.depth:
        raise fields.fail(f": {name} does not list one number for each of the {fields.depth} layers")
    whole = name != "ffn_multipliers"
    for number in listed:
        if isinstance(number, bool) or not isinstance(number, int if whole else int | float) or not 0 < number < 1e5:
            raise fields.fail(f": {name} has {shown(number)}, not a positive {'whole ' if whole else ''}number")
    return listed


def _divisible(value: float, divisor: int) -> int:
    """The nearest multiple of `divisor`, one more where that is less than nine tenths of the value."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * value else nearest + divisor


def nemotron_nas(fields: Fields) -> Architecture:
    """Llama-Nemotron Super and Ultra (Puzzle): attention and FFN of every block are of a size of their own, or absent.

    A block without attention is joined to the one before it, as its FFN follows that block's.
    """
    fields.ignore("intermediate_size", "num_key_value_heads", "block_configs")
    listed = fields.value("block_configs")
    if not isinstance(listed, list) or len(listed) != fields.depth:
        raise fields.fail(f": block_configs does not list one entry for each of the {fields.depth} layers")
    bias, width, heads = fields.flag("attention_bias", False), fields.width, fields.count(*HEADS)
    plain = fields.changed({"block_configs": None, "num_key_value_heads": None})
    blocks: list[tuple[Attention, list[int]]] = []
    for i, entry in enumerate(listed):
        group, inside = _puzzle_part(fields, entry, "attention", i), _puzzle_part(fields, entry, "ffn", i)
        size = group.value("n_heads_in_group")
        if not group.flag("no_op", False):
            group.refuse("window_length", "num_sink_tokens")
            if type(size) is not int or size < 1 or heads % size:
                raise fields.fail(f": n_heads_in_group {shown(size)} of layer {i} does not divide {heads} heads")
            blocks.append((grouped(plain, qkv_bias=bias, output_bias=bias, kv_heads=heads // size), []))
        elif not blocks:
            raise fields.fail(": its first layer has no attention, which is not supported")
        neurons = 0 if inside.flag("no_op", False) else _puzzle_width(fields, inside.value("ffn_mult"), i)
        if neurons:
            blocks[-1][1].append(neurons)
    layers = []
    for attention, widths in blocks:
        # Consecutive FFNs are counted as one of their summed width: as many weights, fewer and wider products.
        joined = FeedForward(width=sum(widths), bias=fields.flag("mlp_bias", False)) if widths else NO_FFN
        layers.append(Layer(count=1, attention=attention, ffn=joined, norm_parameters=(1 + len(widths)) * width))
    return assemble(plain, layers, note="FFNs that follow each other without attention are priced as one")


def _puzzle_part(fields: Fields, entry: Any, name: str, layer: int) -> Fields:
    inner = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(inner, dict):
        raise fields.fail(f": block_configs has no {name} for layer {layer}")
    part = Fields(inner, f"{fields.name} (block_configs {layer} {name})")
    part.refuse("replace_with_linear", "sparsify")
    return part


def _puzzle_width(fields: Fields, multiple: Any, layer: int) -> int:
    """Two thirds of a multiple of the model width, rounded up to a multiple of 256 neurons."""
    if isinstance(multiple, bool) or not isinstance(multiple, int | float) or not 0 < multiple < 1000:
        raise fields.fail(f": ffn_mult {shown(multiple)} of layer {layer} is not a number between 0 and 1000")
    return _ROUNDED * math.ceil(int(2 * multiple * fields.width / 3) / _ROUNDED)
