"""Models that vLLM and SGLang serve with code of their own: read from their published configurations.

A reading is held to the published totals (in billions; of mixtures also the active parameters), and to the bytes of
cache of one sequence of 10,000 tokens in 16-bit values, worked out by hand from the attention of each kind of block.
"""

from __future__ import annotations

from typing import Any

import pytest

from flashstill.arch import Attention, LatentAttention, LinearAttention, from_hf
from flashstill.arch.adapter.families import REMOTE
from flashstill.arch.adapter.refused import REFUSED
from flashstill.errors import UnsupportedArchitecture
from flashstill.workload import cache_bytes
from tests import remote_configs as published
from tests.remote_configs import Config

TOKENS = 10_000
_GROUPED = 2 * 2 * TOKENS  # bytes of key and value in 16 bits, to be multiplied by key heads x head width
_LATENT = 2 * TOKENS * (512 + 64)
_LIGHTNING = 4 * 128 * 128  # bytes of one head's state in 32 bits
PUBLISHED: dict[str, tuple[Config, float, float, float]] = {
    # config, total, active or 0 of dense models, bytes of cache
    "ling-mini-2.0": (published.LING, 16.3, 1.43, 20 * _GROUPED * 4 * 128),
    "ling-flash-2.0": (published.LING_FLASH, 103, 6.1, 32 * _GROUPED * 4 * 128),
    "ling-1t": (published.LING_1T, 1000, 51, 80 * _GROUPED * 8 * 128),
    "ling-lite": (published.LING_LITE, 16.8, 2.75, 28 * _GROUPED * 4 * 128),
    "ring-mini-linear-2.0": (published.RING_LINEAR, 16.4, 1.6, 4 * _GROUPED * 4 * 128 + 16 * 16 * _LIGHTNING),
    "ring-flash-linear-2.0": (
        published.RING_FLASH_LINEAR, 104, 7.4, 4 * _GROUPED * 4 * 128 + 28 * 32 * _LIGHTNING,
    ),
    "ring-2.5-1t": (published.RING_25, 1000, 63, 10 * _LATENT + 70 * 64 * _LIGHTNING),
    "mimo-v2-flash": (published.MIMO_V2_FLASH, 309, 15.3, 2 * (192 + 128) * (9 * 4 * TOKENS + 39 * 8 * 129)),
    "chatglm3-6b": (published.CHATGLM3, 6.24, 0, 28 * _GROUPED * 2 * 128),
    "qwen-7b": (published.QWEN_7B, 7.72, 0, 32 * _GROUPED * 4096),
    "baichuan2-7b": (published.BAICHUAN2, 7.51, 0, 32 * _GROUPED * 4096),
    "internlm2-7b": (published.INTERNLM2, 7.74, 0, 32 * _GROUPED * 1024),
    "internlm2-20b": (published.INTERNLM2_20B, 19.9, 0, 48 * _GROUPED * 1024),
    "internlm-7b": (published.INTERNLM, 7.32, 0, 32 * _GROUPED * 4096),
    "exaone-3.0-7.8b": (published.EXAONE, 7.82, 0, 32 * _GROUPED * 1024),
    "orion-14b": (published.ORION, 14.5, 0, 40 * _GROUPED * 5120),
    "dbrx": (published.DBRX, 132, 36, 40 * _GROUPED * 1024),
    "grok-1": (published.GROK, 314, 0, 64 * _GROUPED * 1024),
    "arctic": (published.ARCTIC, 480, 17.1, 35 * _GROUPED * 1024),
    "deepseek-moe-16b": (published.DEEPSEEK_MOE, 16.4, 2.83, 28 * _GROUPED * 2048),
    "deepseek-ocr": (published.DEEPSEEK_OCR, 2.93, 0, 12 * _GROUPED * 1280),
    "step3": (published.STEP3, 316, 0, 61 * _GROUPED * 256),
    "kimi-vl-a3b": (published.KIMI_VL, 16, 0, 27 * _LATENT),
    "kimi-k3": (published.KIMI_K3, 2780, 0, 24 * _LATENT + 69 * (96 * _LIGHTNING + 2 * 3 * 3 * 96 * 128)),
    "longcat-flash": (published.LONGCAT, 562, 0, 56 * _LATENT),
    "minicpm-2b": (published.MINICPM_2B, 2.72, 0, 40 * _GROUPED * 2304),
    "mimo-7b": (published.MIMO, 7.62, 0, 36 * _GROUPED * 1024),
    "sarvam-105b": (published.SARVAM_105B, 105, 0, 32 * _LATENT),
    "telechat3-36b": (published.TELECHAT3, 36, 0, 64 * _GROUPED * 1024),
    "nemotron-super-49b": (published.NEMOTRON_49B, 49.867145216, 0, 49 * _GROUPED * 1024),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals_and_cache(name: str) -> None:
    config, total, active, cache = PUBLISHED[name]
    model = from_hf(config, name)
    assert model.parameters == pytest.approx(total * 1e9, rel=0.015)
    if active:
        assert model.active_parameters == pytest.approx(active * 1e9, rel=0.015)
    assert cache_bytes(model, 1, TOKENS) == cache
    assert "not understood" not in model.note


def test_active_parameters_that_are_published_without_embeddings() -> None:
    def beside(config: Config, ends: int) -> float:
        model = from_hf(config, "m")
        return (model.active_parameters - ends * model.width * model.vocabulary) / 1e9

    assert beside(published.LING, 2) == pytest.approx(0.789, rel=0.002)
    assert beside(published.RING_LINEAR, 2) == pytest.approx(0.957, rel=0.002)
    assert beside(published.STEP3, 1) == pytest.approx(38, rel=0.015)
    assert beside(published.KIMI_VL, 2) == pytest.approx(2.24, rel=0.01)
    # 18.6 to 31.3, on average 27
    assert beside(published.LONGCAT, 1) == pytest.approx(27, rel=0.015)


def test_blocks_after_the_last_whole_group_have_a_cache() -> None:
    longer = from_hf({**published.RING_LINEAR, "num_hidden_layers": 22}, "ring")
    assert sum(layer.count for layer in longer.layers if isinstance(layer.attention, Attention)) == 4 + 2


def test_modules_that_predict_further_tokens() -> None:
    model = from_hf(published.MIMO, "mimo-7b")
    assert model.parameters + model.mtp_parameters == pytest.approx(7.83e9, rel=1e-3)


def test_bytes_of_a_published_checkpoint() -> None:
    # 96 files of Kimi K3, of which 0.93 GB are the vision tower and its projection
    assert from_hf(published.KIMI_K3, "k3").weight_bytes == pytest.approx(1_560_936_091_448 - 0.93e9, rel=1e-3)


def test_the_exact_count_of_a_model_whose_blocks_differ() -> None:
    model = from_hf(published.NEMOTRON_49B, "super")
    assert model.parameters == 49_867_145_216
    assert {getattr(layer.attention, "kv_heads", 0): layer.count for layer in model.layers}.keys() == {8}
    assert model.depth == 49


def test_step3_reads_low_rank_queries() -> None:
    from flashstill.workload import Widths, decode

    model = from_hf(published.STEP3, "step3")
    attention = model.layers[0].attention
    assert isinstance(attention, Attention)
    # d (2048 + 256 + 256), 2048 x 64 x 256 and back from 64 x 256 to d
    assert attention.matrix_parameters(7168) == 7168 * 2560 + 2048 * 16384 + 16384 * 7168
    one = Widths(weight=1.0, kv=0.0, activation=0.0)
    read = {each.name: float(each.weight_bytes) for each in decode(model, 1.0, 1.0, one)}
    assert read["query, key, value"] == 7168 * 2560
    assert read["query up"] == 2048 * 16384


def test_mimo_in_both_forms() -> None:
    config = published.MIMO_V2_FLASH
    own = ("swa_", "hybrid_", "add_", "moe_layer_freq")
    theirs = {key: value for key, value in config.items() if not key.startswith(own)}
    ours, other = from_hf(config, "m"), from_hf(theirs, "m")
    assert (ours.layers, ours.parameters) == (other.layers, other.parameters)
    assert [(layer.count, layer.attention.window) for layer in ours.layers] == [(1, None), (39, 129), (8, None)]
    # a block with a window and a dense FFN, 0.33 B
    predicting = from_hf({**config, "num_nextn_predict_layers": 3}, "m")
    assert predicting.mtp_parameters == pytest.approx(3 * 0.33e9, rel=0.01)
    assert (ours.formats.attention.name, ours.formats.experts.name) == ("bf16", "fp8")
    mixed = {**config["quantization_config"], "store_dtype": "mxfp4", "mxfp4_block_size": 32}
    assert from_hf({**config, "quantization_config": mixed}, "m").formats.experts.bits == 4.25


@pytest.mark.slow
def test_ling_3_as_published_is_ling_3_of_transformers() -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    small: Config = {
        **published.LING_3_TINY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "vocab_size": 96,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8, "q_lora_rank": None, "kv_lora_rank": 10,
        "qk_head_dim": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 8, "num_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 20, "moe_shared_expert_intermediate_size": 20, "n_group": 1,
        "topk_group": 1,
    }  # fmt: skip
    shape = CONFIG_MAPPING["bailing_hybrid"](
        **{key: value for key, value in small.items() if not key.startswith(("num_experts", "num_shared", "moe_sh"))},
        num_local_experts=4, num_experts_per_tok=2, n_shared_experts=1, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape)
    assert from_hf(small, "ling").parameters == sum(weight.numel() for weight in model.parameters())
    ling = from_hf(published.LING_3_TINY, "ling-3.0-tiny")
    kinds = {type(layer.attention): layer.count for layer in ling.layers if layer.ffn.experts}
    assert kinds == {LinearAttention: 17, LatentAttention: 6}


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({**published.LING, "multi_gate": True}, "sets multi_gate"),
        ({**published.CHATGLM3, "pre_seq_len": 128}, "sets pre_seq_len"),
        ({**published.CHATGLM3, "rmsnorm": False}, "rmsnorm other than True"),
        ({**published.QWEN_7B, "intermediate_size": 22017}, "intermediate_size 22017 is not even"),
        ({**published.STEP3["text_config"], "model_type": "step3_text", "moe_layers_enum": "4,x"}, "moe_layers_enum"),
        ({**published.MIMO_V2_FLASH, "hybrid_layer_pattern": [0, 1]}, "hybrid_layer_pattern does not list"),
        ({**published.MIMO_V2_FLASH, "hybrid_layer_pattern": [2] * 48}, "hybrid_layer_pattern has 2"),
        ({**published.ARCTIC, "moe_layer_frequency": 2}, "moe_layer_frequency other than 1"),
        ({**published.LING_3_TINY, "gated_attention_proj_granularity_type": "odd"}, "is not head_wise"),
        ({**published.NEMOTRON_49B, "block_configs": []}, "block_configs does not list one entry"),
        ({**published.NEMOTRON_49B, "block_configs": [7] * 80}, "block_configs has no attention"),
        (
            {**published.MIMO_V2_FLASH, "quantization_config": {"quant_method": "fp8", "store_dtype": "int3"}},
            "store_dtype other than mxfp4",
        ),
        ({"model_type": "telechat"}, "no published configuration"),
        ({"model_type": "ouro"}, "its blocks run several times over"),
    ],
)
def test_what_is_not_understood_is_refused(config: Config, complaint: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=complaint):
        from_hf(config, "m")


def test_families_without_a_class_are_told_from_those_with_one() -> None:
    from transformers import CONFIG_MAPPING

    assert not [kind for kind in REMOTE if kind in CONFIG_MAPPING]
    assert not set(REMOTE) & set(REFUSED)


def test_the_fields_of_every_family_change_its_size() -> None:
    """A width that were read from nowhere would leave the size as it is."""

    def doubled(config: Any, name: str) -> int:
        if isinstance(config.get("text_config"), dict):
            config = {**config, "text_config": {**config["text_config"], name: 2 * config["text_config"][name]}}
            return from_hf(config, "m").parameters
        return from_hf({**config, name: 2 * config[name]}, "m").parameters

    for config in (published.LING, published.CHATGLM3, published.EXAONE, published.STEP3, published.LONGCAT):
        inner = config.get("text_config", config)
        whole = from_hf(config, "m").parameters
        widths = [name for name in inner if name.endswith(("_size", "_dim")) and isinstance(inner[name], int)]
        ignored = ("rotary_dim", "qk_rope_head_dim")
        for name in widths:
            if name not in ignored:
                assert doubled(config, name) > whole, name
