"""Configurations of students: a teacher's made shallower or narrower, or new ones.

Each function returns config.json fields as plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashstill.arch.adapter.fields import DEPTH, HEADS, WIDTH
from flashstill.arch.adapter.per_layer import remaining
from flashstill.arch.adapter.sizes import (
    FEED_FORWARD,
    KEY_HEADS,
    KIND,
    VOCABULARY,
    head_width,
    size,
    stated_size,
    value,
)
from flashstill.errors import BadInput

Changes = dict[str, Any]
UNTIED: Changes = {"tie_word_embeddings": False}
"""what a configuration says if the LM head is not the embedding"""
OF_ITS_WEIGHTS = (
    "architectures",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "_name_or_path",
    "quantization_config",
)
"""fields about the origin and storage of the weights, not the architecture"""


UNSCALED: Changes = {"logit_scale": 1.0}
"""fields of a text model that leaves its logits as its head gives them"""


def without_weights(fields: Mapping[str, Any]) -> Changes:
    """`fields` without those in `OF_ITS_WEIGHTS`."""
    return {name: content for name, content in fields.items() if name not in OF_ITS_WEIGHTS}


def text_fields(configuration: Any) -> Changes:
    """Fields of the text part of a transformers configuration, without its kind; whether its head is tied is what the
    whole model says."""
    fields = without_weights(configuration.get_text_config().to_dict())
    fields.pop(KIND, None)
    tied = value(configuration, "tie_word_embeddings")
    return fields if tied is None else {**fields, "tie_word_embeddings": tied}


def with_quantization(fields: Mapping[str, Any], scheme: Mapping[str, Any]) -> Changes:
    """`fields` for weights packed in the quantisation scheme."""
    return {**fields, "quantization_config": scheme}


def with_own_head(fields: Mapping[str, Any]) -> Changes:
    """The fields of a config.json whose head does not share the embedding's weights."""
    return {**fields, "tie_word_embeddings": False}


def with_vocabulary(fields: Mapping[str, Any], vocabulary: int) -> Changes:
    """`fields` with this vocabulary size; BadInput if they state another."""
    stated = stated_size(fields, VOCABULARY, "the student")
    if stated not in (None, vocabulary):
        raise BadInput(f"the student has a vocabulary of {stated}, the teacher {vocabulary}; leave it out")
    return {**fields, VOCABULARY[0]: vocabulary}


def depth_changes(configuration: Any, kept: Sequence[int]) -> Changes:
    """Fields of a model with only the blocks `kept` (ascending indices): its depth and all that it says of layers."""
    fields = (
        configuration
        if isinstance(configuration, Mapping)
        else (configuration.to_dict() if hasattr(configuration, "to_dict") else vars(configuration))
    )
    return remaining(fields, size(configuration, DEPTH), kept)


def width_changes(configuration: Any, *, hidden: int, feed_forward: int, key_heads: int) -> Changes:
    """Fields of a model with these widths; head width and query heads per KV head are unchanged."""
    queries_per_key = size(configuration, HEADS) // size(configuration, KEY_HEADS)
    return {
        _spelling(configuration, WIDTH): hidden,
        FEED_FORWARD[0]: feed_forward,
        KEY_HEADS[0]: key_heads,
        _spelling(configuration, HEADS): key_heads * queries_per_key,
        "head_dim": head_width(configuration),
    }


def _experts(*, routed: int, per_token: int, shared: int, neurons: int) -> Changes:
    """Expert fields of `glm4_moe`: experts in every block, routing weights summing to experts per token, no groups."""
    return {
        "first_k_dense_replace": 0,
        "n_routed_experts": routed,
        "num_experts_per_tok": per_token,
        "n_shared_experts": shared,
        "moe_intermediate_size": neurons,
        "routed_scaling_factor": float(per_token),
        "n_group": 1,
        "topk_group": 1,
    }


def new_llama(
    *, width: int, depth: int, heads: int, key_heads: int, feed_forward: int, context: int, tied: bool = False
) -> Changes:
    """Fields of a Llama, without the vocabulary. context: maximum tokens; tied: head shares the embedding."""
    return {
        "model_type": "llama", "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads,
        "num_key_value_heads": key_heads, "intermediate_size": feed_forward, "max_position_embeddings": context,
        "tie_word_embeddings": tied, "rope_theta": 10_000.0,
    }  # fmt: skip


HEAD = 16
"""dimensions of an attention head of a small Llama"""


def small_llama(*, width: int, depth: int, context: int) -> Changes:
    """Fields of a Llama to train from scratch: heads of 16 (width: a multiple), an FFN of 8/3 of the width, rounded up
    to sixteens, tied embeddings, weights drawn with a standard deviation of width^-1/2 (0.02 starves narrow models)."""
    fields = new_llama(
        width=width, depth=depth, heads=width // HEAD, key_heads=width // HEAD,
        feed_forward=HEAD * -(-width * 8 // (3 * HEAD)), context=context, tied=True,
    )  # fmt: skip
    return {**fields, "head_dim": HEAD, "initializer_range": width**-0.5}


def with_end(fields: Mapping[str, Any], end: int) -> Changes:
    """`fields` with this end-of-document token and no begin or padding token."""
    return {**fields, "bos_token_id": None, "eos_token_id": end, "pad_token_id": None}


def new_sparse(
    *, width: int, depth: int, heads: int, context: int, routed: int, per_token: int, shared: int, neurons: int
) -> Changes:
    """Fields of the architecture used for upcycled students; tied embeddings, as many KV heads as query heads."""
    return {
        "model_type": "glm4_moe",
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": width // heads,
        "intermediate_size": (per_token + shared) * neurons,
        **_experts(routed=routed, per_token=per_token, shared=shared, neurons=neurons),
        "tie_word_embeddings": True,
        "max_position_embeddings": context,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
    }


def _spelling(configuration: Any, names: tuple[str, ...]) -> str:
    """The field name that a configuration uses for a size."""
    return next((name for name in names if value(configuration, name) is not None), names[0])
