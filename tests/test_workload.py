"""FLOPs and bytes of a phase: against torch's own counter on tiny twins, and as properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.arch import Architecture, Attention, FeedForward, Layer, load_architecture
from flashstill.workload import Widths, decode, memory_bytes, prefill
from tests.twins import TWINS, twin


def total(operations: Any, field: str) -> Any:
    return sum(operation.count * getattr(operation, field) for operation in operations)


@pytest.mark.parametrize(("config_class", "model_class", "extra"), [twin for twin in TWINS if "Moe" not in twin[0]])
def test_decode_flops_equal_torch(config_class: str, model_class: str, extra: dict[str, Any]) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if "Mixtral" in config_class:
        pytest.skip("torch's counter does not see the grouped product of experts")
    model, ours = twin(config_class, model_class, extra)
    batch, context = 3, 7
    model.eval().set_attn_implementation("eager")  # the counter does not see the fused attention of the CPU
    tokens = torch.ones(batch, context, dtype=torch.long)
    with torch.inference_mode():
        cache = model(input_ids=tokens, use_cache=True).past_key_values
        with FlopCounterMode(display=False) as counter:
            model(input_ids=tokens[:, :1], past_key_values=cache, use_cache=True)
    assert counter.get_total_flops() == total(decode(ours, batch, context), "flops")


@given(batch=st.integers(1, 512), context=st.integers(1, 4096))
def test_decode_reads_every_weight_once(batch: int, context: int) -> None:
    model = load_architecture("llama-3.1-8b")
    operations = decode(model, batch, context)
    matrices = model.parameters - model.width * model.vocabulary - (2 * model.depth + 1) * model.width
    assert total(operations, "weight_bytes") == 2 * matrices
    cached = 2 * model.kv_values_per_token * batch * (context + 1)
    assert total(operations, "kv_bytes") == pytest.approx(cached)


def test_two_flops_for_each_active_weight() -> None:
    model = load_architecture("qwen3-30b-a3b")
    flops = total(decode(model, 1, 0), "flops") - sum(
        4 * layer.count * layer.attention.heads * layer.attention.head_width
        for layer in model.layers
        if isinstance(layer.attention, Attention)
    )
    norms = model.depth * (2 * model.width + 2 * 128) + model.width
    assert flops == 2 * (model.active_parameters - model.width * model.vocabulary - norms)


@given(tokens=st.integers(1, 4096))
def test_distinct_experts(tokens: int) -> None:
    model = load_architecture("qwen3-30b-a3b")
    expert = 3 * model.width * 768 * 2
    (read,) = {op.weight_bytes for op in decode(model, tokens, 1) if op.name == "experts"}
    met = read / expert
    assert min(8 * tokens, 128) >= met - 1e-6
    assert met >= 8 - 1e-6
    if tokens == 1:
        assert met == pytest.approx(8)


def test_prefill_is_causal_and_experts_are_not_all_charged() -> None:
    model = load_architecture("mixtral-8x7b")
    length = 512
    flops = total(prefill(model, 1, length), "flops")
    dense = 2 * (model.active_parameters - 2 * model.width * model.vocabulary) * length
    attention = 4 * 32 * 32 * 128 * length * (length + 1) / 2
    head = 2 * model.width * model.vocabulary
    assert flops == pytest.approx(dense + attention + head, rel=1e-3)


def windowed(window: int | None) -> Architecture:
    attention = Attention(heads=4, kv_heads=2, head_width=8, window=window)
    layer = Layer(count=2, attention=attention, ffn=FeedForward(width=64), norm_parameters=64)
    return Architecture(
        name="w", width=32, vocabulary=100, layers=(layer,), tied=True, context=4096, final_norm_parameters=32
    )


@given(window=st.integers(1, 300), length=st.integers(1, 300))
def test_a_window_counts_the_pairs_it_sees(window: int, length: int) -> None:
    (flops, *_) = [op.flops for op in prefill(windowed(window), 1, length) if op.name == "attention"]
    pairs = sum(min(position + 1, window) for position in range(length))
    assert flops == pytest.approx(4 * 4 * 8 * pairs)


def test_arrays_broadcast() -> None:
    model = load_architecture("llama-3.1-8b")
    batches, contexts = np.array([[1.0], [8.0]]), np.array([128.0, 1024.0, 4096.0])
    grid = total(decode(model, batches, contexts), "flops")
    assert grid.shape == (2, 3)
    assert grid[1, 2] == total(decode(model, 8.0, 4096.0), "flops")
    assert np.shape(memory_bytes(model, batches, contexts, Widths(weight=1.0))) == (2, 3)
