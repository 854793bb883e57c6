"""Configurations as they are published: read to the last value that the hub counts, and formats by module.

Bytes of packed files follow from counts of the hub: of a file in NVFP4 with n packed weights, r other values and all
scales counted it says n / 2 + n / 16 + r.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flashstill.arch import from_hf, load_architecture
from flashstill.arch.adapter.modules import Modules
from flashstill.cost import precisions_of
from flashstill.errors import BadInput, UnsupportedArchitecture
from tests import published_configs as published
from tests.published_configs import TOTALS, Config


@pytest.mark.parametrize("name", TOTALS)
def test_every_value_of_the_safetensors_is_counted(name: str) -> None:
    config, counted, buffers = TOTALS[name]
    model = from_hf(config, name)
    assert model.parameters + model.mtp_parameters == counted - buffers
    assert "not understood" not in model.note or name.startswith("tencent")


def test_modules_that_predict_further_tokens_are_what_their_checkpoints_hold() -> None:
    # Step 3.5: three modules with windows and a dense FFN, each with a copy of the LM head; 42 routers have 288 buffers
    step = from_hf(published.STEP_35, "step")
    heads = 3 * 4096 * 128896
    assert step.parameters + step.mtp_parameters + heads == 199_384_301_376 - 42 * 288
    # ERNIE 4.5: what its file with a module holds more than that without, but for one norm
    ernie = from_hf({**published.ERNIE, "num_nextn_predict_layers": 1}, "ernie")
    assert ernie.mtp_parameters - 2560 == 21_948_655_808 - 21_825_437_888
    # GLM-5.2: its module has an indexer although the last block shares one; 76 routers have 256 buffers each
    glm = from_hf(published.GLM_52, "glm")
    assert glm.parameters + glm.mtp_parameters == 753_329_940_480 - 76 * 256
    # Qwen3.5 122B: the rest is a vision tower of 27 blocks of 1,152
    qwen = from_hf(published.QWEN35_122B, "qwen")
    assert qwen.parameters + qwen.mtp_parameters == 125_086_497_008 - 451_290_864
    assert "full_attention_interval" not in qwen.note


def test_catalogued_hybrids_of_qwen_have_their_module() -> None:
    for name in ("qwen3-next-80b-a3b", "qwen3.5-27b", "qwen3.5-397b-a17b", "qwen3.6-35b-a3b"):
        assert load_architecture(name).mtp_layers == 1, name
    # Qwen3-Next has no vision tower: all that the hub counts beyond the blocks is the module
    model = load_architecture("qwen3-next-80b-a3b")
    assert model.parameters + model.mtp_parameters == 81_324_862_720


def test_a_text_part_under_a_name_of_its_own() -> None:
    # EXAONE 4.5 is EXAONE 4 with 51,200 more rows in the embedding and in the head
    assert from_hf(published.EXAONE_45, "m").parameters == 32_003_216_384 + 2 * 51_200 * 5_120


def test_fields_of_parts_that_a_model_does_not_have() -> None:
    # MiniMax-M2's file holds none of the modules that its config names; 62 routers have 256 buffers each
    assert from_hf(published.MINIMAX_M2, "m").parameters == 228_689_764_864 - 62 * 256
    # Phi-4 multimodal has the text model of Phi-4-mini
    spoken = from_hf(published.PHI4_MM, "m")
    assert spoken.parameters == 3_836_021_760
    assert spoken.note == "text part only: encoders of images and speech, and their adapters, not counted"


def test_switches_that_contradict_the_family_are_refused() -> None:
    for config, name, value in [
        (published.LFM2, "block_use_swiglu", False),
        (published.STEP_35, "use_mfa", True),
        (published.K_EXAONE, "is_moe_layer", [True] * 48),
        (published.HUNYUAN, "use_mla", True),
        (published.GLM_52, "indexer_types", ["shared"] * 78),
        (published.NEMOTRON_NANO, "num_query_groups", 40),
        (published.COMMAND_A, "layer_switch", 2),
        (published.COMMAND_A, "use_gated_activation", False),
        ({**published.APERTUS, "model_type": "llama", "qk_norm": None, "post_norm": None}, "use_qk_norm", True),
    ]:
        with pytest.raises(UnsupportedArchitecture, match="indexer" if name == "indexer_types" else name):
            from_hf({**config, name: value}, "m")


# Formats by module ---------------------------------------------------------------------------------------------------

NVFP4 = {"quant_algo": "NVFP4", "group_size": 16}


def _bits(config: Config, scheme: Config) -> dict[str, float]:
    formats = from_hf({**config, "quantization_config": scheme}, "m").formats
    return {
        "linear": formats.linear.bits, "experts": formats.experts.bits,
        "attention": formats.attention.bits, "head": formats.head.bits,
    }  # fmt: skip


def test_lists_of_hybrid_models_name_other_blocks_for_each_kind() -> None:
    """nvidia/Qwen3.5-122B-A10B-NVFP4: linear attention in 36 blocks, full in 12, neither of them packed."""
    prefix = "model.language_model.layers"
    left = ["lm_head", "mtp*", "model.visual*"]
    left += [f"{prefix}.{i}.{'self_attn' if i % 4 == 3 else 'linear_attn'}*" for i in range(48)]
    left += [f"{prefix}.{i}.mlp.shared_expert{more}" for i in range(48) for more in ("*", "_gate")]
    found = _bits(published.QWEN35_122B, {"quant_method": "modelopt", "ignore": left, **NVFP4})
    assert found == {"linear": 16, "experts": 4.5, "attention": 16, "head": 16}


def test_mixed_precision_by_layer() -> None:
    """nvidia/Qwen3.6-27B-NVFP4 and nvidia/MiniMax-M3-NVFP4: a format for each module."""
    prefix, fp8 = "model.language_model.layers", {"quant_algo": "FP8"}
    layers: dict[str, Any] = {"lm_head": {"quant_algo": "W4A16_NVFP4", "group_size": 16}}
    for i in range(48):
        layers |= {f"{prefix}.{i}.mlp.experts": {"quant_algo": "W4A16_NVFP4", "group_size": 16}}
        layers |= {f"{prefix}.{i}.mlp.shared_expert.{m}_proj": {"quant_algo": "MXFP8"} for m in ("up", "down", "gate")}
        mixer = "self_attn.o_proj" if i % 4 == 3 else "linear_attn.out_proj"
        layers |= {f"{prefix}.{i}.{mixer}": fp8}
    scheme = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    # 8 bits and one scale of 8 bits for 32; 4 bits and one of 8 bits for 16
    assert _bits(published.QWEN35_122B, scheme) == {"linear": 8.25, "experts": 4.5, "attention": 8, "head": 4.5}
    mistakes: list[tuple[Config, str]] = [
        ({"quantized_layers": {}}, "no quantized_layers"),
        ({"quantized_layers": {"lm_head": "FP8"}}, "not an object"),
        ({"quantized_layers": {"lm_head": {"quant_algo": "FP3"}}}, "quant_algo 'FP3'"),
        ({"quantized_layers": {"visual.0": fp8}}, "no weights that are known"),
        ({"quantized_layers": {f"a{i}": {**NVFP4, "group_size": i + 1} for i in range(17)}}, "17 formats"),
    ]
    for broken, complaint in mistakes:
        with pytest.raises(UnsupportedArchitecture, match=complaint):
            _bits(published.QWEN35_122B, {**scheme, **broken})


def test_experts_in_nvfp4_beside_blocks_of_fp8() -> None:
    """nvidia/DeepSeek-V4-Flash-NVFP4: its lists name what is not in the experts' format, and is in FP8."""
    scheme = {
        "quant_method": "fp8", "weight_block_size": [128, 128], "moe_quant_algo": "NVFP4", "group_size": 16,
        "ignore": ["*.attn.*", "*.ffn.shared_experts.*", "head"], "quant_algo": "MIXED_PRECISION",
    }  # fmt: skip
    found = _bits(published.GLM_52, scheme)
    assert found == pytest.approx({"linear": 8.002, "experts": 4.5, "attention": 8.002, "head": 16}, abs=1e-3)


