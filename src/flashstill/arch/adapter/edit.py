"""Configurations of students: a teacher's made shallower or narrower, dense ones made sparse and back, new ones.

Each function gives fields of a config.json as plain values; `set_fields` brings them into a transformers configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashstill.arch.adapter.fields import DEPTH, HEADS, WIDTH
from flashstill.arch.adapter.sizes import (
    FEED_FORWARD,
    KEY_HEADS,
    VOCABULARY,
    block_kinds,
    chosen_neurons,
    head_width,
    kind,
    size,
    stated_size,
    value,
)
from flashstill.errors import BadInput, UnsupportedArchitecture

Changes = dict[str, Any]
OF_ITS_WEIGHTS = (
    "architectures",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "_name_or_path",
    "quantization_config",
)
"""fields that say where weights come from and how they are stored, not what the model is"""
UPCYCLED_KINDS = ("llama", "mistral")
DENSE_RELATIVES = {"mixtral": "mistral", "qwen3_moe": "qwen3", "glm4_moe": "llama"}


def set_fields(configuration: Any, changes: Mapping[str, Any]) -> None:
    """In a transformers configuration, in place."""
    for name, new in changes.items():
        setattr(configuration, name, new)


def without_weights(fields: Mapping[str, Any]) -> Changes:
    """The same less `OF_ITS_WEIGHTS`."""
    return {name: content for name, content in fields.items() if name not in OF_ITS_WEIGHTS}


def with_quantization(fields: Mapping[str, Any], scheme: Mapping[str, Any]) -> Changes:
    """The same with weights that are packed in this scheme."""
    return {**fields, "quantization_config": scheme}


def with_vocabulary(fields: Mapping[str, Any], vocabulary: int) -> Changes:
    """The same with so many tokens; BadInput where the fields state another number."""
    stated = stated_size(fields, VOCABULARY, "the student")
    if stated not in (None, vocabulary):
        raise BadInput(f"the student has a vocabulary of {stated}, the teacher {vocabulary}; leave it out")
    return {**fields, VOCABULARY[0]: vocabulary}


def depth_changes(configuration: Any, kept: Sequence[int]) -> Changes:
    """Of a model with only the blocks `kept`, by their numbers."""
    kinds = block_kinds(configuration)
    listed = {} if kinds is None else {"layer_types": [kinds[index] for index in kept]}
    return {_spelling(configuration, DEPTH): len(kept), **listed}


def width_changes(configuration: Any, *, hidden: int, feed_forward: int, key_heads: int) -> Changes:
    """Of a model of these widths, whose groups of query heads and heads are as large as before."""
    queries_per_key = size(configuration, HEADS) // size(configuration, KEY_HEADS)
    return {
        _spelling(configuration, WIDTH): hidden,
        FEED_FORWARD[0]: feed_forward,
        KEY_HEADS[0]: key_heads,
        _spelling(configuration, HEADS): key_heads * queries_per_key,
        "head_dim": head_width(configuration),
    }


def upcycled(configuration: Any, *, routed: int, per_token: int, shared: int, neurons: int) -> Changes:
    """The fields of `glm4_moe` with a dense model's attention; UnsupportedArchitecture where that is not Llama's.

    routed, shared: experts; per_token: routed ones that a token meets; neurons: of one expert.
    """
    if kind(configuration) not in UPCYCLED_KINDS:
        raise UnsupportedArchitecture(f"only models of Llama's kind are upcycled so far, not {kind(configuration)}")
    same = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "intermediate_size", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "bos_token_id",
        "eos_token_id", "pad_token_id",
    )  # fmt: skip
    return {name: value(configuration, name) for name in same} | {
        "head_dim": head_width(configuration),
        "rope_parameters": {**value(configuration, "rope_parameters"), "partial_rotary_factor": 1.0},
        "attention_bias": bool(value(configuration, "attention_bias")),
        "use_qk_norm": False,
        "norm_topk_prob": True,
        **_experts(routed=routed, per_token=per_token, shared=shared, neurons=neurons),
    }


def _experts(*, routed: int, per_token: int, shared: int, neurons: int) -> Changes:
    """Of `glm4_moe`: experts in every block, weights that sum to their number, no groups of experts."""
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


def dense_relative(configuration: Any) -> str:
    """The architecture that is a sparse one without its experts, by its name; UnsupportedArchitecture."""
    relative = DENSE_RELATIVES.get(kind(configuration) or "")
    if relative is None or value(configuration, "use_qk_norm"):
        known = ", ".join(DENSE_RELATIVES)
        raise UnsupportedArchitecture(f"no dense relative of {kind(configuration)} is known; known: {known}")
    return relative


def dense(configuration: Any, fields: Mapping[str, Any], known: Mapping[str, Any], feed_forward: int) -> Changes:
    """Those `fields` of a sparse model that its dense relative knows, with an FFN of `feed_forward` neurons.

    feed_forward 0: as many as a token meets in the sparse one.
    """
    kept = {
        name: content for name, content in without_weights(fields).items() if name in known and name != "model_type"
    }
    return {**kept, FEED_FORWARD[0]: feed_forward or chosen_neurons(configuration)}


def new_llama(
    *, width: int, depth: int, heads: int, key_heads: int, feed_forward: int, context: int, tied: bool = False
) -> Changes:
    """The fields of a Llama, vocabulary left out. context: its longest text, tokens; tied: head and embedding."""
    return {
        "model_type": "llama", "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads,
        "num_key_value_heads": key_heads, "intermediate_size": feed_forward, "max_position_embeddings": context,
        "tie_word_embeddings": tied, "rope_theta": 10_000.0,
    }  # fmt: skip


def with_end(fields: Mapping[str, Any], end: int) -> Changes:
    """The same for text in which one token ends a document, none begins it and none fills it up."""
    return {**fields, "bos_token_id": None, "eos_token_id": end, "pad_token_id": None}


def new_sparse(
    *, width: int, depth: int, heads: int, context: int, routed: int, per_token: int, shared: int, neurons: int
) -> Changes:
    """The fields of the architecture that students are upcycled into; tied embeddings, as many keys as queries."""
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
    """The name under which a configuration states a size."""
    return next((name for name in names if value(configuration, name) is not None), names[0])
