"""Models of a decoding step, and the step: eager over a growing cache, or a graph over a cache of fixed size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from stopwatch import Stopwatch
from transformers import AttentionInterface, AutoModelForCausalLM, DynamicCache, LlamaConfig, Qwen3MoeConfig
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from flashstill.validation.own_gpu import TINY_EXPERTS

SMOLLM, EXPERTS = "smollm2-135m", "tiny-moe"
UNMASKED = "sdpa_unmasked"
"""transformers' sdpa under a name for which it makes no mask: while a stream is captured it would make one, although
one new token needs none, and then repeat the cached heads"""
AttentionInterface.register(UNMASKED, sdpa_attention_forward)


class Fixed(DynamicLayer):  # type: ignore[misc]
    """A layer's cache of `context` + 1 positions, of which the last is written by every step."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new token's keys and values over the last position; all of them."""
        self.keys[:, :, -1:].copy_(key_states)
        self.values[:, :, -1:].copy_(value_states)
        return self.keys, self.values

    def get_seq_length(self, *_: Any) -> int:
        """Tokens before the new one."""
        return int(self.keys.shape[-2]) - 1


def smollm_config() -> Any:
    """SmolLM2 135M as published."""
    return LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=8192, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    )  # fmt: skip


def experts_config() -> Any:
    """Four layers of Qwen3-30B-A3B with fewer words."""
    return Qwen3MoeConfig(**{name: value for name, value in TINY_EXPERTS.items() if name != "model_type"})


def shrunk(config: Any) -> Any:
    """The same class, for a CPU."""
    for name, value in (("hidden_size", 64), ("intermediate_size", 128), ("num_hidden_layers", 2), ("head_dim", 16),
                        ("num_attention_heads", 4), ("num_key_value_heads", 2), ("vocab_size", 256)):  # fmt: skip
        setattr(config, name, value)
    for name, value in (("num_experts", 8), ("moe_intermediate_size", 32), ("num_experts_per_tok", 2)):
        if hasattr(config, name):
            setattr(config, name, value)
    return config


def build(watch: Stopwatch, name: str, folder: Path | None) -> Any:
    """The model in bf16 on the device, no gradients."""
    if name == SMOLLM and folder is not None:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")
    else:
        config = smollm_config() if name == SMOLLM else experts_config()
        config = shrunk(config) if watch.tiny else config
        with torch.device(watch.device):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    return model.to(watch.device).eval().requires_grad_(False)


class Steps:
    """One model at one batch and context: its graph's step, and its eager one."""

    def __init__(self, watch: Stopwatch, model: Any, batch: int, context: int) -> None:
        self.watch, self.model, self.batch, self.context = watch, model, batch, context
        config, device = model.config, watch.device
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.shape = (batch, config.num_key_value_heads, context + 1, width)
        self.ids = torch.randint(0, config.vocab_size, (batch, 1), device=device)
        self.positions = torch.full((batch, 1), context, device=device)
        self.best = torch.zeros(batch, dtype=torch.long, device=device)

    def fixed(self) -> Cache:
        """Random keys and values of every layer."""
        made: dict[str, Any] = {"device": self.watch.device, "dtype": torch.bfloat16}
        layers = [
            Fixed(torch.randn(self.shape, **made), torch.randn(self.shape, **made))
            for _ in range(self.model.config.num_hidden_layers)
        ]
        return Cache(layers=layers)

    def growing(self, fixed: Cache) -> DynamicCache:
        """The cache that transformers uses by itself, with the same past."""
        cache = DynamicCache()
        for place, layer in enumerate(fixed.layers):
            cache.update(layer.keys[:, :, :-1].clone(), layer.values[:, :, :-1].clone(), place)
        return cache

    def logits(self, cache: Cache) -> torch.Tensor:
        """(batch, words) of the next token."""
        found = self.model(
            input_ids=self.ids, position_ids=self.positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return found.logits[:, -1]  # type: ignore[no-any-return]

    def step(self, cache: Cache) -> None:
        """One token of every sequence."""
        torch.argmax(self.logits(cache), dim=-1, out=self.best)

    def captured(self, work: Any) -> Any:
        """`work` as a graph, with attention that makes no mask."""
        config = self.model.config
        before, config._attn_implementation = config._attn_implementation, UNMASKED
        try:
            return self.watch.captured(work)
        finally:
            config._attn_implementation = before


def distinct_experts(steps: Steps, cache: Cache) -> float | None:
    """Mean distinct experts that a layer's tokens met in one step; None without routers."""
    seen: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, out: seen.append(int(out[-1].unique().numel())))
        for module in steps.model.modules()
        if type(module).__name__.endswith("Router")
    ]
    if not hooks:
        return None
    try:
        steps.step(cache)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(seen) / len(seen)
