"""Published configurations of models whose checkpoints bring their own code, without metadata and token ids.

Where they were found or checked: the models' own repositories, their copies in public test suites, and vLLM's config
classes.  `billions` are the published totals and, of mixtures, active parameters.
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]
LING: Config = {
    "architectures": ["BailingMoeV2ForCausalLM"], "model_type": "bailing_moe_v2", "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_bailing_moe_v2.BailingMoeV2Config"}, "num_hidden_layers": 20,
    "hidden_size": 2048, "eos_token_id": 156892, "pad_token_id": 156892, "first_k_dense_replace": 1,
    "hidden_act": "silu", "intermediate_size": 5120, "max_position_embeddings": 32768, "moe_intermediate_size": 512,
    "norm_topk_prob": True, "num_experts_per_tok": 8, "num_attention_heads": 16, "num_experts": 256,
    "num_key_value_heads": 4, "rope_theta": 600000, "rope_scaling": None, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.52.3", "use_bias": False, "use_rmsnorm": True,
    "rms_norm_eps": 1e-06, "head_dim": 128, "num_shared_experts": 1, "use_cache": True, "use_qkv_bias": False,
    "embedding_dropout": 0.0, "output_dropout": 0.0, "vocab_size": 157184, "partial_rotary_factor": 0.5,
    "router_dtype": "fp32", "moe_router_enable_expert_bias": True, "routed_scaling_factor": 2.5, "n_group": 8,
    "topk_group": 4, "use_qk_norm": True, "score_function": "sigmoid", "moe_shared_expert_intermediate_size": 512,
    "num_nextn_predict_layers": 0, "output_router_logits": False, "max_window_layers": 20, "rotary_dim": 64,
}  # fmt: skip
LING_FLASH: Config = {
    **LING, "hidden_size": 4096, "intermediate_size": 9216, "num_hidden_layers": 32, "num_attention_heads": 32,
    "moe_intermediate_size": 1024, "moe_shared_expert_intermediate_size": 1024,
}  # fmt: skip
LING_1T: Config = {
    **LING, "hidden_size": 8192, "intermediate_size": 18432, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "moe_intermediate_size": 2048, "moe_shared_expert_intermediate_size": 2048,
    "first_k_dense_replace": 4,
}  # fmt: skip
LING_LITE: Config = {
    "model_type": "bailing_moe", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 64, "num_experts_per_tok": 6,
    "num_shared_experts": 2, "moe_intermediate_size": 1408, "first_k_dense_replace": 0, "norm_head": True,
    "norm_softmax": False, "norm_topk_prob": True, "vocab_size": 126464, "max_position_embeddings": 32768,
    "use_bias": False, "use_qkv_bias": False, "tie_word_embeddings": False, "rope_theta": 600000, "multi_gate": False,
    "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28,
}  # fmt: skip
RING_LINEAR: Config = {
    **{key: value for key, value in LING.items() if key != "rotary_dim"}, "model_type": "bailing_moe_linear",
    "layer_group_size": 5, "group_norm_size": 4, "linear_silu": False, "max_position_embeddings": 131072,
}  # fmt: skip
RING_FLASH_LINEAR: Config = {
    **RING_LINEAR, "hidden_size": 4096, "intermediate_size": 9216, "num_hidden_layers": 32, "num_attention_heads": 32,
    "moe_intermediate_size": 1024, "moe_shared_expert_intermediate_size": 1024, "layer_group_size": 8,
}  # fmt: skip
RING_25: Config = {
    **LING_1T, "model_type": "bailing_hybrid", "architectures": ["BailingMoeV2_5ForCausalLM"], "layer_group_size": 8,
    "group_norm_size": 8, "linear_silu": False, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128, "qk_head_dim": 192, "v_head_dim": 128, "rope_interleave": True, "num_key_value_heads": 64,
}  # fmt: skip
LING_3_TINY: Config = {
    "architectures": ["BailingMoeV3ForCausalLM"], "model_type": "bailing_hybrid", "hidden_size": 1536,
    "intermediate_size": 4608, "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
    "head_dim": 128, "vocab_size": 157184, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
    "rope_theta": 6000000, "tie_word_embeddings": False, "layer_group_size": 4, "short_conv_kernel_size": 4,
    "no_kda_lora": True, "kda_safe_gate": True, "kda_lower_bound": -5.0,
    "gated_attention_proj_granularity_type": "head_wise", "qk_head_dim": 192, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "q_lora_rank": 256, "kv_lora_rank": 512, "rope_interleave": True,
    "use_qk_norm": True, "first_k_dense_replace": 1, "num_experts": 128, "num_experts_per_tok": 8,
    "num_shared_experts": 1, "moe_intermediate_size": 512, "moe_shared_expert_intermediate_size": 512, "n_group": 8,
    "topk_group": 4, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "moe_router_enable_expert_bias": True,
}  # fmt: skip
_FULL = [0, *range(5, 48, 6)]
MIMO_V2_FLASH: Config = {
    "architectures": ["MiMoV2FlashForCausalLM"], "model_type": "mimo_v2_flash", "vocab_size": 152576,
    "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 48, "num_attention_heads": 64,
    "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "swa_num_attention_heads": 64,
    "swa_num_key_value_heads": 8, "swa_head_dim": 192, "swa_v_head_dim": 128, "swa_rope_theta": 10000,
    "rope_theta": 5000000, "partial_rotary_factor": 0.334, "sliding_window": 128, "sliding_window_size": 128,
    "attention_chunk_size": 128, "attention_value_scale": 0.707, "attention_bias": False, "hybrid_block_size": None,
    "hybrid_layer_pattern": [int(i not in _FULL) for i in range(48)], "moe_layer_freq": [int(i > 0) for i in range(48)],
    "add_swa_attention_sink_bias": True, "add_full_attention_sink_bias": False, "n_routed_experts": 256,
    "n_shared_experts": None, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "n_group": 1, "topk_group": 1,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True, "routed_scaling_factor": None,
    "hidden_act": "silu", "layernorm_epsilon": 1e-5, "max_position_embeddings": 262144, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "quantization_config": {
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128],
        "ignored_layers": [f"model.layers.{i}.self_attn.o_proj" for i in range(48)],
    },
}  # fmt: skip
MIMO: Config = {
    "model_type": "mimo", "attention_bias": True, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 32768, "max_window_layers": 36, "num_nextn_predict_layers": 1, "rope_theta": 640000,
    "sliding_window": None, "use_sliding_window": False, "tie_word_embeddings": False, "vocab_size": 151680,
}  # fmt: skip
CHATGLM3: Config = {
    "model_type": "chatglm", "add_bias_linear": False, "add_qkv_bias": True, "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False, "attention_softmax_in_fp32": True, "bias_dropout_fusion": True,
    "ffn_hidden_size": 13696, "fp32_residual_connection": False, "hidden_dropout": 0.0, "hidden_size": 4096,
    "kv_channels": 128, "layernorm_epsilon": 1e-05, "multi_query_attention": True, "multi_query_group_num": 2,
    "num_attention_heads": 32, "num_layers": 28, "original_rope": True, "padded_vocab_size": 65024,
    "post_layer_norm": True, "rmsnorm": True, "seq_length": 8192, "use_cache": True, "torch_dtype": "float16",
    "tie_word_embeddings": False, "pad_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
QWEN_7B: Config = {
    "model_type": "qwen", "attn_dropout_prob": 0.0, "bf16": False, "emb_dropout_prob": 0.0, "fp16": False,
    "fp32": False, "hidden_size": 4096, "intermediate_size": 22016, "initializer_range": 0.02, "kv_channels": 128,
    "layer_norm_epsilon": 1e-06, "max_position_embeddings": 32768, "no_bias": True, "num_attention_heads": 32,
    "num_hidden_layers": 32, "onnx_safe": None, "rotary_emb_base": 10000, "rotary_pct": 1.0,
    "scale_attn_weights": True, "seq_length": 8192, "tie_word_embeddings": False, "use_cache": True,
    "use_dynamic_ntk": True, "use_flash_attn": "auto", "use_logn_attn": True, "vocab_size": 151936,
}  # fmt: skip
BAICHUAN2: Config = {
    "model_type": "baichuan", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
    "max_position_embeddings": 4096, "model_max_length": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
    "rms_norm_eps": 1e-06, "_from_model_config": True, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "use_cache": True, "vocab_size": 125696, "z_loss_weight": 0,
}  # fmt: skip
INTERNLM2: Config = {
    "model_type": "internlm2", "attn_implementation": "eager", "bias": False, "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000,
    "rope_scaling": {"type": "dynamic", "factor": 2.0}, "tie_word_embeddings": False, "vocab_size": 92544,
    "pretraining_tp": 1,
}  # fmt: skip
INTERNLM2_20B: Config = {
    **INTERNLM2, "hidden_size": 6144, "intermediate_size": 16384, "num_attention_heads": 48, "num_hidden_layers": 48,
}  # fmt: skip
INTERNLM: Config = {
    "model_type": "internlm", "bias": True, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
    "max_position_embeddings": 2048, "num_attention_heads": 32, "num_hidden_layers": 32, "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False, "vocab_size": 103168,
}  # fmt: skip
EXAONE: Config = {
    "model_type": "exaone", "activation_function": "silu", "embed_dropout": 0.0, "head_dim": 128,
    "hidden_size": 4096, "intermediate_size": 14336, "layer_norm_epsilon": 1e-05, "max_position_embeddings": 4096,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_layers": 32, "rope_theta": 500000.0,
    "tie_word_embeddings": False, "vocab_size": 102400,
}  # fmt: skip
ORION: Config = {
    "model_type": "orion", "attention_bias": False, "hidden_act": "silu", "hidden_size": 5120,
    "intermediate_size": 15360, "max_position_embeddings": 4096, "max_sequence_length": 4096,
    "num_attention_heads": 40, "num_hidden_layers": 40, "num_key_value_heads": 40, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "tie_word_embeddings": False, "vocab_size": 84608,
}  # fmt: skip
DBRX: Config = {
    "model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "max_seq_len": 32768, "vocab_size": 100352,
    "attn_config": {"model_type": "", "clip_qkv": 8, "kv_n_heads": 8, "rope_theta": 500000},
    "ffn_config": {
        "model_type": "", "ffn_act_fn": {"name": "silu"}, "ffn_hidden_size": 10752, "moe_jitter_eps": 0.01,
        "moe_loss_weight": 0.05, "moe_num_experts": 16, "moe_top_k": 4,
    },
    "emb_pdrop": 0.0, "resid_pdrop": 0.0, "router_aux_loss_coef": 0.05, "output_router_logits": False,
    "tie_word_embeddings": False,
}  # fmt: skip
GROK: Config = {
    "model_type": "grok-1", "vocab_size": 131072, "hidden_size": 6144, "intermediate_size": 32768,
    "num_hidden_layers": 64, "num_attention_heads": 48, "num_key_value_heads": 8, "attn_output_multiplier": 0.0884,
    "embedding_multiplier_scale": 78.38, "output_multiplier_scale": 0.577, "max_attn_value": 30.0,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "num_experts": 8, "num_experts_per_tok": 2,
    "tie_word_embeddings": True,
}  # fmt: skip
ARCTIC: Config = {
    "model_type": "arctic", "attention_dropout": 0, "enable_expert_tensor_parallelism": False, "enc_index": [35],
    "hidden_act": "silu", "hidden_size": 7168, "intermediate_size": 4864, "max_position_embeddings": 4096,
    "max_sequence_length": 4096, "moe_eval_capacity_factor": 1, "moe_layer_frequency": 1, "moe_min_capacity": 0,
    "moe_token_dropping": False, "moe_train_capacity_factor": 1, "num_attention_heads": 56, "num_experts_per_tok": 2,
    "num_hidden_layers": 35, "num_key_value_heads": 8, "num_local_experts": 128, "parallel_attn_mlp_res": True,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000, "router_aux_loss_coef": 0.001,
    "sliding_window": None, "tie_word_embeddings": False, "use_residual": True, "vocab_size": 32000,
}  # fmt: skip
DEEPSEEK_MOE: Config = {
    "model_type": "deepseek", "attention_bias": False, "aux_loss_alpha": 0.001, "first_k_dense_replace": 1,
    "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 10944, "max_position_embeddings": 4096,
    "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_routed_experts": 64, "n_shared_experts": 2,
    "norm_topk_prob": False, "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 28,
    "num_key_value_heads": 16, "pretraining_tp": 1, "scoring_func": "softmax", "seq_aux": True,
    "tie_word_embeddings": False, "vocab_size": 102400,
}  # fmt: skip
DEEPSEEK_OCR: Config = {
    "model_type": "deepseek_vl_v2", "candidate_resolutions": [[1024, 1024]], "global_view_pos": "head",
    "language_config": {
        "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "first_k_dense_replace": 1,
        "hidden_size": 1280, "intermediate_size": 6848, "kv_lora_rank": None, "lm_head": True,
        "max_position_embeddings": 8192, "moe_intermediate_size": 896, "n_group": 1, "n_routed_experts": 64,
        "n_shared_experts": 2, "num_attention_heads": 10, "num_experts_per_tok": 6, "num_hidden_layers": 12,
        "num_key_value_heads": 10, "q_lora_rank": None, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "rm_head": False,
        "topk_group": 1, "topk_method": "greedy", "torch_dtype": "bfloat16", "use_mla": False, "v_head_dim": 0,
        "vocab_size": 129280,
    },
    "projector_config": {"input_dim": 2048, "model_type": "mlp_projector", "n_embed": 1280},
    "vision_config": {"image_size": 1024, "model_type": "vision"},
}  # fmt: skip
STEP3: Config = {
    "architectures": ["Step3VLForConditionalGeneration"], "model_type": "step3_vl", "vision_config": {"width": 1792},
    "text_config": {
        "architectures": ["Step3TextForCausalLM"], "hidden_size": 7168, "intermediate_size": 18432,
        "num_attention_heads": 64, "num_attention_groups": 1, "num_hidden_layers": 61, "max_seq_len": 65536,
        "vocab_size": 128815, "rms_norm_eps": 1e-5, "moe_every_n_layer": 1, "use_moe": True,
        "moe_intermediate_size": 5120, "moe_num_experts": 48, "moe_top_k": 3, "rope_theta": 500000,
        "share_expert_dim": 5120, "share_q_dim": 2048, "head_dim": 256, "norm_expert_weight": False,
        "max_position_embedding": 65536, "torch_dtype": "bfloat16",
        "moe_layers_enum": ",".join(str(i) for i in range(4, 60)),
    },
}  # fmt: skip
KIMI_VL: Config = {
    "model_type": "kimi_vl", "ignore_index": -100, "vision_config": {"model_type": "moonvit"},
    "text_config": {
        "model_type": "deepseek_v3", "vocab_size": 163840, "max_position_embeddings": 131072, "hidden_size": 2048,
        "intermediate_size": 11264, "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16,
        "num_key_value_heads": 16, "n_shared_experts": 2, "n_routed_experts": 64, "routed_scaling_factor": 2.446,
        "kv_lora_rank": 512, "q_lora_rank": None, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
        "topk_method": "noaux_tc", "n_group": 1, "topk_group": 1, "num_experts_per_tok": 6, "moe_layer_freq": 1,
        "first_k_dense_replace": 1, "norm_topk_prob": True, "scoring_func": "sigmoid", "num_nextn_predict_layers": 0,
        "attention_bias": False, "tie_word_embeddings": False,
    },
}  # fmt: skip
_K3_FULL = [*range(4, 93, 4), 93]
KIMI_K3: Config = {
    "architectures": ["KimiK3ForConditionalGeneration"], "model_type": "kimi_k3", "dtype": "bfloat16",
    "text_config": {
        "activation_situ_beta": 4.0, "activation_situ_linear_beta": 25.0, "architectures": ["KimiLinearForCausalLM"],
        "attn_res_block_size": 12, "dtype": "bfloat16", "first_k_dense_replace": 1, "hidden_act": "situ",
        "hidden_size": 7168, "intermediate_size": 33792, "kv_lora_rank": 512, "latent_moe_use_norm": True,
        "linear_attn_config": {
            "full_attn_layers": _K3_FULL, "gate_lower_bound": -5.0, "head_dim": 128,
            "kda_layers": [i for i in range(1, 94) if i not in _K3_FULL], "num_heads": 96,
            "short_conv_kernel_size": 4, "use_full_rank_gate": True,
        },
        "max_position_embeddings": 1048576, "mla_use_nope": True, "mla_use_output_gate": True,
        "model_type": "kimi_linear", "moe_intermediate_size": 3072, "moe_layer_freq": 1, "moe_renormalize": True,
        "moe_router_activation_func": "sigmoid", "num_attention_heads": 96, "num_expert_group": 1, "num_experts": 896,
        "num_experts_per_token": 16, "num_hidden_layers": 93, "num_key_value_heads": 96, "num_nextn_predict_layers": 0,
        "num_shared_experts": 2, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
        "quantization_config": {
            "config_groups": {"group_0": {
                "format": "mxfp4-pack-quantized", "targets": ["Linear"],
                "weights": {"group_size": 32, "num_bits": 4, "strategy": "group", "symmetric": True, "type": "float"},
            }},
            "ignore": [
                "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*",
                "re:.*lm_head.*", "re:.*vision_tower.*", "re:.*mm_projector.*",
            ],
            "quant_method": "compressed-tensors",
        },
        "rms_norm_eps": 1e-05, "routed_expert_hidden_size": 3584, "routed_scaling_factor": 1.0,
        "tie_word_embeddings": False, "topk_group": 1, "topk_method": "noaux_tc", "use_grouped_topk": True,
        "v_head_dim": 128, "vocab_size": 163840,
    },
    "tie_word_embeddings": False, "vision_config": {"vt_hidden_size": 1024},
}  # fmt: skip
LONGCAT: Config = {
    "model_type": "longcat_flash", "attention_bias": False, "attention_dropout": 0.0, "attention_method": "MLA",
    "expert_ffn_hidden_size": 2048, "ffn_hidden_size": 12288, "hidden_size": 6144, "kv_lora_rank": 512,
    "max_position_embeddings": 131072, "mla_scale_kv_lora": True, "mla_scale_q_lora": True, "moe_topk": 12,
    "n_routed_experts": 512, "num_attention_heads": 64, "num_layers": 28, "q_lora_rank": 1536,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000000.0,
    "routed_scaling_factor": 6.0, "router_bias": False, "torch_dtype": "bfloat16", "v_head_dim": 128,
    "vocab_size": 131072, "zero_expert_num": 256, "zero_expert_type": "identity", "tie_word_embeddings": False,
}  # fmt: skip
MINICPM_2B: Config = {
    "model_type": "minicpm", "hidden_act": "silu", "hidden_size": 2304, "intermediate_size": 5760,
    "max_position_embeddings": 4096, "num_attention_heads": 36, "num_hidden_layers": 40, "num_key_value_heads": 36,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "vocab_size": 122753, "scale_emb": 12, "dim_model_base": 256,
    "scale_depth": 1.4,
}  # fmt: skip
SARVAM_30B: Config = {
    "model_type": "sarvam_moe", "vocab_size": 262144, "hidden_size": 4096, "intermediate_size": 8192,
    "num_hidden_layers": 19, "num_attention_heads": 16, "num_key_value_heads": 4, "use_qkv_bias": False,
    "use_bias": False, "tie_word_embeddings": False, "max_position_embeddings": 131072, "max_window_layers": 19,
    "num_experts": 128, "num_shared_experts": 1, "num_experts_per_tok": 6, "n_group": 1, "topk_group": 1,
    "moe_intermediate_size": 1024, "first_k_dense_replace": 1, "head_dim": 256, "use_qk_norm": True,
    "moe_router_enable_expert_bias": True, "routed_scaling_factor": 2.5,
}  # fmt: skip
SARVAM_105B: Config = {
    "model_type": "sarvam_mla", "vocab_size": 262144, "hidden_size": 4096, "intermediate_size": 16384,
    "moe_intermediate_size": 2048, "num_hidden_layers": 32, "num_attention_heads": 64, "num_experts": 128,
    "num_experts_per_tok": 8, "num_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "q_lora_rank": None, "use_qk_norm": True,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "moe_router_enable_expert_bias": True,
}  # fmt: skip
TELECHAT3: Config = {
    "model_type": "telechat3", "attention_bias": False, "head_dim": 128, "hidden_size": 6144,
    "intermediate_size": 24576, "max_position_embeddings": 32768, "mlp_bias": False, "num_attention_heads": 48,
    "num_hidden_layers": 64, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 4.0, "type": "telechat3-yarn"},
    "rope_theta": 1000000.0, "tie_word_embeddings": False, "vocab_size": 131072,
}  # fmt: skip
PANGU_7B: Config = {
    "model_type": "PanguEmbedded", "bias": True, "attention_dropout": 0.0, "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 12800, "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 34,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 16000000.0, "tie_word_embeddings": False,
    "vocab_size": 153376,
}  # fmt: skip


def _puzzle(multiple: float, attends: bool = False) -> Config:
    attention = {"n_heads_in_group": 8 if attends else None, "no_op": not attends, "replace_with_linear": False}
    return {"attention": {**attention, "sparsify": None, "window_length": None}, "ffn": {
        "ffn_mult": multiple, "no_op": False, "replace_with_linear": False, "sparsify": None}}  # fmt: skip


_NARROW = "2.625 2.625 1.3125 5.25 1.3125 2.625 1.3125 1.3125 1.3125 whole 1.3125 1.0 1.0 1.3125 1.0 1.0 1.0 1.3125" \
    " 1.3125 0.5 0.5 1.0 1.0 0.5 0.5 1.0 0.5 0.5"  # fmt: skip
_WHOLE = _puzzle(5.25, attends=True)
NEMOTRON_49B: Config = {
    "architectures": ["DeciLMForCausalLM"], "model_type": "nemotron-nas", "attention_bias": False,
    "block_configs": [
        _puzzle(2.625, attends=True), *[_WHOLE] * 5, *[_puzzle(2.625)] * 2, *[_WHOLE] * 3,
        _puzzle(3.28125), *[_WHOLE] * 30, _puzzle(1.3125),
        *(_WHOLE if each == "whole" else _puzzle(float(each)) for each in _NARROW.split()), *[_WHOLE] * 9,
    ],
    "hidden_act": "silu", "hidden_size": 8192, "intermediate_size": None, "max_position_embeddings": 131072,
    "mlp_bias": False, "num_attention_heads": 64, "num_hidden_layers": 80, "num_key_value_heads": None,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": False,
    "vocab_size": 128256,
}  # fmt: skip
