"""Older families: GPT, GPT-Neo, CTRL, XGLM, MPT, and BERT variants used as decoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flashstill.arch.adapter.build import always, dense, grouped, uniform
from flashstill.arch.adapter.classic import every_head
from flashstill.arch.adapter.fields import CONTEXT, HEADS, Fields
from flashstill.arch.feedforward import FeedForward
from flashstill.arch.model import Architecture


def openai_gpt(fields: Fields) -> Architecture:
    """GPT 1: norms after attention and FFN, no final norm."""
    width = fields.width
    ffn = FeedForward(width=4 * width, gated=False, bias=True)
    attention = grouped(fields, qkv_bias=True, output_bias=True, kv_heads=every_head(fields))
    position = fields.count(*CONTEXT) * width
    return uniform(fields, attention, ffn, norm_bias=True, tied=True, final_norm=False, position=position)


def ctrl(fields: Fields) -> Architecture:
    """CTRL: fixed positions, a bias on the head."""
    ffn = FeedForward(width=fields.count("dff"), gated=False, bias=True)
    attention = grouped(fields, qkv_bias=True, output_bias=True, kv_heads=every_head(fields))
    return uniform(fields, attention, ffn, norm_bias=True, tied=True, extra=fields.count("vocab_size"))


def gpt_neo(fields: Fields) -> Architecture:
    """GPT-Neo: bias only on the attention output, windows in every second block."""
    fields = fields.changed({"num_hidden_layers": fields.value("num_layers", "num_hidden_layers")})
    width, heads = fields.width, fields.count("num_heads", *HEADS)
    fields = fields.changed({HEADS[0]: heads, "sliding_window": fields.value("window_size")})
    fields.ignore("attention_types", "window_size")
    listed = fields.words("attention_layers", ("global", "local")) or _pattern(fields)
    ffn = FeedForward(width=fields.count("intermediate_size", default=4 * width), gated=False, bias=True)
    return uniform(
        fields,
        grouped(fields, output_bias=True, kv_heads=heads),
        ffn,
        kinds=lambda i: "sliding" if listed[i] == "local" else "full",
        norm_bias=True,
        tied=True,
        position=fields.count(*CONTEXT) * width,
    )


def _pattern(fields: Fields) -> list[str]:
    """The kinds of blocks from attention_types: [[["global", "local"], 12]]."""
    listed: list[str] = []
    for group in fields.value("attention_types") or [[["global", "local"], (fields.depth + 1) // 2]]:
        if (
            not isinstance(group, list)
            or len(group) != 2
            or not isinstance(group[0], list)
            or type(group[1]) is not int
        ):
            raise fields.fail(": attention_types is not a list of kinds and how often they come")
        listed += group[0] * min(group[1], fields.depth)
    if len(listed) != fields.depth or any(word not in ("global", "local") for word in listed):
        raise fields.fail(": attention_types does not name global or local for each layer")
    return listed


def gpt_neox_japanese(fields: Fields) -> Architecture:
    """GPT-NeoX-Japanese: only one bias, after the attention of the last block."""
    width = fields.width
    ffn = FeedForward(width=fields.count("intermediate_multiple_size", default=4) * width, gated=False)
    attention = grouped(fields, kv_heads=every_head(fields))
    return uniform(fields, attention, ffn, norm_bias=True, tied=True, extra=width)


def xglm(fields: Fields) -> Architecture:
    """XGLM: fixed positions, biases everywhere."""
    heads = fields.count("attention_heads", *HEADS)
    fields = fields.changed({HEADS[0]: heads, "num_hidden_layers": fields.value("num_layers", "num_hidden_layers")})
    ffn = FeedForward(width=fields.count("ffn_dim"), gated=False, bias=True)
    attention = grouped(fields, qkv_bias=True, output_bias=True, kv_heads=heads)
    return uniform(fields, attention, ffn, norm_bias=True, tied=True)


def biogpt(fields: Fields) -> Architecture:
    """BioGPT: learned positions with two extra rows."""
    attention = grouped(fields, qkv_bias=True, output_bias=True, kv_heads=every_head(fields))
    position = (fields.count(*CONTEXT) + 2) * fields.width
    ffn = dense(fields, gated=False, bias=True)
    return uniform(fields, attention, ffn, norm_bias=True, tied=True, position=position)


def mpt(fields: Fields) -> Architecture:
    """MPT: ALiBi attention, no biases on projections."""
    inner = fields.part("attn_config")
    inner.require("qk_ln", False)
    inner.require("attn_type", "multihead_attention")
    inner.ignore("alibi", "alibi_bias_max", "attn_impl", "attn_uses_sequence_id", "prefix_lm", "softmax_scale")
    fields.require("no_bias", True)
    fields.require("expansion_ratio", 4)
    fields.ignore("learned_pos_emb", "embedding_fraction", "init_config", "init_device", "verbose", "ffn_config")
    fields = fields.with_defaults({CONTEXT[0]: fields.value("max_seq_len")})
    ffn = FeedForward(width=4 * fields.width, gated=False)
    return uniform(fields, grouped(fields, kv_heads=every_head(fields)), ffn, tied=True)


def cpmant(fields: Fields) -> Architecture:
    """CPM-Ant: learned position biases between segments, prompt rows in the embedding, untied head."""
    width, heads = fields.width, fields.count(*HEADS)
    segments = fields.count("segment_types", default=32)
    prompts = fields.count("prompt_types", default=32) * fields.count("prompt_length", default=32)
    buckets = segments * segments + fields.count("position_bias_num_buckets", default=512)
    fields.ignore("position_bias_max_distance")
    attention = grouped(fields, kv_heads=heads, head_width=fields.count("dim_head", default=128))
    ffn = FeedForward(width=fields.count("dim_ff"))
    # The input embedding has extra rows for prompts, so it is not tied to the LM head.
    extra = segments * width + prompts * width + buckets * heads
    fields = fields.changed({"tie_word_embeddings": False})
    context = fields.count(*CONTEXT, default=2048)
    return uniform(fields, attention, ffn, extra=extra, context=context)


def bert_like(*, type_rows: bool = True, transform: bool = True, embedding_norm: bool = True, final_norm: bool = False,
) -> Callable[[Fields], Architecture]:  # fmt: skip
    """A reader for BERT and its variants as decoders.

    type_rows: rows of the segment embedding; transform: a dense layer with a norm before the head; embedding_norm: a
    norm on the embedding; final_norm: pre-norm blocks, with a norm after the last block.
    """

    def read(fields: Fields) -> Architecture:
        fields.refuse("use_task_id", "embedding_size", "pooler_fc_size")
        fields.ignore("task_type_vocab_size", "is_decoder", "gradient_checkpointing", "use_labels")
        kind = fields.value("position_embedding_type")
        if kind not in (None, "absolute"):
            raise fields.fail(": position_embedding_type other than absolute is not supported for this model_type")
        width = fields.width
        extra = fields.count("vocab_size")  # bias of the head
        extra += width * fields.count("type_vocab_size", default=2) if type_rows else 0
        extra += width * width + 3 * width if transform else 0
        extra += 2 * width if embedding_norm else 0
        attention = grouped(fields, qkv_bias=True, output_bias=True, kv_heads=every_head(fields))
        architecture = uniform(
            fields, attention, dense(fields, gated=False, bias=True), kinds=always("full"), norm_bias=True, tied=True,
            final_norm=final_norm, position=fields.count(*CONTEXT) * width, extra=extra,
        )  # fmt: skip
        return replace(architecture, note="an encoder, read as the decoder that it can be")

    return read
