"""A zoo of causal language models: every family of tests/twins.py as a tiny random model with real weights.

    NAMES               text models, one name for each family; further configurations of it end in a number ("falcon:2")
    VISION_NAMES        vision-language models, of which the text part is distilled
    tiny(name, seed)    the model, in float32 and eval mode

Hybrids have each kind of layer at least twice.  All weights are random, also those that transformers initialises to
constants (norms, biases, router corrections): a weight that a conversion loses or a loss ignores changes the logits.
"""

from __future__ import annotations

from typing import Any

from tests.twins import DELTA, EIGHT, FAMILY_TWINS, MLA, MOE, SCOUT, SMALL, Changes

ENCODERS = {
    "bert", "bert-generation", "camembert", "cpmant", "data2vec-text", "ernie", "megatron-bert", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl",
}  # fmt: skip
"""families that are decoders only when asked (or, CPM-Ant, with other inputs than token ids)"""
FOUR: Changes = {"num_hidden_layers": 4}
GROUPS: Changes = {"n_group": 2, "topk_group": 1}
ENDS: Changes = {"bos_token_id": 1, "eos_token_id": 2}
WINDOWS: Changes = {**FOUR, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
DEEPER: dict[str, Changes] = {
    "afmoe": {"num_hidden_layers": 6, "num_dense_layers": 2, "global_attn_every_n_layers": 2, "sliding_window": 8},
    "bailing_hybrid": {"num_hidden_layers": 6, "first_k_dense_replace": 2, "layer_group_size": 3},
    "bamba": {**FOUR, "attn_layer_indices": [1, 3]},
    "cohere2": WINDOWS,
    "cohere2_moe": {**WINDOWS, "first_k_dense_replace": 2},
    "cwm": WINDOWS,
    "deepseek_v2": {**FOUR, "first_k_dense_replace": 2},
    "beam": GROUPS,
    "deepseek_v3": {**FOUR, **GROUPS, "first_k_dense_replace": 2},
    "deepseek_v3:2": GROUPS,
    "deepseek_v32": {**FOUR, **GROUPS, "first_k_dense_replace": 2},
    "dots1": {**WINDOWS, "first_k_dense_replace": 2},
    "ernie4_5_moe": {**FOUR, "moe_layer_start_index": 1, "moe_layer_end_index": 2, "moe_layer_interval": 1},
    "exaone4": WINDOWS,
    "exaone_moe": {**WINDOWS, "first_k_dense_replace": 2},
    "flint": {"num_hidden_layers": 6},
    "gemma2": WINDOWS,
    "gemma3_text": WINDOWS,
    "glm4_moe": {**FOUR, "first_k_dense_replace": 2},
    "glm4_moe_lite": {**FOUR, "first_k_dense_replace": 2},
    "gpt_neo": {**FOUR, "num_layers": 4, "attention_types": [[["global", "local"], 2]], "window_size": 8},
    "gpt_oss": WINDOWS,
    "granitemoehybrid": {**FOUR, "layer_types": ["mamba", "attention"] * 2},
    "granite_swa": {"sliding_window": 8},
    "granitemoe_swa": {"sliding_window": 8},
    "jamba": {
        "num_hidden_layers": 6, "attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 2,
        "expert_layer_offset": 1, "mamba_d_state": 6, "mamba_expand": 2, "mamba_dt_rank": 5,
    },
    "kimi_linear": {**FOUR, "layer_types": ["linear_attention", "full_attention"] * 2, "first_k_dense_replace": 2},
    "laguna": {
        **FOUR, "layer_types": ["full_attention", "sliding_attention"] * 2,
        "num_attention_heads_per_layer": [4, 2, 4, 2], "sliding_window": 8,
        "mlp_layer_types": ["dense", "sparse", "dense", "sparse"],
    },
    "lfm2": {**FOUR, "layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {**FOUR, "layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 2},
    "llama4_text": {
        **FOUR, "interleave_moe_layer_step": 2, "attention_chunk_size": 8, "no_rope_layers": [1, 0, 1, 0],
    },
    "mellum": {
        **FOUR, "layer_types": ["full_attention", "sliding_attention"] * 2,
        "mlp_layer_types": ["dense", "sparse", "dense", "sparse"], "sliding_window": 8,
    },
    "mimo_v2_flash": {"sliding_window": 8},
    "minimax": {**FOUR, "layer_types": ["linear_attention", "full_attention"] * 2, "block_size": 8},
    "minimax_m3_vl_text": {
        **FOUR, "layer_types": ["full_attention", "minimax_m3_sparse"] * 2,
        "mlp_layer_types": ["dense", "sparse", "dense", "sparse"],
    },
    "ministral": {**WINDOWS},
    "modernbert-decoder": {"num_hidden_layers": 6, "global_attn_every_n_layers": 3, "local_attention": 8},
    "nemotron_h": {"num_hidden_layers": 8, "hybrid_override_pattern": "ME*-ME*-"},
    "olmo3": WINDOWS,
    "olmo_hybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "qwen2:2": {**FOUR, "use_sliding_window": True, "max_window_layers": 2, "sliding_window": 8},
    "qwen2_moe": {**FOUR, "mlp_only_layers": [0, 2]},
    "qwen3_5_moe_text": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "qwen3_moe": FOUR,
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"] * 2, "mlp_only_layers": [2]},
    "recurrent_gemma": {"num_hidden_layers": 6, "attention_window_size": 8},
    "rwkv": {"num_hidden_layers": 3},
    "smollm3": {**FOUR, "no_rope_layers": [1, 0, 1, 0]},
    "vaultgemma": WINDOWS,
}  # fmt: skip
"""changes to the twins, by family or name: each kind of layer twice, windows shorter than the text"""
_SCALED: dict[str, Changes] = {
    "gemma2": {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 8},
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25},
    "falcon_h1": {"lm_head_multiplier": 0.3, "embedding_multiplier": 2.0},
}
"""transforms of the logits, strong enough that leaving one out shows"""
_INKLING: Changes = {
    **FOUR, "head_dim": 8, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8,
    "sliding_window_size": 8, "d_rel": 4, "rel_extent": 16, "moe_intermediate_size": 20, "n_routed_experts": 4,
    "num_experts_per_tok": 2,
}  # fmt: skip
MORE: dict[str, Changes] = {
    "axk2": {
        **MLA, **FOUR, **GROUPS, "topk_group": 2, "index_n_heads": 2, "index_head_dim": 8, "index_topk": 4,
        "gated_norm_rank": 4, "head_dim": 4,
    },
    "cohere_compass_text": {
        **WINDOWS, "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("sliding_attention", "full_attention")
        },
    },
    "dbrx": {
        "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
    },
    "hrm_text": {"head_dim": 8, "L_cycles": 2},
    "inkling2_text": {
        **_INKLING, "layer_types": ["hybrid_sliding", "hybrid"] * 2, "n_layers_per_attn_res_block": 2,
        "unpadded_vocab_size": 90,
    },
    "inkling_text": {
        **_INKLING, "local_layer_ids": [0, 2], "mlp_layer_types": ["dense", "sparse"] * 2, "n_shared_experts": 1,
    },
    "longcat_flash": {
        **MLA, **FOUR, "num_layers": 2, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 20, "moe_topk": 2,
        "zero_expert_num": 2, "head_dim": 4,
    },
    "qwen4_exp_text": {
        **DELTA, **MOE, "num_experts": 4, "shared_expert_intermediate_size": 28, "hc_count": 2, "hc_lowrank": 4,
        "layer_types": ["linear_attention", "indexed_attention"] * 2, "indexer_n_heads": 2, "indexer_kv_heads": 1,
        "indexer_head_dim": 16, "indexer_budget": 8, "indexer_compress_ratio": 4,
    },
    "zamba": {
        "num_hidden_layers": 6, "attn_layer_period": 3, "attn_layer_offset": 1, "mamba_d_state": 6, "n_mamba_heads": 2,
        "attention_head_dim": 16, "mamba_dt_rank": 5,
    },
    "zamba2": {
        "num_hidden_layers": 6, "hybrid_layer_ids": [1, 3, 5], "layers_block_type": ["mamba", "hybrid"] * 3,
        "mamba_d_state": 6, "n_mamba_heads": 4, "mamba_ngroups": 2, "attention_head_dim": 16, "adapter_rank": 4,
        "num_mem_blocks": 2,
    },
    "zaya": {**FOUR, "head_dim": 8, "moe_intermediate_size": 20, "num_experts": 4, "router_hidden_size": 12},
}  # fmt: skip
"""families that the architecture adapter does not read"""
_EYES: Changes = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 8,
    "patch_size": 4, "depth": 1, "num_heads": 2,
}  # fmt: skip
VISION_PART: dict[str, Changes] = {
    "aya_vision": _EYES,
    "gemma3": _EYES,
    "llama4": {**_EYES, "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
    "mistral3": {**_EYES, "head_dim": 8},
    "qwen2_5_vl": {**_EYES, "out_hidden_size": 32, "hidden_size": 16},
    "qwen3_vl": {**_EYES, "out_hidden_size": 32, "deepstack_visual_indexes": [0]},
    "qwen3_vl_moe": {**_EYES, "out_hidden_size": 32, "deepstack_visual_indexes": [0]},
    "qwen3_5": {**_EYES, "out_hidden_size": 32},
}
VISION: dict[str, Changes] = {
    "aya_vision": {**WINDOWS, "logit_scale": 0.25},
    "gemma3": {**EIGHT, **WINDOWS},
    "llama4": {**SCOUT, **FOUR, "interleave_moe_layer_step": 2, "attention_chunk_size": 8},
    "mistral3": EIGHT,
    "qwen2_5_vl": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}},
    "qwen3_vl": EIGHT,
    "qwen3_vl_moe": {**EIGHT, **MOE, "num_experts": 4},
    "qwen3_5": {**DELTA, "layer_types": ["linear_attention", "full_attention"] * 2},
}


