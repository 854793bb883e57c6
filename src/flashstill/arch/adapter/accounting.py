"""Every field of a config is either read, known to have no effect on cost, mentioned in a note, or rejected.

A field that is neither read nor listed here may change the model.  If its name suggests a shape (a width, rank or
count), the config is rejected: for example, a `routed_expert_hidden_size` as in Kimi K3 halves the experts, and
ignoring it would overestimate them twofold.  Any other number or list is mentioned in a note.
"""

from __future__ import annotations

import re
from typing import Any

from flashstill.arch.adapter.fields import Fields
from flashstill.arch.attention import Attention
from flashstill.arch.model import Architecture
from flashstill.errors import nearest, shown

_MOST_NAMED = 8


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Fields whose names suggest shapes but that do not affect any: metadata, generation, training, grouped routing.
_NO_SHAPE = _listed("""
    architectures auto_map return_dict use_return_dict id2label label2id num_labels problem_type pruned_heads
    chunk_size_feed_forward diversity_penalty encoder_no_repeat_ngram_size no_repeat_ngram_size length_penalty
    max_length min_length num_beam_groups num_beams num_return_sequences top_k top_p typical_p num_logits_to_keep
    n_ctx n_group topk_group topk_method num_expert_group num_expert_groups num_limited_groups norm_topk_prob
    shared_moe_mode moe_use_aux_free moe_gate moe_capacity norm_expert_weight need_fp32_gate use_moe_router_bias
    route_norm scoring_func seq_aux ep_size
    pretraining_tp rescale_prenorm_residual rms_norm norm_type norm_reduction_force_float32 residual_in_fp32
    mamba_chunk_size chunk_size rotary_dim attention_softmax_in_fp32 scale_attention_softmax_in_fp32
    scale_attn_by_inverse_layer_idx reorder_and_upcast_attn moe_router_dtype moe_router_force_load_balancing
    use_cache is_decoder use_bidirectional_attention attn_implementation moe_norm_min query_pre_attn_scalar
    num_experts_per_group no_rope_layer_interval no_rope_layers no_rope_layer_indices tensor_parallel_size
    scale_embedding cache_implementation unpadded_vocab_size transformers_version
    num_image_tokens projection_dim quantization_config compression_config moe_renormalize
    moe_shared_expert_overlap use_routing_bias
    scale_attn_weights use_associative_scan initial_context_length attn_temperature_tuning
    """)
_NEVER_SHAPE = re.compile(
    r"dropout|pdrop$|layerdrop|_act$|activation|token_(id|ids|index)$|_eps(ilon)?$|^eps$|initializ|dtype|_fn$"
)
_NO_CHANGE = re.compile(
    r"^rope|rope_(theta|scaling|interleave)|rotary|yarn|init_|_init$|_std$|tokens?$|_coeff?|coefficient|loss|soft_?cap"
    r"|multipliers?$|scal(e|ing)(_factor)?$|scaling|_scale_|_scaled?$|^summary|classifier|label|_act_|jitter"
    r"|temperature|penalty|^seed|version|kernels?$|alpha|beta|logit|clip|_limit$|_floor|time_step|original_max_position"
    r"|log_|lambda|_factor$|attn_scale|_fp32|router_scal|_upcast"
)
_OTHER_PARTS = re.compile(
    r"^(vision|audio|image|img|video|speech|visual|vq|vit|mm|projector|tts|talker|code2wav|pixel)(_|$)"
)
_SIZES = _listed(
    "dim dims rank size sizes width widths num n hidden intermediate experts layers heads ffn inner expand k topk"
)
_SHAPE = _SIZES | _listed("""
    head layer expert block blocks group groups channels conv stages latent ratio expansion vocab ff mlp multiple depth
    state embd embed embedding kernel period pattern
    """)
_PARTS = _listed("bias norm layernorm gate gated gating tie tied share shared moe attention")
"""words in the name of an enabled flag that suggest additional parameters"""


_QK_NORM = ("use_qk_norm", "qk_norm", "use_qk_layernorm")


def note_of(fields: Fields, shape: Architecture) -> str:
    """Text naming unknown fields, or "". Raises UnsupportedArchitecture for one that may change a shape.

    A family's reader need not read a switch that all of its published configs set alike: it must agree with the shape.
    """
    left = []
    for name, value in fields.unread():
        plain = name.rsplit(".", 1)[-1]
        if plain in _QK_NORM and isinstance(value, bool) and value is _has_qk_norm(shape):
            continue
        if plain in _NO_SHAPE or plain.startswith("_") or _OTHER_PARTS.search(name) or not _says_something(value):
            continue
        if _may_change_shape(name, value):
            near = nearest(plain, fields.read, 1)
            hint = f"; the nearest known: {near[0]}" if near else ""
            raise fields.fail(f" sets {name} to {shown(value)}, which this model_type is not known to have{hint}")
        if not _NEVER_SHAPE.search(name) and not _NO_CHANGE.search(name):
            left.append(f"{name} = {shown(value)}")
    more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    return f"not understood and left out: {', '.join(left[:_MOST_NAMED])}{more}" if left else ""


def _has_qk_norm(shape: Architecture) -> bool:
    mixers = [layer.attention for layer in shape.layers]
    return any(isinstance(mixer, Attention) and mixer.qk_norm_parameters for mixer in mixers)


def _may_change_shape(name: str, value: Any) -> bool:
    words = _words(name, value)
    if _NEVER_SHAPE.search(name):
        return False
    if words & _SIZES:
        return True
    if _NO_CHANGE.search(name):
        return False
    return bool(words & _SHAPE) or (value is True and bool(words & _PARTS))


def _says_something(value: Any) -> bool:
    """Whether a value is a non-zero number, True, or a non-empty list or object."""
    if isinstance(value, list | dict):
        return bool(value)
    return value is True or (isinstance(value, int | float) and value != 0)


def _words(name: str, value: Any) -> frozenset[str]:
    """The words in a field name, and in the keys if its value is an object."""
    inside = () if _NO_CHANGE.search(name) or not isinstance(value, dict) else value
    return frozenset(word for part in (name, *inside) for word in re.split(r"[_.\d]+", part.lower()))