def test_a_dense_ffn_beside_experts_is_not_taken_for_them() -> None:
    """nvidia/Gemma-4-26B-A4B-NVFP4 packs its experts alone: 14.39 billion values for 25.2 billion weights."""
    name = "model.language_model.layers"
    left = [f"{name}.{i}.{part}*" for i in range(30) for part in ("mlp", "router", "self_attn")]
    gemma = Modules(numbers=30, present={"experts": 30, "linear": 30}, family="gemma4_text")
    assert not gemma.matches("experts", left)
    assert gemma.matches("linear", left)
    assert Modules(numbers=30, present={"experts": 30}).matches("experts", left)


def test_head_under_the_prefix_of_a_multimodal_model() -> None:
    """nvidia/Kimi-K2.6-NVFP4 leaves language_model.lm_head out."""
    modules = Modules(numbers=61)
    assert modules.matches("head", ["language_model.lm_head"])
    assert not modules.matches("head", ["language_model.lm_head_norm", "vision_tower*"])


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [
        # Qwen/Qwen3-32B-FP8-Static-PerTensor names no method
        ({"quant_algo": "FP8", "ignore": ["lm_head"]}, (8, 16)),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "MXFP8"}}, (8.25, 8.25)),
        ({"quant_method": "modelopt_fp4", "quant_algo": "NVFP4_AWQ"}, (4.5, 4.5)),
        ({"quant_method": "modelopt", "quant_algo": "fp8_pb_wo", "ignore": ["lm_head"]}, (8.002, 16)),
        # amd/Llama-3.1-405B-Instruct-MXFP4 and the like
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}},
                "layer_quant_config": {}, "exclude": ["lm_head"],
            },
            (4.25, 16),
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}},
                "layer_quant_config": {"*mlp*": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}},
                "exclude": ["lm_head"],
            },
            (8, 16),
        ),
    ],
)  # fmt: skip
def test_schemes_of_other_tools(scheme: Config, bits: tuple[float, float]) -> None:
    found = _bits(published.APERTUS, scheme)
    assert (found["linear"], found["head"]) == pytest.approx(bits, abs=1e-3)


