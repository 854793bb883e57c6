"""Gradient checkpointing: a block keeps its input and runs again in the backward pass (Chen et al. 2016).

    kept for the backward pass      all blocks' activations -> their inputs, and the activations of one block
    work                            one more forward pass of the blocks: 4 passes in place of 3

Gradients are the same bit for bit: the second run has the inputs, and the dropout draws, of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(blocks: nn.ModuleList, wanted: bool = True) -> Iterator[None]:
    """Context in which blocks keep only their inputs while gradients are recorded; wanted: False changes nothing."""
    chosen = list(blocks) if wanted else []
    before = [block.__dict__.get("forward") for block in chosen]
    for block in chosen:
        block.__dict__["forward"] = _twice(block.forward)
    try:
        yield
    finally:
        for block, forward in zip(chosen, before, strict=True):
            block.__dict__.pop("forward")
            if forward is not None:
                block.__dict__["forward"] = forward


def _twice(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return run
