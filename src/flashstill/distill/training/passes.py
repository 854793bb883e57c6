"""A student's pass over part of a batch: from its tokens to the loss, the part of the loop that depends on its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from flashstill.distill.losses import Term
from flashstill.distill.models import Model, parts
from flashstill.distill.models.documents import separation, states_of
from flashstill.distill.training.batches import Batch

HeadLoss = Callable[..., Tensor]
"""(hidden [N, d], head, factors [N] of the tokens' weights or none) -> the loss of a part of a batch"""
Pass = Callable[[Model, Batch, Sequence[Term], HeadLoss], Tensor]
"""(student, part of a batch, terms of its loss, loss) -> the loss"""


def next_token(model: Model, sharded: bool) -> Pass:
    """The pass of a language model: its final hidden states predict the next tokens.

    sharded: whether the model will be; what is measured on it is measured here, before that.
    """
    measured = parts(model)
    if sharded and not model.get_input_embeddings().weight.is_meta:  # else it was tried by another process
        separation(measured)

    def run(student: Model, batch: Batch, _: Sequence[Term], loss: HeadLoss) -> Tensor:
        model_parts = parts(student)
        hidden = states_of(model_parts, batch.inputs, batch.starts, one_pass=sharded)
        return loss(hidden.flatten(0, 1), model_parts.head)

    return run


class Student(nn.Module):
    """Body and loss in one forward pass, so that a sharded model gathers its head when the loss needs it."""

    def __init__(self, model: Model, run: Pass) -> None:
        super().__init__()
        self.model, self._pass = model, run

    def forward(self, batch: Batch, terms: Sequence[Term], loss: HeadLoss) -> Tensor:
        return self._pass(self.model, batch, terms, loss)