def test_schemes_without_a_method_are_refused_by_what_is_known() -> None:
    mistakes: list[tuple[Config, str]] = [
        ({"bits": 4, "group_size": 64}, "no quant_method; known are awq"),
        ({"quant_method": "quark"}, "no global_quant_config"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int3"}}}, "type 'int3'"),
    ]
    for scheme, complaint in mistakes:
        with pytest.raises(UnsupportedArchitecture, match=complaint):
            _bits(published.APERTUS, scheme)


def test_formats_that_stand_in_a_file_beside_the_config(tmp_path: Path) -> None:
    """nvidia/GLM-5-NVFP4 and others: hf_quant_config.json alone says that the file is a fourth as large."""
    (tmp_path / "config.json").write_text(json.dumps(published.GLM_52))
    assert load_architecture(str(tmp_path)).weight_bytes == pytest.approx(2 * 743.38e9, rel=1e-4)
    left = ["lm_head", *(f"model.layers.{i}.self_attn*" for i in range(78))]
    beside = {"producer": {"name": "modelopt"}, "quantization": {**NVFP4, "exclude_modules": left}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside))
    packed = load_architecture(str(tmp_path))
    # 75 blocks of 257 experts of 3 x 6,144 x 2,048 and three of 12,288 in 4.5 bits
    narrow = 3 * 6144 * (75 * 257 * 2048 + 3 * 12288)
    assert packed.weight_bytes == pytest.approx(narrow * 4.5 / 8 + 2 * (packed.parameters - narrow), rel=1e-3)
    assert load_architecture(str(tmp_path / "config.json")) == packed
    # What config.json says itself goes first
    own = {**published.GLM_52, "quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "config.json").write_text(json.dumps(own))
    assert load_architecture(str(tmp_path)).formats.experts.bits == 8


def test_mistakes_in_the_file_of_formats_name_it(tmp_path: Path) -> None:
    """An empty one is broken, as none at all would say 16 bits."""
    (tmp_path / "config.json").write_text(json.dumps(published.APERTUS))
    for text, said in (
        ("", "hf_quant_config.json is not JSON"),
        ('{"quantization": {"quant_algo": "FP9"}}', r"\(hf_quant_config.json\) names an unknown quant_algo 'FP9'"),
        ('{"quantization": {}}', r"\(hf_quant_config.json\) has no quant_algo"),
    ):
        (tmp_path / "hf_quant_config.json").write_text(text)
        with pytest.raises((BadInput, UnsupportedArchitecture), match=said):
            load_architecture(str(tmp_path))


def test_a_checkpoint_may_quantise_its_cache_alone() -> None:
    scheme = {"quant_method": "modelopt", "quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}
    model = from_hf({**published.APERTUS, "quantization_config": scheme}, "m")
    assert (model.formats.linear.name, model.formats.scheme) == ("bf16", None)
    assert precisions_of(model, None).kv == "fp8"


@pytest.mark.parametrize(
    ("said", "cache"),
    [
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": None}, "bf16"),
        ({"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False}}, "fp8"),
        ({"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 8, "type": "int"}}, "bf16"),
        ({"quant_method": "fp8"}, "bf16"),
    ],
)
def test_a_cache_whose_scales_the_checkpoint_holds(said: Config, cache: str) -> None:
    """nvidia/Llama-3.1-70B-Instruct-FP8 and others: engines keep the cache as the file says, unless told otherwise."""
    model = from_hf({**published.APERTUS, "quantization_config": said}, "m")
    assert precisions_of(model, None).kv == cache
    assert precisions_of(model, None, "bf16").kv == "bf16"


@pytest.mark.parametrize(
    "said", [{"kv_cache_quant_algo": "NVFP4"}, {"kv_cache_scheme": {"num_bits": 8, "type": "int"}}]
)
def test_a_cache_that_is_priced_otherwise_than_the_checkpoint_says_is_told(said: Config) -> None:
    scheme = {"quant_method": "modelopt", "quant_algo": "FP8", **said}
    model = from_hf({**published.APERTUS, "quantization_config": scheme}, "m")
    assert precisions_of(model, None).kv == "bf16"
    assert "is taken to have 16 bits" in model.note


def test_names_and_files_of_a_checkpoint_have_one_cache() -> None:
    assert precisions_of(load_architecture("nvidia/GLM-5-NVFP4"), None).kv == "fp8"
    assert precisions_of(load_architecture("glm-5"), "fp4").kv == "fp8"


def test_long_lists_of_modules_are_read_in_time() -> None:
    """21,888 experts by name, as of MiniMax-M3; patterns, which take longer, are limited in number."""
    names = [f"model.layers.{i}.mlp.experts.{e}.w{w}" for i in range(60) for e in range(128) for w in (1, 2, 3)]
    modules = Modules(numbers=60, present={"experts": 57})
    assert not modules.matches("experts", names)
    assert modules.matches("experts", [f"model.layers.{i}.mlp.experts.0.down_proj" for i in range(60)] + names)
    with pytest.raises(ValueError, match="5,001 patterns"):
        modules.matches("experts", [f"*a{i}*" for i in range(5001)])
