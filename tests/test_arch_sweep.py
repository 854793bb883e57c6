"""Every causal architecture that transformers ships, at its default configuration: the same parameters, or refused."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from flashstill.arch import from_hf
from flashstill.errors import UnsupportedArchitecture
from tests.twins import FAMILY_TWINS, SMALL, Changes

AT_LEAST_EXACT = 148
REFUSED = {
    "axk2", "bart", "big_bird", "bigbird_pegasus", "blenderbot", "blenderbot-small", "blt", "electra", "git",
    "hrm_text", "inkling2_text", "inkling_text", "marian", "mbart", "mllama", "moshi", "mvp",
    "pegasus", "plbart", "prophetnet", "rembert", "roc_bert", "roformer", "trocr", "whisper", "xlm", "xlnet",
    "xmod", "zamba", "zamba2", "zaya",
}  # fmt: skip
"""what may be refused today; a newer transformers may add names, which then belong here or to the readers"""
# Fields without which transformers itself cannot build the default configuration, or cannot be right about it.
COMPLETED: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "glm4_moe": {"head_dim": 128},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"layer_types": (["conv"] * 3 + ["full_attention"]) * 8},
    "longcat_flash": {"zero_expert_num": 0},  # it has matrices for these too, which no checkpoint has
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
}
# What stands beside the text part in models of several modalities.
OTHER_PARTS = re.compile(
    r"vision|audio|visual|image_|multi_modal_projector|mm_projector|embed_tokens_extend|vqmodel|embed_vision|embed_audio"
)


def build(name: str) -> tuple[Any, int | None]:
    """The default configuration, and the parameters of the text part; None where transformers cannot build it."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    try:
        config = CONFIG_MAPPING[name](**COMPLETED.get(name, {}))
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception:
        return None, None
    text = [weight.numel() for path, weight in model.named_parameters() if not OTHER_PARTS.search(path)]
    return json.loads(config.to_json_string(use_diff=False)), sum(text)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_causal_architecture_is_exact_or_refused() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    exact, refused, wrong, unbuilt = [], {}, {}, []
    for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        config, expected = build(name)
        if config is None:
            unbuilt.append(name)
            continue
        try:
            found = from_hf(config, name).parameters
        except UnsupportedArchitecture as error:
            refused[name] = str(error)
            continue
        if found == expected:
            exact.append(name)
        else:
            wrong[name] = (found, expected)
    print(f"{len(exact)} exact, {len(refused)} refused, {len(unbuilt)} that transformers cannot build: {unbuilt}")
    print("\n".join(refused.values()))
    assert wrong == {}
    assert all(name in sentence and "\n" not in sentence for name, sentence in refused.items())
    assert len(exact) >= AT_LEAST_EXACT, sorted(refused)
    assert set(refused) <= REFUSED, sorted(set(refused) - REFUSED)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_field_that_is_left_out_is_what_transformers_fills_in() -> None:
    from transformers import CONFIG_MAPPING

    wrong: dict[tuple[str, str], Any] = {}
    for family, changes in FAMILY_TWINS:
        kind = CONFIG_MAPPING[family]
        own = {*kind().to_dict(), *changes}
        whole = _written(kind, {**SMALL, **changes}, own)
        for name in [name for name, value in whole.items() if value is not None and name != "model_type"]:
            less = {key: value for key, value in whole.items() if key != name}
            try:
                filled = _written(kind, less, own)
                ours, theirs = from_hf(less, "m"), from_hf(filled, "m")
            except Exception:  # either refuses
                continue
            if (ours, ours.note) != (theirs, theirs.note):
                wrong[family, name] = filled.get(name)
    assert wrong == {}


def _written(kind: Any, values: Changes, own: set[str]) -> Changes:
    """The configuration as its class writes it, without fields of other classes and bookkeeping."""
    text = json.loads(kind(**values).to_json_string(use_diff=False))
    kept = {key: value for key, value in text.items() if key in own and key not in ("dtype", "_name_or_path")}
    return {key: value for key, value in kept.items() if key not in ("transformers_version", "architectures")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_defaults_are_those_of_the_installed_transformers() -> None:
    script = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "config-defaults"))
    assert script["FILE"].read_text(encoding="utf-8") == script["written"](script["defaults"]())
