"""The gradient of an embedding tied to the head, added row by row where the head's gradient lies.

The embedding's gradient [V, d] is zero except in the rows of the batch's tokens; only these rows are added to the
gradient of the head.  The lookup reads an alias of the weight, a leaf of its own: autograd would add a sparse gradient
to the dense one in a second tensor [V, d], and that at the end of the backward pass, where a step of a small model in
float32 held most.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.distill.models import Model
from flashstill.distill.training.fused_mlp import forward_of


@contextmanager
def sparse_embedding(model: Model) -> Iterator[None]:
    """Context in which the gradient of an embedding tied to the head is added to the head's in place.

    Patches `forward` of the embedding's class for this one module; copies of the model made inside are not changed.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, nn.Embedding) or head is None or head.weight is not embedding.weight:
        yield  # a drafting head has no embedding of its own
        return
    kind: Any = type(embedding)
    plain = kind.forward

    def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
        weight = module.weight
        if module is not embedding or not (torch.is_grad_enabled() and weight.requires_grad):
            return plain(module, *args, **kwargs)
        before = module.sparse
        module.__dict__["weight"], module.sparse = _alias(weight), True  # found before the registered parameter
        try:
            return plain(module, *args, **kwargs)
        finally:
            del module.__dict__["weight"]
            module.sparse = before

    with forward_of([kind], forward):
        yield


def _alias(weight: Tensor) -> Tensor:
    """A leaf with the storage of `weight`, whose gradient goes to that of `weight`, before or after other shares."""

    def handed_on(alias: Tensor) -> None:
        rows, alias.grad = alias.grad, None
        assert rows is not None
        if weight.grad is None:
            weight.grad = rows.to_dense()
        else:
            weight.grad.add_(rows)

    alias = weight.detach().requires_grad_()
    alias.register_post_accumulate_grad_hook(handed_on)  # type: ignore[no-untyped-call]
    return alias
