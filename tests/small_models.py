"""Small random models of several families, one that disagrees with another, and drafting heads."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers

from flashstill.distill.drafts import Eagle, new_eagle
from flashstill.distill.models import Model, parts

SHAPE: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.3,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "biased": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "stretched": ("LlamaConfig", {"rope_parameters": LLAMA3}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "windowed": ("MistralConfig", {"sliding_window": 6}),
    "olmo2": ("Olmo2Config", {}),
    "recurrent": ("Mamba2Config", {"num_heads": 8, "state_size": 8, "n_groups": 1}),
    "mixed": ("Lfm2Config", {"layer_types": ["conv", "full_attention"]}),
}


def made(kind: str) -> Model:
    """A small random model in float32, its biases and norms random as well."""
    name, more = KINDS[kind]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**{**SHAPE, **more}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def different(model: Model) -> Model:
    """A draft that agrees only sometimes: the same weights, disturbed."""
    draft = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.5 * parameter.std().nan_to_num(0.1))
    return draft


def small() -> Model:
    """One block and eight words: many rows in little time."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, initializer_range=0.6, pad_token_id=0, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def head_of(model: Model, seed: int = 0) -> Eagle:
    """A head whose block does something, unlike that of a new one."""
    eagle = new_eagle(model.get_input_embeddings().weight, parts(model).head, 0, 128, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in eagle.parameters():
            if weight.dim() > 1:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    return eagle
