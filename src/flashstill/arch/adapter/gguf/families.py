"""model_type -> how llama.cpp calls it and what it has to be told; each entry is proven against llama.cpp itself.

A field that changes what a model computes and has no key in GGUF is refused by name, and so is every field that no
entry reads and that differs from the family's default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flashstill.arch.adapter.fields import CHOSEN, CONTEXT, DEPTH, EXPERTS, HEADS, WIDTH, Config, Fields
from flashstill.arch.adapter.gguf.layout import GgufLayout
from flashstill.arch.adapter.gguf.positions import Metadata, context_without_windows, rotary, windows
from flashstill.errors import UnsupportedArchitecture, unknown

ROPE = "rope_parameters"
SIGMOID = 2  # of llama.cpp's functions of router logits
NO_MATTER = frozenset({
    "_name_or_path", "architectures", "attention_dropout", "attn_pdrop", "auto_map", "bos_token_id",
    "chunk_size_feed_forward", "dtype", "embd_pdrop", "eos_token_id", "id2label", "initializer_range", "label2id",
    "model_type", "output_attentions", "output_hidden_states", "output_router_logits", "pad_token_id", "pretraining_tp",
    "problem_type", "reorder_and_upcast_attn", "resid_pdrop", "return_dict", "router_aux_loss_coef",
    "router_jitter_noise", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
    "summary_use_proj", "torch_dtype", "transformers_version", "use_cache", "is_encoder_decoder",
    "tie_word_embeddings", "vocab_size", "_sliding_window_pattern", "no_rope_layer_interval",
})  # fmt: skip
"""fields that do not change the logits of a forward pass, or that are read for every family"""


def gguf_layout(fields: Config, defaults: Config) -> GgufLayout:
    """The layout of a configuration. fields, defaults: of transformers' configuration of the model and of its class.

    UnsupportedArchitecture for a family that is not proven, or a field that GGUF cannot say.
    """
    name = str(fields.get("model_type"))
    if name not in FAMILIES:
        raise UnsupportedArchitecture(f"cannot export to GGUF: {unknown('model_type', name, FAMILIES)}")
    read = Fields(fields, f"the model ({name})")
    if fields.get("quantization_config"):
        raise read.fail(" has packed weights (quantization_config); export the plain directory, and name a --type")
    layout = FAMILIES[name](read)
    for field, value in read.unread():
        if field not in NO_MATTER and field in defaults and defaults[field] != value:
            raise read.fail(f": {field} is {value!r}, which cannot be said in GGUF")
    return layout


def _decoder(read: Fields, architecture: str, more: Mapping[str, Any] | None = None, **what: Any) -> GgufLayout:
    """A decoder of gated feed-forward layers, RMS norms and rotary embeddings."""
    metadata, notes, head = _sizes(read)
    factors = rotary(read.part(ROPE), read.count(*CONTEXT), head, metadata)
    context_without_windows(read, metadata, notes)
    return _layout(read, architecture, {**metadata, **(more or {})}, rope_factors=factors, notes=tuple(notes), **what)


def _sizes(read: Fields, activation: str = "hidden_act", only: str = "silu") -> tuple[Metadata, list[str], int]:
    """Metadata of widths and counts, an empty list for notes, and the width of a head."""
    if read.value(activation) != only:
        raise read.fail(f": {activation} is {read.value(activation)!r}; llama.cpp has {only} in this architecture")
    width, heads = read.width, read.count(*HEADS)
    head = read.count("head_dim", default=width // heads)
    metadata: Metadata = {
        "block_count": read.depth,
        "embedding_length": width,
        "feed_forward_length": read.count("intermediate_size"),
        "attention.head_count": heads,
        "attention.head_count_kv": read.count("num_key_value_heads", default=heads),
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": float(read.value("rms_norm_eps")),
    }
    read.ignore("attention_bias", "mlp_bias", "qkv_bias")  # what is there is seen from the tensors
    return metadata, [], head


def _layout(read: Fields, architecture: str, metadata: Mapping[str, Any], **what: Any) -> GgufLayout:
    vocabulary = read.count("vocab_size")
    return GgufLayout(
        architecture=architecture, metadata={**metadata, "vocab_size": vocabulary}, blocks=read.depth,
        vocabulary=vocabulary, tied=bool(read.value("tie_word_embeddings")), **what,
    )  # fmt: skip


def _pairs(read: Fields) -> dict[str, int]:
    heads = read.count(*HEADS)
    return {"attn_q": heads, "attn_k": read.count("num_key_value_heads", default=heads)}


def _llama(read: Fields) -> GgufLayout:
    return _decoder(read, "llama", interleaved=_pairs(read))


def _mixtral(read: Fields) -> GgufLayout:
    experts = read.count(*EXPERTS)
    more = {"expert_count": experts, "expert_used_count": read.count(*CHOSEN)}
    return _decoder(read, "llama", more, interleaved=_pairs(read), experts=experts)


def _smollm3(read: Fields) -> GgufLayout:
    rotated = read.value("no_rope_layers")
    if any(bool(uses) == ((place + 1) % 4 == 0) for place, uses in enumerate(rotated)):
        raise read.fail(
            f": no_rope_layers is {rotated}; llama.cpp leaves rotary embeddings out of each fourth layer and no other,"
            " so a student has to keep whole groups of four"
        )
    return _decoder(read, "smollm3", interleaved=_pairs(read))


def _granite(read: Fields) -> GgufLayout:
    names = {"attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier",
             "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling"}  # fmt: skip
    more = {key: float(read.value(name)) for key, name in names.items()}
    return _decoder(read, "granite", more, interleaved=_pairs(read))


def _plain(architecture: str) -> Callable[[Fields], GgufLayout]:
    return lambda read: _decoder(read, architecture)


def _qwen_moe(architecture: str, normalised: bool) -> Callable[[Fields], GgufLayout]:
    def layout(read: Fields) -> GgufLayout:
        if read.flag("norm_topk_prob", False) != normalised:
            raise read.fail(
                f": norm_topk_prob is {not normalised}; llama.cpp takes it as {normalised} in {architecture}"
            )
        if read.value("mlp_only_layers") or read.value("decoder_sparse_step") not in (None, 1):
            raise read.fail(" has dense layers between those with experts, which llama.cpp lacks in this architecture")
        experts = read.count(*EXPERTS)
        more = {"expert_count": experts, "expert_used_count": read.count(*CHOSEN),
                "expert_feed_forward_length": read.count("moe_intermediate_size")}  # fmt: skip
        if (shared := read.value("shared_expert_intermediate_size")) is not None:
            more["expert_shared_feed_forward_length"] = shared
        return _decoder(read, architecture, more, experts=experts)

    return layout


def _glm4_moe(read: Fields) -> GgufLayout:
    for name in ("n_group", "topk_group"):
        read.require(name, 1)
    read.ignore("num_nextn_predict_layers", "use_qk_norm")  # what is there is seen from the tensors
    experts = read.count(*EXPERTS)
    more = {
        "expert_count": experts,
        "expert_used_count": read.count(*CHOSEN),
        "expert_feed_forward_length": read.count("moe_intermediate_size"),
        "expert_shared_count": read.count("n_shared_experts", default=0, least=0),
        "leading_dense_block_count": read.count("first_k_dense_replace", default=0, least=0),
        "expert_weights_scale": float(read.value("routed_scaling_factor") or 1.0),
        "expert_weights_norm": read.flag("norm_topk_prob", True),
        "expert_gating_func": SIGMOID,
    }
    return _decoder(read, "glm4moe", more, experts=experts)


def _gemma(read: Fields) -> GgufLayout:
    metadata, notes, head = _sizes(read, "hidden_act", "gelu_pytorch_tanh")
    rotary(read.part(ROPE), read.count(*CONTEXT), head, metadata)
    context_without_windows(read, metadata, notes)
    return _layout(read, "gemma", metadata, offset_norms=True, notes=tuple(notes))


def _gemma2(read: Fields) -> GgufLayout:
    metadata, notes, head = _sizes(read, "hidden_activation", "gelu_pytorch_tanh")
    rotary(read.part(ROPE), read.count(*CONTEXT), head, metadata)
    _scaled(read, head)
    for key, name in (("attn", "attn_logit_softcapping"), ("final", "final_logit_softcapping")):
        cap = read.value(name)
        if not cap:
            raise read.fail(f" has no {name}, which llama.cpp takes as given in this architecture")
        metadata[f"{key}_logit_softcapping"] = float(cap)
    windows(read, 2, metadata, notes)
    return _layout(read, "gemma2", metadata, offset_norms=True, notes=tuple(notes))


def _gemma3(read: Fields) -> GgufLayout:
    metadata, notes, head = _sizes(read, "hidden_activation", "gelu_pytorch_tanh")
    local = read.part(ROPE).part("sliding_attention")
    factors = rotary(read.part(ROPE).part("full_attention"), read.count(*CONTEXT), head, metadata)
    if (local.value("rope_type") or "default") != "default":
        raise read.fail(": rotary embeddings of its windows are scaled, which cannot be said in GGUF")
    metadata["rope.freq_base_swa"] = float(local.value("rope_theta"))
    _scaled(read, head)
    if read.value("final_logit_softcapping") or read.value("attn_logit_softcapping"):
        raise read.fail(" caps logits, which llama.cpp does not in this architecture")
    windows(read, 6, metadata, notes)
    return _layout(read, "gemma3", metadata, offset_norms=True, notes=tuple(notes), rope_factors=factors)


def _scaled(read: Fields, head: int) -> None:
    """llama.cpp divides attention scores by the root of the head width, but for the 27B models by that of the width by
    heads."""
    scale, depth = read.value("query_pre_attn_scalar"), read.depth
    expected = read.width // read.count(*HEADS) if depth in (46, 62) else head
    if scale != expected:
        raise read.fail(f": query_pre_attn_scalar is {scale}, where llama.cpp takes {expected}")


def _phi3(read: Fields) -> GgufLayout:
    read.ignore("original_max_position_embeddings")
    return _decoder(read, "phi3")


def _gpt2(read: Fields) -> GgufLayout:
    for name, only in (("activation_function", "gelu_new"), ("scale_attn_weights", True),
                       ("scale_attn_by_inverse_layer_idx", False), ("add_cross_attention", False)):  # fmt: skip
        read.require(name, only)
    metadata: Metadata = {
        "block_count": read.count(*DEPTH),
        "context_length": read.count(*CONTEXT),
        "embedding_length": read.count(*WIDTH),
        "feed_forward_length": read.count("n_inner", default=4 * read.count(*WIDTH)),
        "attention.head_count": read.count(*HEADS),
        "attention.layer_norm_epsilon": float(read.value("layer_norm_epsilon")),
    }
    return _layout(read, "gpt2", metadata, transposed=True)


FAMILIES: Mapping[str, Callable[[Fields], GgufLayout]] = {
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "glm4_moe": _glm4_moe,
    "gpt2": _gpt2,
    "granite": _granite,
    "llama": _llama,
    "mistral": _llama,
    "mixtral": _mixtral,
    "olmo2": _plain("olmo2"),
    "phi3": _phi3,
    "qwen2": _plain("qwen2"),
    "qwen2_moe": _qwen_moe("qwen2moe", normalised=False),
    "qwen3": _plain("qwen3"),
    "qwen3_moe": _qwen_moe("qwen3moe", normalised=True),
    "smollm3": _smollm3,
}
