"""Architectures of other sizes in the shape of a given one."""

from __future__ import annotations

import pytest

from flashstill.arch import Attention, LatentAttention, load_architecture
from flashstill.arch.scaling import counted, expansion, scaled
from flashstill.errors import BadInput

SHAPES = (
    "llama-3.1-8b", "qwen3-235b-a22b", "deepseek-v3", "gemma-3-4b", "jamba-v0.1", "kimi-linear-48b-a3b",
    "deepseek-v4-flash", "falcon-7b", "gpt2", "nemotron-nano-9b-v2",
)  # fmt: skip
"""GQA, routed experts, latent attention, windows, state spaces, delta rules, compressed attention, one KV head, MHA"""


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_scaled_to_its_own_size_is_itself(name: str) -> None:
    like = load_architecture(name)
    made = scaled(like, like.active_parameters)
    assert made.active_parameters == pytest.approx(like.active_parameters, rel=0.02)
    assert made.parameters == pytest.approx(like.parameters, rel=0.02)
    assert made.depth == like.depth
    assert expansion(made) == pytest.approx(expansion(like), rel=0.01)
    assert made.kv_values_per_token == pytest.approx(like.kv_values_per_token, rel=0.02)


@pytest.mark.parametrize("name", SHAPES)
def test_the_size_asked_for_is_met(name: str) -> None:
    like = load_architecture(name)
    for parameters in (6e8, 7e9, 4e11):
        made = scaled(like, parameters)
        assert made.active_parameters == pytest.approx(parameters, rel=0.08), made.name
        assert made.vocabulary == like.vocabulary
        assert made.width / made.depth == pytest.approx(like.width / like.depth, rel=0.25)


def test_the_shape_of_llama_grows_into_its_larger_sisters() -> None:
    """Llama 3.1 70B and 405B have 80 and 126 blocks of width 8192 and 16384, and 8 KV heads."""
    like = load_architecture("llama-3.1-8b")
    for name in ("llama-3.1-70b", "llama-3.1-405b"):
        sister = load_architecture(name)
        made = scaled(like, sister.parameters)
        assert made.depth == pytest.approx(sister.depth, rel=0.15)
        assert made.width == pytest.approx(sister.width, rel=0.1)
        attention = made.layers[0].attention
        assert isinstance(attention, Attention)
        assert (attention.kv_heads, attention.head_width) == (8, 128)
        assert attention.heads % attention.kv_heads == 0


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "qwen3-235b-a22b", "jamba-v0.1"])
@pytest.mark.parametrize("experts", [1, 8, 32])
def test_experts_multiply_the_weights_and_not_the_work(name: str, experts: int) -> None:
    made = scaled(load_architecture(name), 4e9, experts)
    assert expansion(made) == pytest.approx(experts, rel=0.15)
    assert made.active_parameters == pytest.approx(4e9, rel=0.05)
    assert made.routed == (experts > 1)
    if experts == 1:
        assert made.active_parameters == made.parameters


def test_a_size_may_be_counted_without_embeddings() -> None:
    like = load_architecture("llama-3.1-8b")
    made = scaled(like, 2e8, embeddings=False)
    assert counted(made, embeddings=False) == pytest.approx(2e8, rel=0.05)
    assert counted(made) - counted(made, embeddings=False) == made.embedding_parameters > 1e8


def test_ranks_of_latent_attention_grow_with_the_width() -> None:
    like = load_architecture("deepseek-v3")
    small, large = (scaled(like, size).layers[-1].attention for size in (3e9, 3e11))
    assert isinstance(small, LatentAttention)
    assert isinstance(large, LatentAttention)
    assert small.kv_rank < 512 < large.kv_rank
    assert (small.rope_width, small.nope_width) == (64, 128) == (large.rope_width, large.nope_width)


def test_a_size_below_the_smallest_is_refused() -> None:
    with pytest.raises(BadInput, match=r"no model in the shape of llama-3\.1-8b has 10,000 parameters"):
        scaled(load_architecture("llama-3.1-8b"), 1e4)
    with pytest.raises(BadInput, match="a positive number of parameters"):
        scaled(load_architecture("llama-3.1-8b"), 0)
