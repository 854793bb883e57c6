"""Every causal family that transformers ships, as a tiny random model: loading, layers, losses, signals, evaluation."""

from __future__ import annotations

import pytest

from tests import zoo

FAST = ("llama", "gemma2", "gpt2", "qwen3_next")
"""families of the fast suite: plain, capped logits, blocks in `h` with biases, a hybrid with experts"""
EVERY = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in zoo.NAMES]


def test_the_zoo_is_large() -> None:
    assert len(zoo.FAMILIES) >= 100


@pytest.mark.parametrize("name", EVERY)
def test_a_model_of_the_zoo_depends_on_its_seed_alone(name: str) -> None:
    import torch

    tokens = torch.arange(1, 25).view(2, 12)
    first, again, other = (zoo.tiny(name, seed)(input_ids=tokens, use_cache=False).logits for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()
