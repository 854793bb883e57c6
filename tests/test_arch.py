"""Shapes and parameter counts: against published totals, and against tiny twins in torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flashstill.arch import Architecture, from_hf, known_models, load_architecture
from flashstill.arch.catalogue import catalogue
from flashstill.errors import BadInput, MissingFact, UnsupportedArchitecture


@pytest.mark.parametrize("name", known_models())
def test_published_totals(name: str) -> None:
    assert load_architecture(name).parameters == pytest.approx(catalogue()[name]["published_parameters"], rel=2e-4)


def test_active_parameters_of_experts() -> None:
    assert load_architecture("qwen3-30b-a3b").active_parameters == pytest.approx(3.35e9, rel=0.01)
    assert load_architecture("mixtral-8x7b").active_parameters == pytest.approx(12.9e9, rel=0.01)


def test_head_width_is_read_and_not_derived() -> None:
    # Qwen3-32B: 64 heads of 128 on a width of 5120; 64 layers x 8 KV heads x 128 x 2 tensors x 2 bytes
    assert 2 * load_architecture("qwen3-32b").kv_values_per_token == 262_144


def test_names_in_any_case_and_by_hub_id() -> None:
    expected = load_architecture("llama-3.1-70b")
    assert load_architecture("Llama-3.1-70B") == expected
    assert load_architecture("meta-llama/Llama-3.1-70B-Instruct") == expected


def test_published_configurations(shared_models: Path) -> None:
    for file, name in (
        ("meta-llama--Meta-Llama-3.1-70B_config.json", "llama-3.1-70b"),
        ("Qwen--Qwen3-235B-A22B_config.json", "qwen3-235b-a22b"),
        ("mistralai--Mixtral-8x22B-v0.1_config.json", "mixtral-8x22b"),
        ("Qwen--Qwen3-0.6B_config.json", "qwen3-0.6b"),
    ):
        found, ours = load_architecture(str(shared_models / file)), load_architecture(name)
        assert (found.parameters, found.layers, found.tied) == (ours.parameters, ours.layers, ours.tied)


SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
TWINS: list[tuple[str, str, dict[str, Any]]] = [
    ("LlamaConfig", "LlamaForCausalLM", {}),
    ("LlamaConfig", "LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("LlamaConfig", "LlamaForCausalLM", {"head_dim": 24}),
    ("MistralConfig", "MistralForCausalLM", {"sliding_window": 16}),
    ("MixtralConfig", "MixtralForCausalLM", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    ("Qwen2Config", "Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 16}),
    (
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        {"head_dim": 16, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 20},
    ),
]


def twin(config_class: str, model_class: str, extra: dict[str, Any]) -> tuple[Any, Architecture]:
    import transformers

    config = getattr(transformers, config_class)(**{**SMALL, **extra})
    return getattr(transformers, model_class)(config), from_hf(
        json.loads(config.to_json_string(use_diff=False)), "twin"
    )


@pytest.mark.parametrize(("config_class", "model_class", "extra"), TWINS)
def test_parameters_equal_a_torch_twin(config_class: str, model_class: str, extra: dict[str, Any]) -> None:
    model, ours = twin(config_class, model_class, extra)
    assert ours.parameters == sum(parameter.numel() for parameter in model.parameters())


LLAMA = {**SMALL, "model_type": "llama"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "resnet"}, "model_type 'resnet'"),
        ({"model_type": None}, "no model_type"),
        ({"vocab_size": None}, "no vocab_size"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers is 'two'"),
        ({"num_hidden_layers": -2}, "num_hidden_layers is -2"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_key_value_heads": 3}, "no multiple of num_key_value_heads 3"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "head_dim"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 4}, "exceeds"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": [0]}, "mlp_only_layers"),
    ],
)
def test_what_is_not_understood_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=complaint):
        from_hf({**LLAMA, **change}, "broken")


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFact, match=r"llama-3\.1-70b"):
        load_architecture("llama-3.1-71b")
    with pytest.raises(BadInput, match=r"no config\.json"):
        load_architecture(str(tmp_path))
    for text in ("{", "[1]", "\x00"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(BadInput, match="broken"):
            load_architecture(str(tmp_path))
