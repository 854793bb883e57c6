"""Access the body, LM head and transformer blocks of a causal language model, and copy it with fewer blocks."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from flashstill.arch.adapter.edit import depth_changes, set_fields
from flashstill.arch.adapter.sizes import changed_logits
from flashstill.distill.models.loading import Model
from flashstill.errors import UnsupportedArchitecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The body and LM head of a causal language model."""

    body: nn.Module
    """token ids [B, L] -> object with last_hidden_state [B, L, d], after the final norm"""
    head: Tensor
    """[V, d]; logits = hidden @ head.T"""


def parts(model: Model) -> Parts:
    """Body and head of a model; UnsupportedArchitecture unless its logits are exactly hidden @ head.T."""
    head = model.get_output_embeddings()
    body = model.get_decoder()
    if head is None or getattr(head, "bias", None) is not None:
        raise UnsupportedArchitecture(f"{type(model).__name__} has no plain linear head (get_output_embeddings)")
    if field := changed_logits(model.config):
        raise UnsupportedArchitecture(f"{type(model).__name__} changes its logits after the head ({field})")
    return Parts(body=body, head=head.weight)


def decoder_layers(model: Model) -> nn.ModuleList:
    """The list of transformer blocks; UnsupportedArchitecture if it is not in the decoder's `layers`."""
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UnsupportedArchitecture(f"{type(model).__name__} keeps its blocks elsewhere than in `layers`")
    return layers


def keep_layers(model: Model, kept: list[int]) -> Model:
    """A copy of `model` with only the blocks `kept` (ascending indices); the original is unchanged."""
    config = copy.deepcopy(model.config)
    set_fields(config, depth_changes(config, kept))
    original = decoder_layers(model)
    model.get_decoder().layers = nn.ModuleList()  # taken out, so that deepcopy copies no unused layers
    try:
        pruned = copy.deepcopy(model)
    finally:
        model.get_decoder().layers = original
    blocks = nn.ModuleList(copy.deepcopy(original[index]) for index in kept)
    for position, block in enumerate(blocks):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", position)  # noqa: B010 - nn.Module's type hints allow no int
    pruned.get_decoder().layers = blocks
    pruned.config = config
    pruned.get_decoder().config = config
    return pruned
