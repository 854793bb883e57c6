"""Divergences: their values, their gradients in float64, and the fused head against the dense path."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flashstill.distill.losses import (
    Chunks,
    DenseTeacher,
    Term,
    Workspace,
    as_head,
    cross_entropy,
    forward_kl,
    head_loss,
    one_hot,
    soft_cross_entropy,
    usual_chunks,
)
from tests.tensors import logits


def test_values_against_torch() -> None:
    z, y = logits(0), logits(1)
    targets = torch.arange(7) % 11
    assert torch.allclose(cross_entropy(z, targets), torch.nn.functional.cross_entropy(z, targets, reduction="none"))
    reference = torch.nn.functional.kl_div(z.log_softmax(-1), y.log_softmax(-1), reduction="none", log_target=True).sum(
        -1
    )
    assert torch.allclose(forward_kl(z, y), reference)


def test_soft_cross_entropy_is_kl_plus_entropy() -> None:
    z, y = logits(0), logits(1)
    p = y.softmax(-1)
    assert torch.allclose(soft_cross_entropy(z, p) - soft_cross_entropy(y, p), forward_kl(z, y))


def test_kl_reaches_zero_and_is_positive() -> None:
    z = logits(0)
    assert float(forward_kl(z, z).abs().max()) < 1e-12
    assert float(forward_kl(z, logits(1)).min()) > 0


def test_direction_is_forward() -> None:
    """Mass that the teacher puts where the student has almost none costs much; the reverse costs little."""
    both, one = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -20.0]])
    assert float(forward_kl(one, both)) > 5 > 1 > float(forward_kl(both, one))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_closed_form_gradients(temperature: float) -> None:
    z, y = logits(2).requires_grad_(), logits(3)
    (slope,) = torch.autograd.grad(forward_kl(z, y, temperature).sum(), z)
    expected = temperature * ((z / temperature).softmax(-1) - (y / temperature).softmax(-1))
    assert torch.allclose(slope, expected)
    targets = torch.arange(7) % 11
    (slope,) = torch.autograd.grad(cross_entropy(z, targets).sum(), z)
    assert torch.allclose(slope, z.softmax(-1) - torch.nn.functional.one_hot(targets, 11))


def test_temperature_squared_keeps_the_gradient_large() -> None:
    """As T grows, T^2 KL has the gradient of a squared error of logits, (z - y) / V for centred logits."""
    z, y = logits(4).requires_grad_(), logits(5)
    (slope,) = torch.autograd.grad(forward_kl(z, y, 1e4).sum(), z)
    centred = (z - z.mean(-1, keepdim=True)) - (y - y.mean(-1, keepdim=True))
    assert torch.allclose(slope, centred / 11, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("chunks", [(1, 1, 1), (7, 3, 2), (64, 64, 64)])
@pytest.mark.parametrize("soft", [True, False])
def test_fused_head_equals_the_dense_path(soft: bool, chunks: tuple[int, int, int], temperature: float) -> None:
    """However the tokens are cut, twice in a row with the same buffers."""
    generator = torch.Generator().manual_seed(6)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    group, block, strip = chunks
    space, vocabulary = Workspace(), 17
    for rows in (10, 12):
        hidden, head = draw(rows, 5).requires_grad_(), draw(vocabulary, 5).requires_grad_()
        teacher = DenseTeacher(hidden=(draw(rows, 8),), heads=(draw(vocabulary, 8),))
        targets, weights = torch.arange(rows) % vocabulary, torch.rand(rows, dtype=torch.float64, generator=generator)
        term = Term(teacher=teacher, temperature=temperature) if soft else Term(teacher=one_hot(targets))
        cut = Chunks(group=group, block=block, strip=strip)
        total, each = head_loss(hidden, head, [term], weights, chunks=cut, space=space)
        y = teacher.hidden[0] @ as_head(teacher.heads[0]).weight.T
        z = hidden @ head.T
        dense = forward_kl(z, y, temperature) if soft else cross_entropy(z, targets)
        assert torch.allclose(each, dense)
        ours = torch.autograd.grad(3.0 * total, (hidden, head))
        theirs = torch.autograd.grad(3.0 * (dense * weights).sum(), (hidden, head))
        for mine, reference in zip(ours, theirs, strict=True):
            assert torch.allclose(mine, reference)


def test_wide_formats_have_groups_of_one_block() -> None:
    """As fast on a CPU, and a group's logits in float32 are half of those in bfloat16."""
    for vocabulary in (1_000, 49_152):
        narrow, wide_ = (usual_chunks(vocabulary, size, True) for size in (2, 4))
        assert (wide_.group, wide_.block) == (narrow.block, narrow.block)
        assert narrow.group == 4 * narrow.block


def test_chunks_on_a_gpu_are_larger_and_bounded() -> None:
    for vocabulary in (1_000, 49_152, 151_936, 262_144):
        for size in (2, 4):
            here, there = (usual_chunks(vocabulary, size, on_cpu).of(vocabulary, on_cpu) for on_cpu in (True, False))
            assert there.group >= here.group
            assert there.group * vocabulary <= 2**27
            assert there.block == there.strip  # a GPU is given a block at a time
            assert there.block * vocabulary <= max(1024 * 49_152, 256 * vocabulary)


def test_fused_head_goes_back_once() -> None:
    """Its gradients are handed on and scaled in place; a second time would scale them again."""
    hidden, head = logits(7, 4, 3).requires_grad_(), logits(8, 6, 3).requires_grad_()
    total, _ = head_loss(hidden, head, [Term(teacher=one_hot(torch.arange(4)))], torch.full((4,), 0.25).double())
    torch.autograd.grad(total, (hidden, head), retain_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(total, (hidden, head))


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head = logits(11, 4, 3).requires_grad_(), logits(12, 6, 3)
    teacher = DenseTeacher(hidden=(logits(13, 4, 2),), heads=(logits(14, 6, 2),))
    total, _ = head_loss(hidden, head, [Term(teacher=teacher)], torch.ones(4).double())
    total.backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert head.grad is None


def test_states_that_are_wider_than_the_head() -> None:
    """Bodies that add in float32 (Mamba 2) give states of float32 to a head of bfloat16: they are rounded as by the
    model's own head, and their gradient has their own dtype."""
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(size, 16, generator=generator) for size in (12, 40))
    targets, weights = torch.arange(12), torch.full((12,), 1 / 12)
    wide, narrow, head = hidden.requires_grad_(), hidden.detach().bfloat16().requires_grad_(), head.bfloat16()
    values = []
    for states in (wide, narrow):
        value, _ = head_loss(states, head, [Term(teacher=one_hot(targets))], weights)
        value.backward()  # type: ignore[no-untyped-call]
        values.append(value.detach())
    assert torch.equal(*values)
    assert wide.grad is not None
    assert narrow.grad is not None
    assert (wide.grad.dtype, narrow.grad.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(wide.grad.bfloat16(), narrow.grad)


def test_different_vocabularies_are_refused_with_their_sizes() -> None:
    teacher = DenseTeacher(hidden=(logits(2, 4, 2),), heads=(logits(3, 7, 2),))
    with pytest.raises(ValueError, match="student 6, teacher 7"):
        head_loss(logits(0, 4, 3), logits(1, 6, 3), [Term(teacher=teacher)], torch.ones(4))
