"""Outputs of norms that are made again in the backward pass: the same gradients bit for bit, and less is kept."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flashstill.distill.training import fused_ops
from flashstill.distill.training.fused_ops import fused, fused_norms, remade_norms
from tests.zoo import tiny

TOKENS = torch.arange(1, 25).view(2, 12)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    model(TOKENS, labels=TOKENS, use_cache=False).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_gradients_are_the_same(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(name).to(dtype).train()
    made: list[Any] = []
    own = fused_ops._Recipe.made

    def noted(recipe: Any) -> Tensor:
        made.append(recipe)
        return own(recipe)

    monkeypatch.setattr(fused_ops._Recipe, "made", noted)
    with fused_norms(model):
        expected = gradients(model)
        assert not made
        with remade_norms():
            found = gradients(model)
    assert len(made) == 2 * len(model.model.layers) + 1, "once for all layers that read one"
    assert len(set(map(id, made))) == len(made)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[each], expected[each]) for each in expected)


def test_outputs_are_not_kept() -> None:
    """Nor is anything kept when the graph is gone."""
    model = tiny("llama").train()
    outputs: list[Any] = []
    model.model.layers[0].input_layernorm.register_forward_hook(
        lambda _module, _args, output: outputs.append(weakref.ref(output))
    )
    lives = []
    for alone in (False, True):
        with fused(model, alone):
            logits = model(TOKENS, use_cache=False).logits
            lives.append(outputs[-1]() is not None)
            del logits
            gc.collect()
            assert outputs[-1]() is None
    assert lives == [True, False]


def test_an_output_that_is_written_to_is_kept() -> None:
    model = tiny("llama").train()
    norm, given = model.model.layers[0].input_layernorm, torch.randn(2, 3, model.config.hidden_size)
    slopes = []
    for context in (fused_norms(model), None):
        x = given.clone().requires_grad_()
        with context or fused_norms(model):
            hooks = remade_norms() if context is None else torch.enable_grad()
            with hooks:
                normed = norm(x)
                normed *= 2.0
                normed.square().sum().backward()
        slopes.append(x.grad)
    assert slopes[0] is not None
    assert slopes[1] is not None
    assert torch.equal(slopes[0], slopes[1])


def test_what_is_written_to_before_the_backward_pass_is_an_error() -> None:
    """As without hooks: autograd checks no versions of tensors that go through them."""
    model = tiny("llama").train()
    layer = model.model.layers[0]
    norm, project = layer.input_layernorm, layer.self_attn.o_proj
    for place in range(3):
        x = torch.randn(2, 3, model.config.hidden_size).requires_grad_()
        with fused_norms(model), remade_norms():
            stream = x * 1.0
            normed = norm(stream)
            gate = normed.exp()
            out = project(normed).sum() + (gate * gate).sum()
            with torch.no_grad():
                (stream, norm.weight, gate)[place].mul_(0.5)
            with pytest.raises(RuntimeError, match="written to"):
                out.backward()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_model_in_training_reads_without_gradients(mode: Any) -> None:
    model = tiny("llama")
    expected = model(TOKENS, use_cache=False).logits
    with fused(model, True), mode():
        assert torch.equal(model(TOKENS, use_cache=False).logits, expected)
