"""The configuration of a drafting head: that of a Llama of one block, as the engines read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flashstill.arch.adapter.fields import CONTEXT, DEPTH, HEADS, WIDTH
from flashstill.arch.adapter.sizes import FEED_FORWARD, KEY_HEADS, VOCABULARY, head_width, size, stated_size, value
from flashstill.errors import BadInput

HEAD_WIDTH = 64
"""width of an attention head of a new drafting head, unless the model is narrower"""
EPSILON, THETA = 1e-6, 10_000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadShape:
    """Sizes of a drafting head: of its target (width, vocabulary, positions) and of its block."""

    width: int
    vocabulary: int
    positions: int
    feed_forward: int
    heads: int
    key_heads: int
    head_width: int
    epsilon: float = EPSILON
    theta: float = THETA


def new_shape(width: int, vocabulary: int, positions: int, feed_forward: int = 0) -> HeadShape:
    """The shape of a new head for a target. feed_forward: neurons, 0 for 8/3 of the width."""
    heads = max(1, width // HEAD_WIDTH)
    return HeadShape(
        width=width, vocabulary=vocabulary, positions=positions, feed_forward=feed_forward or -(-8 * width // 24) * 8,
        heads=heads, key_heads=heads, head_width=HEAD_WIDTH if width >= HEAD_WIDTH else width // 2 * 2,
    )  # fmt: skip


def fields_of(shape: HeadShape) -> dict[str, Any]:
    """The fields of its config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": 1,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.theta,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
    }


def shape_of(fields: Mapping[str, Any], of: str) -> HeadShape:
    """The shape in a config.json; BadInput if it is not that of one Llama block. of: its path, for messages."""
    if size(fields, DEPTH, of) != 1:
        raise BadInput(f"{of} has {size(fields, DEPTH, of)} blocks; drafting heads of one block are known")
    activation = value(fields, "hidden_act") or "silu"
    if activation not in ("silu", "swish") or value(fields, "attention_bias") or value(fields, "mlp_bias"):
        raise BadInput(f"{of} is no block of a Llama: it has biases, or the activation {activation}")
    scaled = value(fields, "rope_scaling") or {}
    rotary = {**(value(fields, "rope_parameters") or {}), **scaled}
    if rotary.get("rope_type", rotary.get("type", "default")) != "default":
        raise BadInput(f"{of} stretches its rotary positions, which a drafting head here does not")
    own, target = value(fields, "draft_vocab_size"), size(fields, VOCABULARY, of)
    if own not in (None, target):
        raise BadInput(
            f"{of} drafts from {own:,} tokens of its own out of the target's {target:,} (draft_vocab_size), as EAGLE-3"
            " does; drafting heads that share their target's vocabulary are known"
        )
    epsilon = value(fields, "rms_norm_eps")
    theta = value(fields, "rope_theta") or rotary.get("rope_theta") or THETA
    heads = size(fields, HEADS, of)
    shape = HeadShape(
        width=size(fields, WIDTH, of), vocabulary=size(fields, VOCABULARY, of),
        positions=stated_size(fields, CONTEXT, of) or 2048, feed_forward=size(fields, FEED_FORWARD, of), heads=heads,
        key_heads=stated_size(fields, KEY_HEADS, of) or heads, head_width=head_width(fields),
        epsilon=float(EPSILON if epsilon is None else epsilon), theta=float(theta),
    )  # fmt: skip
    if shape.heads % shape.key_heads or shape.head_width % 2:
        raise BadInput(
            f"{of}: {shape.heads} heads of width {shape.head_width} do not share {shape.key_heads} keys evenly"
        )
    return shape
