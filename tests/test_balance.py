"""Load balance: counts of every router, biases that move only when asked, and an auxiliary loss like transformers'."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flashstill.distill.students.balance import LoadBalance, balance_loss, bias_buffers, read_routing, routers
from flashstill.errors import BadInput
from flashstill.recipes import DistillRecipe
from flashstill.recipes.distillation import ShapeRecipe
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.runs.students import made_ready
from tests import zoo

TOKENS = torch.randint(96, (2, 12), generator=torch.Generator().manual_seed(1))


def ready(student: Any, **shape: Any) -> Any:
    """The balancer of a student with this recipe."""
    table = ShapeRecipe(**{"kind": "copy", **shape})
    return made_ready(DistillRecipe(name="x", teachers=(TeacherRecipe(model="y"),), student=table), student)


def plain_loss(model: Any) -> Tensor:
    loss: Tensor = model(input_ids=TOKENS, use_cache=False).logits.square().mean()
    return loss


def test_loss_and_gradient_are_those_of_transformers() -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    drawn = torch.randn(32, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours, theirs = drawn.clone().requires_grad_(), drawn.clone().requires_grad_()
    loss, expected = balance_loss(ours, drawn.topk(2).indices), load_balancing_loss_func((theirs,), 8, 2)
    torch.autograd.backward([loss, expected])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)  # which adds up in float32
    assert torch.autograd.gradcheck(lambda x: balance_loss(x, drawn.topk(2).indices), (ours,))
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-8)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mixtral", pytest.param("qwen3_moe", marks=pytest.mark.slow)])
def test_it_enters_the_gradient_of_every_router(name: str) -> None:
    """The step's gradient is that of loss + coefficient x mean over routers, as one would write it in autograd."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    model = zoo.tiny(name, 0).double().train()
    model.set_experts_implementation("eager")
    logits: list[Tensor] = []
    handles = [each.register_forward_hook(lambda m, a, out: logits.append(out[0])) for each in routers(model).values()]
    loss = plain_loss(model)
    shares = [load_balancing_loss_func((each,), each.shape[-1], 2) for each in logits]
    torch.autograd.backward(loss + 0.3 * torch.stack(shares).mean())
    expected = {key: weight.grad.clone() for key, weight in model.named_parameters() if weight.grad is not None}
    for handle in handles:
        handle.remove()
    model.zero_grad()
    balance = LoadBalance(model, coefficient=0.3, step_tokens=TOKENS.numel())
    torch.autograd.backward(plain_loss(model))
    for key, weight in model.named_parameters():
        if key in expected:
            assert torch.allclose(weight.grad, expected[key], rtol=1e-5, atol=1e-7), key
    row = balance(model, 1)
    assert row["balance_loss"] == pytest.approx(torch.stack(shares).mean().item(), abs=1e-5)


def test_passes_are_weighted_by_their_tokens() -> None:
    """Two passes of one window each add up to the mean of their losses."""
    model = zoo.tiny("mixtral", 0).train()
    LoadBalance(model, coefficient=0.5, step_tokens=TOKENS.numel())
    weight = model.model.layers[0].mlp.gate.weight
    grads = []
    for window in TOKENS:
        (0.0 * model(input_ids=window[None]).logits.sum()).backward()
        grads.append(weight.grad.clone())
        weight.grad = None
    alone = LoadBalance(model_again := zoo.tiny("mixtral", 0).train(), coefficient=0.5, step_tokens=12)
    (0.0 * model_again(input_ids=TOKENS[:1]).logits.sum()).backward()
    assert torch.allclose(2 * grads[0], model_again.model.layers[0].mlp.gate.weight.grad, atol=1e-6)
    assert alone(model_again, 1)["balance_loss"] > 1.9


class TestWhatMoves:
    def test_a_pretrained_bias_stays_unless_asked(self) -> None:
        model = zoo.tiny("glm4_moe", 0).train()
        before = {name: bias.clone() for name, bias in bias_buffers(model).items()}
        assert before
        balance = ready(model)
        plain_loss(model)
        row = balance(model, 1)
        assert row["fullest_expert"] >= 1.0
        assert "balance_loss" not in row
        assert all(torch.equal(bias, before[name]) for name, bias in bias_buffers(model).items())
        asked = ready(model, balance_rate=0.25)
        plain_loss(model)
        asked(model, 2)
        assert any(not torch.equal(bias, before[name]) for name, bias in bias_buffers(model).items())

    def test_upcycled_students_are_balanced_by_what_their_routers_have(self) -> None:
        with_bias, without = zoo.tiny("glm4_moe", 0), zoo.tiny("mixtral", 0)
        assert (ready(with_bias, kind="upcycle").rate, ready(with_bias, kind="upcycle").coefficient) == (1e-3, 0.0)
        assert (ready(without, kind="upcycle").rate, ready(without, kind="upcycle").coefficient) == (0.0, 1e-2)
        assert ready(without, kind="upcycle", balance_loss=0.0).coefficient == 0.0
        assert ready(without).coefficient == 0.0
        assert ready(zoo.tiny("llama", 0)) is None

    def test_refused_in_one_sentence(self) -> None:
        with pytest.raises(BadInput, match="have no correction bias that balance_rate could move; use balance_loss"):
            ready(zoo.tiny("mixtral", 0), balance_rate=0.1)
        with pytest.raises(BadInput, match="LlamaForCausalLM has no router"):
            ready(zoo.tiny("llama", 0), balance_loss=0.1)


def test_probabilities_and_scores_are_read_as_logits() -> None:
    """Gemma 4's router returns probabilities, Llama 4's scores of all experts, DBRX's logits alone."""
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    weights, chosen = logits.softmax(-1).topk(2)
    for output in ((logits.softmax(-1), weights, chosen), logits):
        routing = read_routing(output, 2)
        assert routing is not None
        assert torch.allclose(routing[0].softmax(-1), logits.softmax(-1), atol=1e-6)
        assert torch.equal(routing[1].sort().values, chosen.sort().values)
    scores = torch.zeros_like(logits).scatter(1, chosen, 0.7)
    routing = read_routing((scores, logits), 2)
    assert routing is not None
    assert torch.equal(routing[0], logits)
    assert torch.equal(routing[1].sort().values, chosen.sort().values)
    assert read_routing((logits,), 2) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "mixtral", "qwen2_moe", "qwen3_moe", "qwen3_next", "olmoe", "glm4_moe", "deepseek_v2", "deepseek_v3", "gpt_oss",
        "llama4_text", "granitemoe", "minimax", "minimax_m2", "phimoe", "ernie4_5_moe", "dots1", "hunyuan_v1_moe",
        "dbrx", "jamba", "nemotron_h", "lfm2_moe", "kimi_linear", "longcat_flash",
    ],
)  # fmt: skip
def test_every_router_is_counted(name: str) -> None:
    model = zoo.tiny(name, 0).train()
    balance = LoadBalance(model, coefficient=0.01, step_tokens=TOKENS.numel())
    torch.autograd.backward(plain_loss(model))
    assert balance.loads.keys() == balance.routers.keys()
    assert all(float(load.sum()) % TOKENS.numel() == 0 for load in balance.loads.values())
    row = balance(model, 1)
    assert row["fullest_expert"] >= 1.0
    assert row["balance_loss"] > 0.5
