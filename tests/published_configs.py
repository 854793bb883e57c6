"""Configurations as model makers publish them, with the switches that restate what their family always has.

Left out are token ids, dropout and the rotary base.  `TOTALS` has what the hub counts in the safetensors files, without
quantisation, and how much of it is no weight of ours: buffers (a bias of each router, one value an expert).
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]
_NEAR, _FAR = "sliding_attention", "full_attention"
_GROUPS: Config = {"n_group": 1, "topk_group": 1, "topk_method": "noaux_tc", "scoring_func": "sigmoid"}
K_EXAONE: Config = {
    "model_type": "exaone_moe", "first_k_dense_replace": 1, "first_last_k_dense_replace": 1, "head_dim": 128,
    "hidden_size": 6144, "intermediate_size": 18432, "is_moe_layer": [False] + [True] * 47, **_GROUPS,
    "layer_types": [_NEAR, _NEAR, _NEAR, _FAR] * 12, "max_position_embeddings": 262144, "moe_intermediate_size": 2048,
    "norm_topk_prob": True, "num_attention_heads": 64, "num_experts": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 48, "num_key_value_heads": 8, "num_nextn_predict_layers": 1, "num_shared_experts": 1,
    "routed_scaling_factor": 2.5, "sliding_window": 128, "sliding_window_pattern": "LLLG",
    "tie_word_embeddings": False, "vocab_size": 153600,
}  # fmt: skip
EXAONE_45: Config = {
    "model_type": "exaone4_5", "tie_word_embeddings": False, "vocab_size": 153600,
    "text_config": {
        "model_type": "exaone4_5_text", "hidden_size": 5120, "intermediate_size": 27392, "num_hidden_layers": 64,
        "num_attention_heads": 40, "num_key_value_heads": 8, "max_position_embeddings": 262144, "sliding_window": 4096,
        "sliding_window_pattern": "LLLG", "layer_types": [_NEAR, _NEAR, _NEAR, _FAR] * 16, "vocab_size": 153600,
    },
    "vision_config": {"model_type": "exaone4_5_vision", "hidden_size": 2048},
}  # fmt: skip
STEP_35: Config = {
    "model_type": "step3p5", "hidden_size": 4096, "intermediate_size": 11264, "num_hidden_layers": 45,
    "max_seq_len": 262144, "max_position_embeddings": 262144, "vocab_size": 128896, "use_qk_norm": True,
    "moe_layers_enum": ",".join(map(str, range(3, 45))), "use_mfa": False, "num_attention_heads": 64,
    "num_attention_groups": 8, "head_dim": 128, "use_moe": True, "moe_num_experts": 288, "moe_top_k": 8,
    "moe_intermediate_size": 1280, "share_expert_dim": 1280, "norm_expert_weight": True,
    "moe_router_activation": "sigmoid", "moe_router_scaling_factor": 3.0, "use_moe_router_bias": True,
    "need_fp32_gate": True, "sliding_window": 512, "att_impl_type": "GQA", "use_head_wise_attn_gate": True,
    "layer_types": [_FAR, _NEAR, _NEAR, _NEAR] * 12, "zero_centered": True, "yarn_only_types": [_FAR],
    "attention_other_setting": {
        "attention_type": _NEAR, "num_attention_heads": 96, "num_attention_groups": 8, "head_dim": 128,
        "true_head_dim": 128,
    },
    "num_nextn_predict_layers": 3,
}  # fmt: skip
TRINITY: Config = {
    "model_type": "afmoe", "attention_bias": False, "global_attn_every_n_layers": 4, "head_dim": 128,
    "hidden_size": 2048, "intermediate_size": 6144, "layer_types": [_NEAR, _NEAR, _NEAR, _FAR] * 8,
    "max_position_embeddings": 131072, "moe_intermediate_size": 1024, "mup_enabled": True, "n_group": 1,
    "num_attention_heads": 32, "num_dense_layers": 2, "num_expert_groups": 1, "num_experts": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 32, "num_key_value_heads": 4, "num_limited_groups": 1,
    "num_shared_experts": 1, "route_norm": True, "route_scale": 2.826, "score_func": "sigmoid",
    "sliding_window": 2048, "tie_word_embeddings": False, "topk_group": 1, "vocab_size": 200192,
}  # fmt: skip
_CONV = ["conv", "conv", _FAR]
LFM2: Config = {
    "model_type": "lfm2", "block_auto_adjust_ff_dim": True, "block_dim": 2048, "block_ff_dim": 12288,
    "block_ffn_dim_multiplier": 1.0, "block_mlp_init_scale": 1.0, "block_multiple_of": 256, "block_norm_eps": 1e-05,
    "block_out_init_scale": 1.0, "block_use_swiglu": True, "block_use_xavier_init": True, "conv_L_cache": 3,
    "conv_bias": False, "conv_dim": 2048, "conv_dim_out": 2048, "conv_use_xavier_init": True, "hidden_size": 2048,
    "intermediate_size": 12288, "layer_types": [*_CONV * 3, "conv", _FAR, "conv", _FAR, "conv", _FAR, "conv"],
    "max_position_embeddings": 128000, "num_attention_heads": 32, "num_heads": 32, "num_hidden_layers": 16,
    "num_key_value_heads": 8, "use_pos_enc": True, "vocab_size": 65536, "tie_embedding": True,
}  # fmt: skip
APERTUS: Config = {
    "model_type": "apertus", "attention_bias": False, "hidden_size": 4096, "intermediate_size": 21504,
    "max_position_embeddings": 65536, "mlp_bias": False, "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "post_norm": False, "qk_norm": True, "tie_word_embeddings": False, "vocab_size": 131072,
}  # fmt: skip
ERNIE: Config = {
    "model_type": "ernie4_5_moe", "hidden_size": 2560, "intermediate_size": 12288, "max_position_embeddings": 131072,
    "num_attention_heads": 20, "num_key_value_heads": 4, "num_hidden_layers": 28, "vocab_size": 103424,
    "use_bias": False, "moe_num_experts": 64, "moe_layer_start_index": 1, "moe_intermediate_size": 1536,
    "moe_capacity": [64, 64, 64], "moe_k": 6, "moe_layer_interval": 1, "moe_num_shared_experts": 2,
    "moe_use_aux_free": True, "moe_gate": "topk", "tie_word_embeddings": True,
}  # fmt: skip
HUNYUAN: Config = {
    "model_type": "hunyuan_v1_dense", "add_classification_head": False, "anyres_pooling_size": 2,
    "attention_bias": False, "attention_head_dim": 128, "cla_share_factor": 2, "class_num": 0, "dense_list": [4096, 0],
    "head_dim": 128, "hidden_size": 4096, "intermediate_size": 14336, "kv_lora_rank": None, "mlp_bias": False,
    "max_position_embeddings": 262144, "norm_type": "rms", "num_attention_heads": 32, "num_experts": 1,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "num_media_embeds": 257, "org_vocab_size": 128256,
    "pool_type": "last", "position_embedding_xdrope": False, "query_key_norm": False, "tie_word_embeddings": True,
    "use_cla": False, "use_mla": False, "use_qk_norm": True, "use_rotary_pos_emb": True, "vocab_size": 128167,
}  # fmt: skip
JAMBA: Config = {
    "model_type": "jamba", "attn_layer_offset": 12, "attn_layer_period": 14, "expert_layer_offset": 1,
    "expert_layer_period": 2, "hidden_size": 2560, "intermediate_size": 8192, "mamba_conv_bias": True,
    "mamba_d_conv": 4, "mamba_d_state": 16, "mamba_dt_rank": 160, "mamba_expand": 2, "mamba_proj_bias": False,
    "max_position_embeddings": 262144, "num_attention_heads": 20, "num_experts": 1, "num_experts_per_tok": 1,
    "num_hidden_layers": 28, "num_key_value_heads": 1, "tie_word_embeddings": False, "use_mamba_kernels": True,
    "vocab_size": 65536,
}  # fmt: skip
NEMOTRON_H_56B: Config = {
    "model_type": "nemotron_h", "attention_bias": False, "attention_head_dim": 128, "chunk_size": 128,
    "conv_kernel": 4, "expand": 2, "hidden_size": 8192, "intermediate_size": 32768,
    "hybrid_override_pattern": "M-M-M-M*-" + "M-M-M-M-M*-" * 9 + "M-M-M-M-M-", "mamba_head_dim": 64,
    "mamba_num_heads": 256, "mamba_proj_bias": False, "max_position_embeddings": 8192, "mlp_bias": False,
    "mlp_hidden_act": "relu2", "n_groups": 8, "num_attention_heads": 64, "num_hidden_layers": 118,
    "num_key_value_heads": 8, "rescale_prenorm_residual": True, "ssm_state_size": 256, "tie_word_embeddings": False,
    "time_step_floor": 0.0001, "time_step_max": 0.1, "time_step_min": 0.001, "time_step_rank": 512, "use_bias": False,
    "use_conv_bias": True, "use_mamba_kernels": True, "vocab_size": 131072,
}  # fmt: skip
QWEN3_CODER: Config = {
    "model_type": "qwen3_moe", "attention_bias": False, "decoder_sparse_step": 1, "head_dim": 128,
    "hidden_size": 6144, "intermediate_size": 8192, "max_position_embeddings": 262144, "max_window_layers": 62,
    "mlp_only_layers": [], "moe_intermediate_size": 2560, "norm_topk_prob": True, "num_attention_heads": 96,
    "num_experts": 160, "num_experts_per_tok": 8, "num_hidden_layers": 62, "num_key_value_heads": 8,
    "output_router_logits": False, "qkv_bias": False, "router_aux_loss_coef": 0.0,
    "shared_expert_intermediate_size": 0, "sliding_window": None, "tie_word_embeddings": False, "use_qk_norm": True,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
QWEN35_122B: Config = {
    "model_type": "qwen3_5_moe", "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen3_5_moe_text", "attention_bias": False, "attn_output_gate": True,
        "full_attention_interval": 4, "head_dim": 256, "hidden_size": 3072,
        "layer_types": (["linear_attention"] * 3 + [_FAR]) * 12, "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 64,
        "linear_value_head_dim": 128, "max_position_embeddings": 262144, "mlp_only_layers": [],
        "moe_intermediate_size": 1024, "mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False,
        "num_attention_heads": 32, "num_experts": 256, "num_experts_per_tok": 8, "num_hidden_layers": 48,
        "num_key_value_heads": 2, "shared_expert_intermediate_size": 1024, "vocab_size": 248320,
        "mamba_ssm_dtype": "float32",
    },
    "vision_config": {"depth": 27, "hidden_size": 1152},
}  # fmt: skip
GLM_52: Config = {
    "model_type": "glm_moe_dsa", "attention_bias": False, "ep_size": 1, "first_k_dense_replace": 3, "head_dim": 192,
    "hidden_size": 6144, "index_head_dim": 128, "index_n_heads": 32, "index_share_for_mtp_iteration": True,
    "index_skip_topk_offset": 3, "index_topk": 2048, "index_topk_freq": 4, "index_topk_pattern": None,
    "indexer_rope_interleave": True, "indexer_types": ["full"] * 3 + (["shared"] * 3 + ["full"]) * 18 + ["shared"] * 3,
    "intermediate_size": 12288, "kv_lora_rank": 512, "max_position_embeddings": 1048576,
    "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 75, "moe_intermediate_size": 2048, "moe_layer_freq": 1,
    "moe_router_dtype": "float32", **_GROUPS, "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": True,
    "num_attention_heads": 64, "num_experts_per_tok": 8, "num_hidden_layers": 78, "num_key_value_heads": 64,
    "num_nextn_predict_layers": 1, "pretraining_tp": 1, "q_lora_rank": 2048, "qk_head_dim": 256,
    "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "rope_interleave": True, "routed_scaling_factor": 2.5,
    "tie_word_embeddings": False, "v_head_dim": 256, "vocab_size": 154880,
}  # fmt: skip
NEMOTRON_NANO: Config = {
    "model_type": "nemotron_h", "attention_bias": False, "chunk_size": 128, "conv_kernel": 4, "expand": 2,
    "head_dim": 128, "hidden_size": 4480, "intermediate_size": 15680, "mamba_head_dim": 80, "mamba_num_heads": 128,
    "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-", "mamba_proj_bias": False,
    "max_position_embeddings": 131072, "mlp_bias": False, "mlp_hidden_act": "relu2", "n_groups": 8,
    "num_attention_heads": 40, "num_hidden_layers": 56, "num_key_value_heads": 8, "num_query_groups": 8,
    "ssm_state_size": 128, "tie_word_embeddings": False, "time_step_rank": 256, "use_bias": False,
    "use_conv_bias": True, "use_mamba_kernels": True, "vocab_size": 131072,
}  # fmt: skip
MINIMAX_M2: Config = {
    "model_type": "minimax_m2", "attn_type_list": [1] * 62, "head_dim": 128, "hidden_size": 3072,
    "intermediate_size": 1536, "layernorm_full_attention_beta": 1.0, "layernorm_mlp_beta": 1.0,
    "max_position_embeddings": 196608, "mlp_intermediate_size": 8192, "mtp_transformer_layers": 1,
    "num_attention_heads": 48, "num_experts_per_tok": 8, "num_hidden_layers": 62, "num_key_value_heads": 8,
    "num_local_experts": 256, "num_mtp_modules": 3, "qk_norm_type": "per_layer", "rotary_dim": 64,
    "scoring_func": "sigmoid", "shared_intermediate_size": 0, "shared_moe_mode": "sigmoid",
    "tie_word_embeddings": False, "use_mtp": True, "use_qk_norm": True, "use_routing_bias": True, "vocab_size": 200064,
}  # fmt: skip
COMMAND_A: Config = {
    "model_type": "cohere2", "attention_bias": False, "cache_implementation": "hybrid", "head_dim": 128,
    "hidden_size": 12288, "intermediate_size": 36864, "layer_switch": 4, "logit_scale": 0.25,
    "max_position_embeddings": 131072, "num_attention_heads": 96, "num_hidden_layers": 64, "num_key_value_heads": 8,
    "order_of_interleaved_layers": "local_attn_first", "position_embedding_type": "rope_gptj", "rotary_pct": 1.0,
    "sliding_window": 4096, "sliding_window_pattern": 4, "use_embedding_sharing": True, "use_gated_activation": True,
    "use_parallel_block": True, "use_parallel_embedding": True, "vocab_size": 256000,
}  # fmt: skip
SMOLLM3: Config = {
    "model_type": "smollm3", "attention_bias": False, "hidden_size": 2048, "intermediate_size": 11008,
    "layer_types": [_FAR] * 36, "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": False,
    "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9, "num_attention_heads": 16,
    "num_hidden_layers": 36, "num_key_value_heads": 4, "pretraining_tp": 2, "sliding_window": None,
    "use_sliding_window": False, "vocab_size": 128256,
}  # fmt: skip
PHI4_MM: Config = {
    "model_type": "phi4mm", "attention_bias": False, "audio_processor": {"name": "cascades"},
    "embd_layer": {"embedding_cls": "image_audio"}, "full_attn_mod": 1, "hidden_size": 3072, "img_processor": None,
    "intermediate_size": 8192, "interpolate_factor": 1, "lm_head_bias": False, "max_position_embeddings": 131072,
    "mlp_bias": False, "num_attention_heads": 24, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75, "sliding_window": 262144,
    "speech_lora": {"layer": ".*", "lora_alpha": 640, "r": 320}, "tie_word_embeddings": True,
    "vision_lora": {"layer": ".*", "lora_alpha": 512, "r": 256}, "vocab_size": 200064,
}  # fmt: skip
TOTALS: dict[str, tuple[Config, int, int]] = {
    # config, values in the safetensors files, of which not counted here
    "LGAI-EXAONE/K-EXAONE-236B-A23B": (K_EXAONE, 237_099_669_632, 47 * 128),
    "arcee-ai/Trinity-Mini": (TRINITY, 26_123_974_400, 0),
    "LiquidAI/LFM2.5-1.2B-Instruct": (LFM2, 1_170_340_608, 0),
    "swiss-ai/Apertus-8B-Instruct-2509": (APERTUS, 8_053_338_176, 0),
    "baidu/ERNIE-4.5-21B-A3B-Thinking": (ERNIE, 21_825_437_888, 0),
    "tencent/Hunyuan-7B-Instruct": (HUNYUAN, 7_504_568_320, 0),
    "ai21labs/AI21-Jamba-Reasoning-3B": (JAMBA, 3_197_109_632, 0),
    "nvidia/Nemotron-H-56B-Base-8K": (NEMOTRON_H_56B, 56_324_350_464, 0),
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": (QWEN3_CODER, 480_154_875_392, 0),
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": (NEMOTRON_NANO, 8_888_227_328, 0),
    "CohereLabs/c4ai-command-a-03-2025": (COMMAND_A, 111_057_580_032, 0),
    "HuggingFaceTB/SmolLM3-3B": (SMOLLM3, 3_075_098_624, 0),
}
