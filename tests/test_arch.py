"""Shapes, parameter counts and formats: against published totals, and against tiny twins in torch."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from flashstill.arch import (
    Architecture,
    Attention,
    LatentAttention,
    LinearAttention,
    from_hf,
    known_models,
    load_architecture,
)
from flashstill.arch import catalogue as catalogue_module
from flashstill.arch.adapter import FAMILIES
from flashstill.arch.adapter.families import REMOTE
from flashstill.arch.catalogue import catalogue
from flashstill.errors import BadInput, MissingFact, UnsupportedArchitecture
from tests.marks import slow
from tests.twins import (
    EIGHT,
    FAMILY_TWINS,
    GEMMA4,
    MIX,
    MLA,
    MOE,
    QWEN,
    SMALL,
    Changes,
    ours_of,
)

# The catalogue ---------------------------------------------------------------------------------------------------


def test_published_totals() -> None:
    for name in known_models():
        row = catalogue()[name]
        within = row.get("published_within", 2e-4)
        assert load_architecture(name).parameters == pytest.approx(row["published_parameters"], rel=within), name
        assert within <= 0.02, name
        assert row["source"], name


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen3-30b-a3b", 3.35),
        ("qwen3-235b-a22b", 22.2),
        ("qwen3-coder-480b-a35b", 35.5),
        ("mixtral-8x7b", 12.9),
        ("mixtral-8x22b", 39.1),
        ("deepseek-v2", 21.4),
        ("deepseek-v3", 37.5),
        ("kimi-k2", 32.9),
        ("llama-4-scout", 17.2),
        ("llama-4-maverick", 17.2),
        ("phi-3.5-moe", 6.6),
        ("gemma-4-26b-a4b", 3.8),
        ("deepseek-v4-flash", 13.8),
        ("minimax-m3", 26.0),
    ],
)
def test_active_parameters_of_experts(name: str, billions: float) -> None:
    assert load_architecture(name).active_parameters == pytest.approx(billions * 1e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "billions", "ends"),
    # `ends`: which of embedding and head the publisher does not count
    [("gpt-oss-120b", 5.13, 1), ("gpt-oss-20b", 3.61, 1), ("minimax-text-01", 45.9, 2), ("minimax-m2", 10.0, 2)],
)
def test_active_parameters_without_embedding(name: str, billions: float, ends: int) -> None:
    model = load_architecture(name)
    rest = model.active_parameters - ends * model.width * model.vocabulary
    assert rest == pytest.approx(billions * 1e9, rel=0.025)


def test_cache_of_published_models() -> None:
    def values(name: str) -> float:
        return load_architecture(name).kv_values_per_token

    # Qwen3-32B: 64 heads of 128 on a width of 5120; 64 layers x 8 KV heads x 128 x 2 tensors x 2 bytes
    assert 2 * values("qwen3-32b") == 262_144
    assert values("deepseek-v3") == 61 * (512 + 64)
    assert values("palm-540b") == 118 * 2 * 256
    assert values("qwen3-next-80b-a3b") == 12 * 2 * 2 * 256
    assert values("gemma-4-26b-a4b") == 25 * 2 * 8 * 256 + 5 * 2 * 2 * 512


def test_blocks_are_merged_by_kind() -> None:
    def counts(name: str) -> list[tuple[int, int | None]]:
        return [(layer.count, layer.attention.window) for layer in load_architecture(name).layers]

    assert counts("gpt-oss-120b") == [(18, 128), (18, None)]
    assert counts("gemma-3-27b") == [(52, 1024), (10, None)]
    assert counts("deepseek-v3") == [(3, None), (58, None)]
    assert counts("llama-4-scout") == [(36, 8192), (12, None)]
    assert counts("minimax-text-01") == [(70, None), (10, None)]
    assert counts("command-a-111b") == [(48, 4096), (16, None)]


def test_mixers() -> None:
    gemma = load_architecture("gemma-4-26b-a4b").layers[1].attention
    assert isinstance(gemma, Attention)
    assert gemma.shared_key_value
    assert (gemma.kv_width, gemma.kv_values_per_token, gemma.query_width) == (1024, 2048, 8192)
    deepseek = load_architecture("deepseek-v3").layers[0].attention
    assert isinstance(deepseek, LatentAttention)
    assert (deepseek.query_width, deepseek.output_width, deepseek.state_values) == (128 * 192, 128 * 128, 0)
    delta = load_architecture("qwen3-next-80b-a3b").layers[0].attention
    assert isinstance(delta, LinearAttention)
    # 32 states of 128 x 128, and three earlier inputs of the convolution over 2 x 2048 + 4096 channels
    assert delta.state_values == 32 * 128 * 128 + 3 * 8192
    assert delta.flops_per_token == 2 * delta.weights + 6 * delta.state_values
    assert load_architecture("qwen3-next-80b-a3b").state_values == 36 * delta.state_values


def test_modules_that_predict_further_tokens_are_counted_apart() -> None:
    model = load_architecture("deepseek-v3")
    # 14 B are published with the copies of embedding and head, which are shared here
    assert model.mtp_layers == 1
    assert model.mtp_parameters + model.embedding_parameters == pytest.approx(14e9, rel=0.05)
    assert load_architecture("minimax-m2").mtp_layers == 3
    assert load_architecture("kimi-k2").mtp_parameters == 0


def test_parallel_blocks() -> None:
    parallel = {name for name in known_models() if load_architecture(name).layers[0].parallel}
    assert {"palm-540b", "gpt-j-6b", "gpt-neox-20b", "falcon-40b", "command-r-35b", "phi-2"} <= parallel
    assert not {"llama-3-8b", "gpt2", "bloom-176b"} & parallel


def test_names_in_any_case_and_by_hub_id() -> None:
    expected = load_architecture("llama-3.1-70b")
    for name in ("Llama-3.1-70B", "meta-llama/Llama-3.1-70B-Instruct", "Llama-3.1-70B-instruct"):
        assert load_architecture(name) == expected
    quantised = load_architecture("Qwen3-32B-FP8")
    assert quantised == load_architecture("qwen/qwen3-32b-fp8")
    assert (quantised.name, quantised.formats.scheme) == ("qwen3-32b-fp8", "fp8-block")
    assert quantised.layers == load_architecture("qwen3-32b").layers


ASKED_FOR = [
    "Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B", "Qwen/Qwen3-4B-Instruct-2507",
    "Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8",
    "Qwen/Qwen3-Coder-30B-A3B-Instruct", "Qwen/Qwen3-Coder-480B-A35B-Instruct",
    "Qwen/Qwen3-Next-80B-A3B-Instruct", "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-Coder-32B-Instruct",
    "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.2-1B-Instruct",
    "meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.1-405B-Instruct-FP8",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct", "deepseek-ai/DeepSeek-V3.1", "deepseek-ai/DeepSeek-R1-0528",
    "deepseek-ai/DeepSeek-V3.2", "deepseek-ai/DeepSeek-V4-Flash", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "openai/gpt-oss-20b", "openai/gpt-oss-120b",
    "google/gemma-3-270m-it", "google/gemma-3-27b-it", "google/gemma-4-26B-A4B-it",
    "mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Mistral-Small-3.2-24B-Instruct-2506",
    "mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mistral-Nemo-Instruct-2407", "microsoft/phi-4",
    "microsoft/Phi-4-mini-instruct", "zai-org/GLM-4.5-Air", "zai-org/GLM-4.6",
    "moonshotai/Kimi-K2-Instruct-0905", "moonshotai/Kimi-K2-Thinking", "MiniMaxAI/MiniMax-M2",
    "MiniMaxAI/MiniMax-M2.1", "HuggingFaceTB/SmolLM3-3B", "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
    "ibm-granite/granite-3.3-8b-instruct", "allenai/OLMo-2-1124-7B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
]  # fmt: skip


def test_models_that_are_asked_for_by_hub_id() -> None:
    for name in ASKED_FOR:
        found = load_architecture(name)
        assert found == load_architecture(name.upper()) == load_architecture(name.lower()), name
        assert load_architecture(name.split("/")[1]) == found, name


def test_later_releases_have_their_own_context() -> None:
    for name in ("Qwen3-4B-Instruct-2507", "Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-235b-a22b-thinking-2507"):
        assert load_architecture(name).context == 262144
    v4 = load_architecture("deepseek-ai/DeepSeek-V4-Flash")
    assert (v4.formats.experts.bits, v4.formats.linear.name, v4.mtp_layers) == (4.25, "fp8", 1)
    assert load_architecture("DeepSeek-V4-Flash-Base").formats.experts.name == "fp8"


def test_no_name_means_two_models() -> None:
    meanings: dict[str, set[tuple[str, str | None]]] = {}
    for name, meaning in catalogue_module._spellings().items():
        for spelling in (name.lower(), name.lower().rsplit("/", 1)[-1]):
            meanings.setdefault(spelling, set()).add(meaning)
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}
    for name in catalogue_module._spellings():
        assert load_architecture(name).parameters > 0


def test_no_checkpoint_in_another_format_is_taken_for_the_models_own() -> None:
    """MiniMax-M3-MXFP8 was priced as the 852 GB of MiniMax-M3, twice what it holds."""
    with pytest.raises(MissingFact, match=r"MiniMax-M3-MXFP8.* MiniMaxAI/MiniMax-M3,"):
        load_architecture("MiniMaxAI/MiniMax-M3-MXFP8")
    for name in known_models():
        formats = re.compile(r"(fp|nf|int)[48]|awq|gptq|w4a|[48]-?bit", re.IGNORECASE)
        assert not [alias for alias in catalogue()[name].get("aliases", ()) if formats.search(alias)], name


def test_only_the_model_asked_for_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def counting(config: Any, name: str, *, whole: bool) -> Architecture:
        built.append(name)
        return from_hf(config, name, whole=whole)

    monkeypatch.setattr(catalogue_module, "from_hf", counting)
    catalogue_module._build.cache_clear()
    load_architecture("gpt-oss-20b")
    assert built == ["gpt-oss-20b"]


def test_published_configurations(shared_models: Path) -> None:
    files = sorted(shared_models.glob("*_config.json"))
    assert files
    for file in files:
        found, ours = load_architecture(str(file)), load_architecture(_hub_id(file))
        assert (found.parameters, found.layers, found.tied) == (ours.parameters, ours.layers, ours.tied), file.name
        assert (found.formats, found.context, found.mtp_layers) == (ours.formats, ours.context, ours.mtp_layers)


def _hub_id(file: Path) -> str:
    return file.name.removesuffix("_config.json").replace("--", "/", 1)


# Twins -----------------------------------------------------------------------------------------------------------

# Read by the reader of another family, or without a class in transformers.
NO_TWIN = {
    "glm4v_moe_text",
    "exaone4_5_text",
    "phi4mm",
    "glm4v_text",
    "granite_docling_text",
    "paddleocr_vl_text",
    "qwen2_5_omni_text",
    "step3p5",
    "emu3_text_model",
    "phi4_multimodal",
    "qwen2_5_vl",
    "qwen2_5_vl_text",
    "qwen2_vl",
    "qwen2_vl_text",
    "qwen3_omni_moe_text",
    "qwen3_vl_moe_text",
    "qwen3_vl_text",
    "code_llama",
    "kimi_k2",
    "minimax_m1",
    "minimax_text_01",
    "palm",
    *REMOTE,
    "cosmos3_edge_text",
    "glm_ocr_text",
    "granite4_vision_text",
    "hunyuan_vl_text",
    "molmo2_text",
    "muse_glimmer_text",
}


SOME = {
    "llama", "mixtral", "qwen3_next", "deepseek_v3", "gpt_oss", "gemma4_text", "gpt2", "falcon", "granitemoehybrid",
    "mamba2", "minimax_m2",
}  # fmt: skip
"""families whose twins are built in the fast suite: one of each kind of attention, experts and state"""
EVERY_TWIN = [
    pytest.param(family, changes, id=f"{i}-{family}", marks=() if family in SOME else pytest.mark.slow)
    for i, (family, changes) in enumerate(FAMILY_TWINS)
]


def _matrices(model: Architecture) -> int:
    """The weights of all matrices that one token is multiplied with."""
    total = model.width * model.vocabulary
    for layer in model.layers:
        ffn, width = layer.ffn, model.width
        used = ffn.experts_per_token if ffn.experts else 1
        inside = layer.attention.matrix_parameters(width) + used * ffn.expert_matrices(width) + layer.side_weights
        inside += ffn.matrices * width * (ffn.shared_width + ffn.dense_width) + 2 * width * ffn.latent_width
        total += layer.count * (inside + width * ffn.experts)
    return total


def _weights_read(model: Architecture) -> float:
    """Weights that a decode step of one token reads, by its operations."""
    from flashstill.workload import Widths, decode

    one = Widths(weight=1.0, kv=0.0, activation=0.0)
    return sum(float(each.weight_bytes) * float(each.count) for each in decode(model, 1.0, 1.0, one))


@pytest.mark.parametrize(("family", "changes"), EVERY_TWIN)
def test_parameters_equal_a_torch_twin(family: str, changes: Changes) -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = CONFIG_MAPPING[family](**{**SMALL, **changes})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    ours = ours_of(config, changes)
    assert ours.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert _weights_read(ours) == pytest.approx(_matrices(ours), rel=1e-12)
    kinds = getattr(config, "layer_types", None)
    if isinstance(kinds, list):
        windowed = sum(layer.count for layer in ours.layers if layer.attention.window is not None)
        recurrent = sum(layer.count for layer in ours.layers if isinstance(layer.attention, LinearAttention))
        assert windowed == kinds.count("sliding_attention") + kinds.count("chunked_attention")
        assert recurrent == sum(kinds.count(kind) for kind in ("linear_attention", "conv", "hybrid"))


@pytest.mark.parametrize(
    ("whole", "changes"),
    [
        ("qwen3_vl", {**EIGHT, "tie_word_embeddings": True}),
        ("glm4v_moe", {**EIGHT, **MOE, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1}),
        *slow(
            ("qwen3_vl", EIGHT),
            ("qwen3_vl_moe", {**EIGHT, **MOE, "num_experts": 4}),
            ("qwen2_5_vl", {}),
            ("glm4v", EIGHT),
            ("gemma3", EIGHT),
            ("mistral3", EIGHT),
            ("paddleocr_vl", EIGHT),
            ("cosmos3_edge", {**EIGHT, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}}),
            ("glm_ocr", EIGHT),
            ("hunyuan_vl", EIGHT),
            ("molmo2", {**EIGHT, "additional_vocab_size": 7}),
            ("muse_glimmer", {**EIGHT, "layer_types": ["sliding_attention", "full_attention"]}),
        ),
    ],
)
def test_text_parts_equal_those_in_torch(whole: str, changes: Changes) -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    tied = changes.get("tie_word_embeddings")
    outer = {} if tied is None else {"tie_word_embeddings": tied}
    kind = CONFIG_MAPPING[whole]
    config = kind(text_config={**SMALL, **changes, "model_type": kind().text_config.model_type}, **outer)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    parts = [(name, weight.numel()) for name, weight in model.named_parameters()]
    written = json.loads(config.to_json_string(use_diff=False))
    own = {*type(config.text_config)().to_dict(), *changes, "model_type"}
    written["text_config"] = {key: value for key, value in written["text_config"].items() if key in own}
    ours = from_hf(written, whole)
    assert ours.parameters == sum(count for name, count in parts if "language_model" in name or "lm_head" in name)
    assert ours.note.startswith("text part only: ")
    assert "vision_config" in ours.note


def test_the_text_part_of_qwen3_vl_is_qwen3(shared_cases: Path) -> None:
    found = load_architecture(str(shared_cases / "qwen3_vl_text.json"))
    config = json.loads((shared_cases / "qwen3_vl_text.json").read_text())["text_config"]
    assert found == from_hf({**config, "model_type": "qwen3"}, found.name)


def test_step_has_more_heads_in_its_windows() -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    small: Changes = {**SMALL, **EIGHT, **MOE, "vocab_size": 128815, "num_hidden_layers": 4, "layer_types": kinds}
    text: Changes = {
        "num_sliding_attention_heads": 6,
        "sliding_window": 16,
        "n_routed_experts": 4,
        "share_expert_dim": 24,
    }
    config = CONFIG_MAPPING["step3p7"](text_config={**small, **text})
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    ours = from_hf(json.loads(config.to_json_string(use_diff=False)), "step")
    parts = [(name, weight.numel()) for name, weight in model.named_parameters()]
    assert ours.parameters == sum(count for name, count in parts if "language_model" in name or "lm_head" in name)
    heads = [(layer.count, layer.attention.window) for layer in ours.layers]
    assert heads == [(1, None), (2, 16), (1, None)]
    assert ours.note == "text part only: vision_config not counted"


def test_every_family_has_a_twin() -> None:
    assert set(FAMILIES) - {family for family, _ in FAMILY_TWINS} == NO_TWIN


# The adapter -----------------------------------------------------------------------------------------------------

LLAMA: Changes = {**SMALL, "model_type": "llama"}
MIXTRAL: Changes = {**LLAMA, "model_type": "mixtral", **MIX}
DEEPSEEK: Changes = {**LLAMA, **MLA, "model_type": "deepseek_v3", "first_k_dense_replace": 1}


def test_older_and_newer_spellings_agree() -> None:
    renamed = {**MIXTRAL, "num_experts": MIXTRAL["num_local_experts"], "num_local_experts": None}
    assert from_hf(renamed, "m") == from_hf(MIXTRAL, "m")
    older = {**DEEPSEEK, "num_nextn_predict_layers": 1}
    newer = {**DEEPSEEK, "num_mtp_layers": 1, "mlp_layer_types": ["dense", "sparse"], "first_k_dense_replace": None}
    assert from_hf(older, "m") == from_hf(newer, "m")


def test_the_text_part_of_several_modalities() -> None:
    text = {**SMALL, **EIGHT, "model_type": "gemma3_text", "sliding_window": 16}
    whole = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 7}}
    assert from_hf(whole, "m") == from_hf(text, "m")
    del text["model_type"]
    assert from_hf(whole, "m").depth == 2


def test_defaults_that_published_gemma3_files_leave_out() -> None:
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    given = from_hf({"model_type": "gemma3", "text_config": {**text, "sliding_window": 1024}}, "gemma-3-4b")
    assert given == load_architecture("gemma-3-4b")


def test_what_is_absent_has_its_default_and_what_is_null_is_not_there() -> None:
    mistral = {**SMALL, "model_type": "mistral"}
    windows = {
        from_hf(config, "m").layers[0].attention.window
        for config in ({**mistral, "sliding_window": None}, {**mistral}, {**mistral, "sliding_window": 16})
    }
    assert windows == {None, 4096, 16}
    latent = {**SMALL, **MLA, "model_type": "deepseek_v3"}
    ranks = [
        from_hf(config, "m").layers[0].attention.query_rank  # type: ignore[union-attr]
        for config in (latent, {**latent, "q_lora_rank": None}, {k: v for k, v in latent.items() if k != "q_lora_rank"})
    ]
    assert ranks == [12, None, 1536]
    # A config of its own names its widths; a part of another leaves out what equals the defaults.
    with pytest.raises(UnsupportedArchitecture, match="has no num_attention_heads"):
        from_hf({"model_type": "llama", "intermediate_size": 64}, "m")
    llava = {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}, "vision_config": {}}
    assert from_hf(llava, "llava-1.5-7b").parameters == 6_738_415_616 + 2 * 64 * 4096


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ({"routed_expert_hidden_size": 256}, "sets routed_expert_hidden_size to 256"),
        ({"num_extra_layers": 3}, "sets num_extra_layers to 3"),
        ({"mixer_rank": 8}, "sets mixer_rank to 8"),
        ({"ffn_dim_multiplier": 1.3}, "sets ffn_dim_multiplier to 1.3"),
        ({"layer_widths": [1, 2]}, "sets layer_widths to"),
        ({"adapter": {"rank": 8}}, "sets adapter to"),
        ({"extra_gate": True}, "sets extra_gate to True"),
        ({"n_layer": 3}, "num_hidden_layers is 2, but n_layer, which means the same, is another"),
    ],
)
def test_a_field_that_may_change_the_shape_is_refused_by_name(extra: Changes, complaint: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=complaint):
        from_hf({**LLAMA, **extra}, "m")


def test_other_fields_that_nobody_knows_are_noted() -> None:
    plain = from_hf(LLAMA, "m")
    assert plain.note == ""
    odd = from_hf({**LLAMA, "warmth": 0.5, "mood": "good", "cold": 0, "moods": [], "places": ["x"]}, "m")
    assert odd == plain
    assert odd.note == "not understood and left out: warmth = 0.5, places = ['x']"
    silent = {"attention_dropout": 0.1, "rope_scaling": {"factor": 8.0}, "num_beams": 4, "eos_token_id": [1, 2]}
    assert from_hf({**LLAMA, **silent}, "m").note == ""
    assert "and 12 more" in from_hf({**LLAMA, **{f"oddity_{i}": 1.5 for i in range(20)}}, "m").note


def test_mixers_without_heads_are_shared_by_channels() -> None:
    from flashstill.parallel import layout_reason

    mamba = {"model_type": "mamba", "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2}
    lfm = {**SMALL, "model_type": "lfm2", "layer_types": ["conv", "full_attention"]}
    for config in (mamba, lfm):
        assert layout_reason(from_hf(config, "m"), 2, 1, 1, 1) is None
    assert layout_reason(from_hf(mamba, "m"), 3, 1, 1, 1) == "tp does not divide the heads: 64 heads over 3 chips"


def test_the_cache_of_younger_mixers() -> None:
    """Numbers a token adds: worked out by hand from the published shapes."""
    v4 = load_architecture("deepseek-v4-flash")
    # 20 sparse blocks: (512 + 128) / 4; 23 heavy ones: 512 / 128; all keep a window of 128 vectors of 512.
    assert v4.kv_values_per_token == 20 * 160 + 23 * 4
    assert v4.state_values == 43 * 128 * 512
    shared = {**SMALL, **GEMMA4, "model_type": "gemma4_text", "num_kv_shared_layers": 2}
    reads = from_hf(shared, "m")
    # Four of six blocks cache 2 x 2 heads of 8; the last two read them, the last one with heads of 16.
    assert reads.kv_values_per_token == 4 * 2 * 2 * 8
    assert [layer.attention.kv_values_read for layer in reads.layers] == [32, 32, 64]  # type: ignore[union-attr]
    nemotron = load_architecture("nemotron-3-nano-30b-a3b")
    assert nemotron.kv_values_per_token == 6 * 2 * 2 * 128
    # 23 Mamba 2 mixers: 64 heads x 64 x 128, and three inputs of the convolution over 4096 + 2 x 8 x 128 channels.
    assert nemotron.state_values == 23 * (64 * 64 * 128 + 3 * (4096 + 2048))


def test_a_note_reaches_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flashstill.cli import main

    file = tmp_path / "odd.json"
    file.write_text(json.dumps({**LLAMA, "hidden_size": 512, "max_position_embeddings": 4096, "warmth": 0.5}))
    flags = ["--model", str(file), "--chip", "h100-sxm"]
    for arguments in (["predict", *flags], ["explain", *flags, "--batch", "1", "--context", "64"]):
        main(arguments)
        assert "note: not understood and left out: warmth = 0.5" in capsys.readouterr().out
    searched = ["plan", "--model", str(file), "--chips-from", "h100-sxm", "--max-chips", "1", "--batch", "4"]
    main(searched)
    assert "note: not understood and left out: warmth = 0.5" in capsys.readouterr().out
    main([*searched, "--json"])
    assert json.loads(capsys.readouterr().out)["note"] == "not understood and left out: warmth = 0.5"


def test_every_catalogue_row_is_read_whole() -> None:
    assert {name: load_architecture(name).note for name in known_models() if load_architecture(name).note} == {}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "resnet"}, "model_type 'resnet'"),
        ({"model_type": None}, "no model_type"),
        ({"model_type": "zamba2"}, "model_type zamba2, not supported"),
        ({"vocab_size": None}, "no vocab_size"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers is 'two'"),
        ({"num_hidden_layers": -2}, "num_hidden_layers is -2"),
        ({"num_hidden_layers": 10**8}, "at most 10000"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_key_value_heads": 3}, "no multiple of num_key_value_heads 3"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "head_dim"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"num_local_experts": 8}, "sets num_local_experts"),
        ({"kv_lora_rank": 8}, "sets kv_lora_rank"),
        ({"add_cross_attention": True}, "sets add_cross_attention"),
        ({"layer_types": ["full_attention"]}, "layer_types does not list"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layer_types has 'linear_attention'"),
        ({"torch_dtype": "float64"}, "dtype 'float64'"),
        ({"model_type": "gpt2"}, "num_key_value_heads other than 4"),
        (
            {"model_type": "opt", "ffn_dim": 4, "num_key_value_heads": 4, "word_embed_proj_dim": 8},
            "word_embed_proj_dim",
        ),
        ({"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 4}, "exceeds"),
        ({"model_type": "qwen2_moe", **QWEN, "mlp_only_layers": "0"}, "mlp_only_layers"),
        ({"model_type": "qwen3_moe", **QWEN}, "sets shared_expert_intermediate_size"),
        ({**DEEPSEEK, "moe_layer_freq": 2}, "moe_layer_freq other than 1"),
        ({**DEEPSEEK, "index_topk": 2048}, "sets index_topk"),
        ({"model_type": "gemma4_text", **GEMMA4, "num_kv_shared_layers": 6}, "num_kv_shared_layers is 6 of 6"),
        ({"model_type": "ouro"}, "its blocks run several times over"),
        ({"model_type": "exaone4", "sliding_window": 8, "sliding_window_pattern": "LX"}, "sliding_window_pattern"),
        ({"model_type": "minimax_m2", **MIX, "attn_type_list": [1, 0]}, "attn_type_list"),
        ({"model_type": "hunyuan_v1_moe", "num_experts": 4, "moe_topk": [1, 2]}, "moe_topk differs"),
    ],
)
def test_what_is_not_understood_is_named(change: Changes, complaint: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=complaint):
        from_hf({**LLAMA, **change}, "broken")


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFact, match=r"llama-3\.1-70b"):
        load_architecture("llama-3.1-71b")
    with pytest.raises(BadInput, match=r"no config\.json"):
        load_architecture(str(tmp_path))
    for text in ("{", "[1]", "\x00", '{"a": 1, "a": 2}', "[" * 100_000, '{"a": ' * 100 + "1" + "}" * 100, "1" * 5000):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(BadInput, match="broken"):
            load_architecture(str(tmp_path))
    (tmp_path / "config.json").write_bytes(b'{"model_type": "\xff"}')
    with pytest.raises(BadInput, match="not UTF-8"):
        load_architecture(str(tmp_path))
    (tmp_path / "config.json").write_bytes(b" " * (8 * 2**20 + 1))
    with pytest.raises(BadInput, match="larger than 8 MiB"):
        load_architecture(str(tmp_path))
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(BadInput, match="not a regular file"):
        load_architecture(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    ["x" * 300, "/" + "x/" * 3000, "~nobody-at-all/model", "a\0b", "", "/dev/zero", "\udcff", "\ud800.json", "é" * 200],
)
def test_names_that_no_path_can_have(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        load_architecture(name)
    assert len(str(refused.value)) < 400


def test_a_file_that_changes_gives_the_new_answer(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    for layers in (2, 3, 2):
        file.write_text(json.dumps({**LLAMA, "num_hidden_layers": layers}))
        os.utime(file, ns=(0, 0))
        assert load_architecture(str(tmp_path)).depth == layers
    # What no path was becomes one.
    with pytest.raises(BadInput):
        load_architecture(str(tmp_path / "later.json"))
    (tmp_path / "later.json").write_text(json.dumps(LLAMA))
    assert load_architecture(str(tmp_path / "later.json")).depth == 2


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(LLAMA).encode())
    assert load_architecture(str(tmp_path)) == from_hf(LLAMA, tmp_path.name)


LARGE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")


@pytest.mark.parametrize("name", [*LARGE, "intermediate_size", "num_local_experts", "num_experts_per_tok", "head_dim"])
def test_no_number_is_taken_on_trust(name: str) -> None:
    values: tuple[Any, ...] = (10**12, 10**400, -1, 0, True, 1e400, float("nan"), "8", [8], {}, 2.0, [0] * 10**6)
    for value in values:
        with pytest.raises(UnsupportedArchitecture) as refused:
            from_hf({**MIXTRAL, name: value}, "broken")
        assert name in str(refused.value)
        assert len(str(refused.value)) < 300


def test_more_parameters_than_any_model_has() -> None:
    large = {"hidden_size": 10**6, "intermediate_size": 10**7, "num_hidden_layers": 10**4, "head_dim": 128}
    with pytest.raises(UnsupportedArchitecture, match="more than any model has"):
        from_hf({**LLAMA, **large}, "broken")


def test_inputs_that_failed(shared_cases: Path) -> None:
    for file, complaint in (
        ("deep-config.json", "deeper than"),
        ("experts-1e9-config.json", "num_experts is 1000000000"),
    ):
        with pytest.raises(BadInput, match=complaint):
            load_architecture(str(shared_cases / file))
    wide, narrow = (load_architecture(str(shared_cases / f"latent_experts_{word}.json")) for word in ("off", "on"))
    assert (wide.note, narrow.note) == ("", "")
    assert {layer.ffn.latent_width for layer in narrow.layers if layer.ffn.experts} == {256}
    # experts as wide as the model's stream, and then behind two matrices and a norm
    sparse = sum(layer.count for layer in wide.layers if layer.ffn.experts)
    experts = next(layer.ffn for layer in wide.layers if layer.ffn.experts)
    fewer = experts.experts * 3 * experts.width * (wide.width - 256)
    assert wide.parameters - narrow.parameters == sparse * (fewer - 2 * 256 * wide.width - 256)


# Formats ---------------------------------------------------------------------------------------------------------


def _packed(weights: Changes, **more: Any) -> Changes:
    group = {"targets": ["Linear"], "weights": weights}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": ["lm_head"], **more}


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
NVFP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
EXPERTS_ONLY = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"]


@pytest.mark.parametrize(
    ("quantisation", "scheme", "bits"),
    # bits of linear, experts, attention, head
    [
        ({"quant_method": "fp8"}, "fp8", (8, 8, 8, 16)),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block", (8.002, 8.002, 8.002, 16)),
        ({"quant_method": "fp8", "modules_to_not_convert": ["gate", "lm_head"]}, "fp8", (8, 8, 8, 16)),
        ({"quant_method": "fp8", "modules_to_not_convert": ["model.layers.*.self_attn"]}, "fp8", (8, 8, 16, 16)),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["self_attn"]}, "fp8", (8, 8, 16, 16)),
        ({"quant_method": "mxfp4"}, "mxfp4", (16, 4.25, 16, 16)),
        ({"quant_method": "fp8", "expert_dtype": "fp4"}, "fp8+mxfp4", (8, 4.25, 8, 16)),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq-int4", (4.156, 4.156, 4.156, 16)),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1, "lm_head": True}, "gptq-int8", (8, 8, 8, 8)),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq-int4", (4.156, 4.156, 4.156, 16)),
        (_packed(INT4), "int4", (4.5, 4.5, 4.5, 16)),
        (_packed(INT4, ignore=EXPERTS_ONLY), "int4", (16, 4.5, 16, 16)),
        (_packed({"num_bits": 8, "type": "float", "strategy": "channel"}), "fp8", (8, 8, 8, 16)),
        (_packed(NVFP4, ignore=["model.layers.0.self_attn.o_proj"]), "nvfp4", (4.5, 4.5, 4.5, 4.5)),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, "nvfp4", (4.5, 4.5, 4.5, 16)),
        (
            {"quant_method": "modelopt", "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}},
            "modelopt-fp8",
            (8, 8, 8, 16),
        ),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes-nf4", (4.5, 4.5, 4.5, 16)),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes-int8", (8, 8, 8, 16)),
    ],
)
def test_formats(quantisation: Changes, scheme: str, bits: tuple[float, ...]) -> None:
    deep = {**LLAMA, "num_hidden_layers": 12, "quantization_config": quantisation}
    formats = from_hf(deep, "m").formats
    found = (formats.linear.bits, formats.experts.bits, formats.attention.bits, formats.head.bits)
    assert found == pytest.approx(bits, abs=1e-3)
    assert (formats.scheme, formats.base.bits) == (scheme, 16)


def test_formats_without_quantisation() -> None:
    plain = from_hf({**LLAMA, "dtype": "float32"}, "m")
    assert plain.formats.linear.name == "fp32"
    assert plain.weight_bytes == 4 * plain.parameters
    assert from_hf(LLAMA, "m").weight_bytes == 2 * from_hf(LLAMA, "m").parameters


def test_bytes_of_published_checkpoints() -> None:
    # sizes of the safetensors of gpt-oss on the hub, and of Qwen3-32B-AWQ
    assert load_architecture("gpt-oss-120b").weight_bytes == pytest.approx(65.25e9, rel=1e-3)
    assert load_architecture("gpt-oss-20b").weight_bytes == pytest.approx(13.76e9, rel=1e-3)
    assert load_architecture("Qwen3-32B-AWQ").weight_bytes == pytest.approx(19.3e9, rel=5e-3)


@pytest.mark.parametrize(
    ("quantisation", "complaint"),
    [
        ({"quant_method": "hqq"}, "quant_method 'hqq'"),
        ({"quant_method": "fp8", "expert_dtype": "fp3"}, "expert_dtype is 'fp3'"),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "weights of 3 bits"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"-:x": {}}}, "sets dynamic"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "no quantized_layers"),
        ({"quant_method": "compressed-tensors"}, "no config_groups"),
        (_packed({"num_bits": 3, "type": "int"}), "weights of 3 bits"),
        (_packed(INT4, ignore=["re:("]), "no regular expression"),
        (_packed(INT4, ignore=["re:(.+)+x"]), "bounded time"),
        (_packed(INT4, ignore=["re:" + ".*" * 20]), "bounded time"),
        (_packed(INT4, config_groups={"g": {"weights": INT4, "targets": 5}}), "not a list of names"),
        ({"quant_method": "fp8", "weight_block_size": [1] * 10**5}, "a list of 100000 entries"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "weight_block_size"),
        ({"quant_method": "fp8", "weight_block_size": "big"}, "weight_block_size"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "modules_to_not_convert"),
    ],
)
def test_unknown_formats_are_named(quantisation: Changes, complaint: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=complaint):
        from_hf({**LLAMA, "quantization_config": quantisation}, "m")


def test_one_model_is_read_as_it_stands_in_the_catalogue() -> None:
    """A short name reads its own tables of the file alone; each must be what the whole file says."""
    rows, schemes = catalogue_module._rows()
    text = catalogue_module._FILE.read_text(encoding="utf-8")
    for short in ("qwen3-32b", "deepseek-v3", "gpt-oss-120b", "llama-3.1-8b", "deepseek-r1"):  # the last by shape_of
        assert catalogue_module.read_one(text, short) == ({short: rows[short]}, schemes)
    assert catalogue_module.read_one(text, "qwen3") == ({}, schemes)
