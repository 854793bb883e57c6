"""Published configurations of families that nobody had asked for, held to their totals; others are refused."""

from __future__ import annotations

from typing import Any

import pytest

from flashstill.arch import from_hf
from flashstill.errors import UnsupportedArchitecture

OPENELM_1B: dict[str, Any] = {
    "model_type": "openelm", "activation_fn_name": "swish", "architectures": ["OpenELMForCausalLM"],
    "ffn_dim_divisor": 256, "ffn_multipliers": [
        0.5, 0.63, 0.76, 0.89, 1.02, 1.15, 1.28, 1.41, 1.54, 1.67, 1.8, 1.93, 2.06, 2.19, 2.31, 2.44, 2.57, 2.7, 2.83,
        2.96, 3.09, 3.22, 3.35, 3.48, 3.61, 3.74, 3.87, 4.0,
    ],
    "ffn_with_glu": True, "head_dim": 64, "initializer_range": 0.02, "max_context_length": 2048, "model_dim": 2048,
    "normalization_layer_name": "rms_norm", "normalize_qk_projections": True, "num_gqa_groups": 4,
    "num_kv_heads": [4] * 3 + [5] * 7 + [6] * 8 + [7] * 6 + [8] * 4,
    "num_query_heads": [16] * 3 + [20] * 7 + [24] * 8 + [28] * 6 + [32] * 4,
    "num_transformer_layers": 28, "qkv_multipliers": [0.5, 1.0], "rope_freq_constant": 10000, "rope_max_length": 4096,
    "share_input_output_layers": True, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 32000,
}  # fmt: skip
HUNYUAN_7B: dict[str, Any] = {
    "add_classification_head": False, "architectures": ["HunYuanDenseV1ForCausalLM"], "attention_bias": False,
    "attention_dropout": 0.1, "attention_head_dim": 128, "bos_token_id": 1, "cla_share_factor": 2, "class_num": 0,
    "dense_list": [4096, 0], "eos_token_id": 127960, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
    "im_end_id": 5, "im_newline_id": 11, "im_start_id": 4, "initializer_range": 0.02, "intermediate_size": 14336,
    "mask_init_id": 12, "max_position_embeddings": 32768, "mlp_bias": False, "model_type": "hunyuan_v1_dense",
    "norm_type": "rms", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "org_vocab_size": 128167, "pad_id": 127961, "pad_token_id": 127961, "pool_type": "last", "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sep_token_id": 127962, "text_end_id": 7, "text_start_id": 6,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": False, "use_cla": False, "use_qk_norm": True,
    "use_rotary_pos_emb": True, "vocab_size": 128167,
}  # fmt: skip
BITNET_2B: dict[str, Any] = {
    "model_type": "bitnet", "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 30,
    "num_attention_heads": 20, "num_key_value_heads": 5, "vocab_size": 128256, "max_position_embeddings": 4096,
    "tie_word_embeddings": True, "hidden_act": "relu2", "torch_dtype": "bfloat16", "quantization_config": {
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
    },
}  # fmt: skip


def test_openelm_has_sizes_of_its_own_in_every_block() -> None:
    model = from_hf(OPENELM_1B, "openelm")
    assert model.parameters == 1_079_891_456  # as published for OpenELM-1.1B
    assert model.depth == 28
    heads = [layer.count * getattr(layer.attention, "kv_heads", 0) for layer in model.layers]
    assert sum(heads) == 169
    assert model.tied
    assert model.context == 2048


@pytest.mark.parametrize("name", ["num_query_heads", "num_kv_heads", "ffn_multipliers"])
def test_openelm_lists_that_do_not_fit_are_named(name: str) -> None:
    for wrong in (OPENELM_1B[name][:-1], None, 4, [*OPENELM_1B[name][:-1], "x"], [*OPENELM_1B[name][:-1], -1]):
        with pytest.raises(UnsupportedArchitecture, match=name):
            from_hf({**OPENELM_1B, name: wrong}, "openelm")


def test_hunyuan_states_the_width_of_a_head_twice() -> None:
    model = from_hf(HUNYUAN_7B, "hunyuan")
    # 32 (q, k, v, o and three matrices) + tied embedding: 7.5 B, as published
    assert model.parameters == pytest.approx(7.505e9, rel=1e-3)
    with pytest.raises(UnsupportedArchitecture, match="attention_head_dim other than 128"):
        from_hf({**HUNYUAN_7B, "attention_head_dim": 64}, "hunyuan")
    with pytest.raises(UnsupportedArchitecture, match="use_cla"):
        from_hf({**HUNYUAN_7B, "use_cla": True}, "hunyuan")


def test_a_ternary_checkpoint_is_as_large_as_published() -> None:
    # BitNet b1.58 2B4T: model.safetensors of 1.18 GB, of which 0.66 GB are the embedding in 16 bits
    model = from_hf(BITNET_2B, "bitnet")
    assert model.weight_bytes == pytest.approx(1.18e9, rel=0.01)
    online = {**BITNET_2B, "quantization_config": {"quant_method": "bitnet", "quantization_mode": "online"}}
    assert from_hf(online, "bitnet").weight_bytes == pytest.approx(2 * model.parameters, rel=1e-6)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("Dream", "masked tokens"),
        ("llada", "masked tokens"),
        ("hunyuan", "share a cache"),
        ("phi4flash", "cache of one"),
    ],
)
def test_families_that_are_no_decoders_of_one_token_say_why(model_type: str, reason: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=reason):
        from_hf({"model_type": model_type, "hidden_size": 64, "num_hidden_layers": 2}, model_type)
