"""Gated FFNs that keep less: the same outputs and gradients bit for bit, only where that is proven."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flashstill.distill.losses import Chunks, DenseTeacher, Term, Workspace, head_loss, one_hot
from flashstill.distill.training.fused_mlp import fused_ffns
from flashstill.measure.memory import kept_bytes
from tests.zoo import tiny

TOKENS = torch.arange(1, 25).view(2, 12)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(TOKENS, labels=TOKENS, use_cache=False).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_the_same(dtype: torch.dtype) -> None:
    model = tiny("llama").to(dtype).train()
    model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    whole = kept_bytes(model, TOKENS)
    expected, logits = gradients(model), model(TOKENS).logits
    kind, own = type(model.model.layers[0].mlp), type(model.model.layers[0].mlp).forward
    with fused_ffns(model):
        assert kind.forward is not own
        assert torch.equal(model(TOKENS).logits, logits)
        found = gradients(model)
        assert kept_bytes(model, TOKENS) < whole
    assert kind.forward is own
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["gemma", "qwen2"])
def test_another_activation_is_left_alone(name: str) -> None:
    """Gemma's is a GELU; Qwen2's FFN is fused unless a projection has a hook."""
    model = tiny(name)
    mlp = model.model.layers[0].mlp
    if name == "qwen2":
        mlp.gate_proj.register_forward_hook(lambda *_: None)
    own = type(mlp).forward
    with fused_ffns(model):
        assert type(mlp).forward is own


class Waits(TorchDispatchMode):
    """Counts the operations for which a program waits for its GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "unique_consecutive")
        return func(*args, **(kwargs or {}))


def test_the_loss_waits_for_a_gpu_no_more_often_for_more_chunks() -> None:
    """Once, to look for ids beyond the vocabulary; no number is read back from chunk to chunk."""
    drawn = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(rows, 8, generator=drawn).requires_grad_() for rows in (24, 50))
    teacher = DenseTeacher(hidden=(torch.randn(24, 8, generator=drawn),), heads=(torch.randn(50, 8, generator=drawn),))
    terms = [Term(teacher=teacher, temperature=2.0), Term(teacher=one_hot(torch.arange(24)))]
    with Waits() as waits:
        loss, _ = head_loss(hidden, head, terms, torch.ones(24), chunks=Chunks(group=6, block=3, strip=1))
        loss.backward()  # type: ignore[no-untyped-call]
    assert waits.count == 1


def test_groups_add_up_in_place_in_float32() -> None:
    """No second copy of the head's gradient: a format that is wide enough is summed where it lies."""
    hidden, head = torch.randn(24, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    space = Workspace()
    term = [Term(teacher=one_hot(torch.arange(24)))]
    whole = torch.autograd.grad(head_loss(hidden, head, term, torch.ones(24))[0], head)[0]
    loss, _ = head_loss(hidden, head, term, torch.ones(24), chunks=Chunks(group=6, block=3, strip=1), space=space)
    torch.testing.assert_close(torch.autograd.grad(loss, head)[0], whole)
    assert all(name != "head" for name, *_ in space._made)
