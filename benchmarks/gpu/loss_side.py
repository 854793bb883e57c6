"""The fused loss alone, by its chunk sizes, and the plain loss over all logits; for ten_minutes.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flashstill.distill.losses import Chunks, DenseTeacher, Term, Workspace, head_loss
from flashstill.distill.models import devices

TIMES = 4
CHUNKS = (None, (1024, 256), (2048, 512), (2048, 2048), (4096, 1024))
"""tokens of a group and of a block; None: those that are used"""


def by_chunks(weight: Tensor, tokens: int) -> dict[str, Any]:
    """Milliseconds and peak bytes of the value and its gradients on so many tokens; weight [V, d]: of both heads."""
    device, generator = weight.device, torch.Generator().manual_seed(0)
    shape = (tokens, weight.shape[1])
    hidden, teacher = (torch.randn(shape, generator=generator).to(device, weight.dtype) for _ in range(2))
    shares, space = torch.full((tokens,), 1.0 / tokens, device=device), Workspace()

    def fused(chunks: Chunks | None) -> Tensor:
        known = [Term(teacher=DenseTeacher(hidden=(teacher,), heads=(weight.detach(),)))]
        return head_loss(hidden, weight, known, shares, chunks=chunks, space=space)[0]

    def plain() -> Tensor:
        student, other = ((each @ weight.T).float().log_softmax(-1) for each in (hidden, teacher))
        return torch.nn.functional.kl_div(student, other.detach(), log_target=True, reduction="sum") / tokens

    hidden.requires_grad_()
    weight.requires_grad_()
    found: dict[str, Any] = {}
    for sizes in CHUNKS:
        chunks = None if sizes is None else Chunks(group=sizes[0], block=sizes[1], strip=16)
        found["used" if sizes is None else f"{sizes[0]} by {sizes[1]}"] = timed(
            partial(fused, chunks), [hidden, weight]
        )
        space = Workspace()
    return {**found, "plain": timed(plain, [hidden, weight])}


def timed(loss: Callable[[], Tensor], leaves: Sequence[Tensor]) -> dict[str, float]:
    """Of the fastest of some times; bytes beyond those that were there before, and only on a GPU."""
    device, fastest_s = leaves[0].device, float("inf")
    before = 0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    for _ in range(TIMES):
        devices.wait(device)
        started = time.perf_counter()
        value = loss()
        torch.autograd.grad(value, list(leaves))
        devices.wait(device)
        fastest_s = min(fastest_s, time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() - before if device.type == "cuda" else 0
    return {"ms": round(1000 * fastest_s, 3), "peak_bytes": peak, "value": float(value.detach())}
