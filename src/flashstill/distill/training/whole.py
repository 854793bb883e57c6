"""The student with all its weights, gathered from the processes that hold its shards.

Gathered one tensor at a time.  For sampling every process keeps all of them; to be saved only the first one does.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from flashstill.distill.models import Model
from flashstill.distill.models.empty import allocated
from flashstill.distill.training.sharded import Sharded, World


class Whole:
    """Made of a model before it is sharded; `gathered` is a collective call."""

    def __init__(self, model: Model, world: World) -> None:
        self._world, self._device = world, world.device
        self._plain: Model = copy.deepcopy(_on_meta(model))

    def gathered(self, state: Sharded, everywhere: bool) -> Model:
        """The model with all its weights; with everywhere=False on the first process only, in CPU memory."""
        keeps = everywhere or self._world.is_main
        device = self._device if everywhere else torch.device("cpu")
        if keeps and any(each.is_meta for each in self._plain.parameters()):
            allocated(self._plain, device)
        own = self._plain.state_dict()
        with torch.no_grad():
            for name, tensor in state.gathered("model."):
                if keeps:
                    own[name].copy_(tensor)
        return self._plain


def _on_meta(model: Model) -> Model:
    """The model, if its parameters are on meta; else a copy of it whose parameters are, which needs no memory."""
    if all(each.is_meta for each in model.parameters()):
        return model
    memo: dict[int, object] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    emptied: Model = copy.deepcopy(model, memo)
    return emptied
