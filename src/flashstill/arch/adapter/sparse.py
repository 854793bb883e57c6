"""Configurations of a dense model's mixture of experts, and of a mixture's dense counterpart.

A configuration of the other family takes over every field that both families have, except those of the FFN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashstill.arch.adapter.edit import Changes, without_weights
from flashstill.arch.adapter.fields import CHOSEN, DEPTH, EXPERTS
from flashstill.arch.adapter.sizes import (
    FEED_FORWARD,
    HEAD_WIDTH,
    SHARED_COUNT,
    SHARED_WIDTH,
    chosen_neurons,
    head_width,
    kind,
    size,
)
from flashstill.errors import BadInput, UnsupportedArchitecture

MIXTURES = {
    "llama": "glm4_moe", "mistral": "mixtral", "qwen2": "qwen2_moe", "qwen3": "qwen3_moe", "olmo2": "flex_olmo",
    "granite": "granitemoe", "ernie4_5": "ernie4_5_moe", "phi3": "glm4_moe", "cohere2": "cohere2_moe",
    "seed_oss": "glm4_moe",
}  # fmt: skip
"""the mixture of experts that a dense family is upcycled into by default"""
DENSE_RELATIVES = {
    "mixtral": "mistral", "qwen3_moe": "qwen3", "glm4_moe": "llama", "qwen2_moe": "qwen2", "flex_olmo": "olmo2",
    "granitemoe": "granite", "granitemoeshared": "granite", "ernie4_5_moe": "ernie4_5",
    "hunyuan_v1_moe": "hunyuan_v1_dense", "exaone_moe": "exaone4", "cohere2_moe": "cohere2", "dots1": "qwen3",
}  # fmt: skip
"""the dense family of a mixture; others, and those whose attention differs, stay in their class with dense blocks"""
_WHY_NOT = {
    "gemma": "its embeddings are scaled and its norms add one, which no mixture does but Gemma 4, whose blocks differ",
    "gpt2": "its FFN has no gate",
}
_NOT_COMMON = {
    "model_type", "architectures", "intermediate_size", "hidden_act", "mlp_bias", "rope_parameters", "head_dim",
    "auto_map", "per_layer_config",
}  # fmt: skip
_EXPERT_WIDTH = "moe_intermediate_size"
_SCALE = "routed_scaling_factor"


def mixture_of(configuration: Any, into: str = "") -> str:
    """The model_type that a dense model is upcycled into; UnsupportedArchitecture if there is no default for it."""
    dense = kind(configuration) or ""
    if into or dense in MIXTURES:
        return into or MIXTURES[dense]
    family = next((name for name in _WHY_NOT if dense.startswith(name)), "")
    reason = f" ({_WHY_NOT[family]})" if family else ""
    raise UnsupportedArchitecture(
        f"no mixture of experts is known as the relative of {dense}{reason}; name one in student.into, or upcycle"
        f" one of {', '.join(MIXTURES)}"
    )


def upcycled(
    configuration: Any, known: Mapping[str, Any], *, routed: int, per_token: int, shared: int, neurons: int,
    biases: bool, norms: bool,
) -> Changes:  # fmt: skip
    """Fields of a mixture with a dense model's attention. known: default fields of the mixture.

    routed, shared: numbers of experts; per_token: routed experts per token; neurons: hidden width of one expert;
    biases, norms: whether queries and keys have biases, and norms.  Raises BadInput if the mixture has no shared ones.
    """
    own = without_weights(configuration.to_dict())
    fields: Changes = {name: value for name, value in own.items() if name in known and name not in _NOT_COMMON}
    depth = size(configuration, DEPTH)
    rotary = {**(own.get("rope_parameters") or {})}
    partial = own.get("partial_rotary_factor") or rotary.get("partial_rotary_factor") or 1.0
    fields |= {
        HEAD_WIDTH: head_width(configuration),
        "rope_parameters": {**rotary, "partial_rotary_factor": partial} if rotary else own.get("rope_parameters"),
    }
    constant = {
        "qkv_bias": biases, "use_qk_norm": norms, "attention_bias": own.get("attention_bias", biases),
        "norm_topk_prob": True, "n_group": 1,
        "topk_group": 1, "first_k_dense_replace": 0, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "moe_layer_start_index": 0, "moe_layer_end_index": depth - 1, "moe_layer_interval": 1,
        "mlp_layer_types": ["sparse"] * depth, "is_moe_layer": [True] * depth, _SCALE: float(per_token),
        "hidden_act": own.get("hidden_act") or own.get("hidden_activation"), _EXPERT_WIDTH: neurons,
        "intermediate_size": size(configuration, FEED_FORWARD) if _EXPERT_WIDTH in known else neurons,
    }  # fmt: skip
    fields |= {name: value for name, value in constant.items() if name in known}
    for names, count in ((EXPERTS, routed), (CHOSEN, per_token), (SHARED_COUNT, shared)):
        fields |= {name: count for name in names if name in known}
    fields |= {name: shared * neurons for name in SHARED_WIDTH if name in known}
    if shared and not any(name in known for name in (*SHARED_COUNT, *SHARED_WIDTH)):
        raise BadInput(
            f"{known['model_type']} has no shared experts; set student.shared_experts to 0, or into to glm4_moe"
        )
    return fields


def scales_weights(known: Mapping[str, Any]) -> bool:
    """Whether the router's weights are multiplied by a field, so that experts need not be."""
    return _SCALE in known


def dense_relatives(configuration: Any, into: str = "") -> list[str]:
    """The model_types that may be a mixture's dense counterpart: a dense family, then its own with dense blocks."""
    own = kind(configuration) or ""
    return [into] if into else list(dict.fromkeys([DENSE_RELATIVES.get(own, own), own]))


def dense(configuration: Any, known: Mapping[str, Any], feed_forward: int) -> Changes:
    """The fields of a mixture that its dense counterpart also has, with an FFN of `feed_forward` neurons.

    known: default fields of the dense family; feed_forward 0: the neurons that one token uses in the mixture.
    """
    own = without_weights(configuration.to_dict())
    depth = size(configuration, DEPTH)
    same = known["model_type"] == kind(configuration)
    fields = {
        name: value for name, value in own.items()
        if (same or name in known or name == HEAD_WIDTH) and name not in ("model_type", "auto_map")
    }  # fmt: skip
    only_dense = {
        "first_k_dense_replace": depth, "mlp_only_layers": list(range(depth)), "mlp_layer_types": ["dense"] * depth,
        "moe_layer_start_index": depth, "num_dense_layers": depth, "moe_layers": [],
    }  # fmt: skip
    fields |= {name: value for name, value in only_dense.items() if name in known and name in own}
    return {**fields, FEED_FORWARD[0]: feed_forward or chosen_neurons(configuration)}