def _configurations() -> dict[str, Changes]:
    """(model_type, changes) of every text model, by name."""
    named: dict[str, Changes] = {}
    for family, changes in FAMILY_TWINS:
        if family in ENCODERS:
            continue
        count = 1 + sum(name.split(":")[0] == family for name in named)
        name = family if count == 1 else f"{family}:{count}"
        named[name] = {**changes, **DEEPER.get(name, {}), **_SCALED.get(name, {})}
    return {**named, **MORE}


CONFIGURATIONS = _configurations()
NAMES = tuple(CONFIGURATIONS)
VISION_NAMES = tuple(VISION)
FAMILIES = tuple(name for name in NAMES if ":" not in name)
"""one name for each family"""


def configuration(name: str, **more: Any) -> Any:
    """The transformers configuration of a name, with `more` fields changed."""
    from transformers import CONFIG_MAPPING

    if name in VISION:
        kind = CONFIG_MAPPING[name]
        text = {**SMALL, **ENDS, **VISION[name], **more, "model_type": kind().text_config.model_type}
        return kind(text_config=text, vision_config=VISION_PART.get(name, {}))
    return CONFIG_MAPPING[name.split(":")[0]](**{**SMALL, **ENDS, **CONFIGURATIONS[name], **more})


def tiny(name: str, seed: int = 0, **more: Any) -> Any:
    """A model of the zoo with random weights, in float32 and eval mode. more: fields to change."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    auto = AutoModelForImageTextToText if name in VISION else AutoModelForCausalLM
    config = configuration(name, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    parameter.add_(torch.randn_like(parameter) * (0.2 if parameter.ndim == 1 else 0.1))
    return model.eval()
