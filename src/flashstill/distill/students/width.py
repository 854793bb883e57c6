"""Width pruning: removes the least important query groups, FFN neurons and hidden dimensions of the teacher.

Importance is computed from activations on training text, without gradients (Muralidharan et al. 2024, "Compact Language
Models via Pruning and Knowledge Distillation", section 2.2):

    neuron of an FFN   mean |input of the down projection|
    group of heads     mean norm of the input of the output projection, summed over queries that share a key head
    hidden dimension   mean |output of the norms|, over all norms

Neurons and groups are chosen per block; hidden dimensions are the same in all blocks, which share a residual stream.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flashstill.arch.adapter.edit import set_fields, width_changes
from flashstill.arch.adapter.sizes import FEED_FORWARD, HEADS, KEY_HEADS, WIDTH, head_width, is_tied, size
from flashstill.distill.models import Model, cast, decoder_layers
from flashstill.distill.students.watching import run_watched
from flashstill.errors import BadInput, UnsupportedArchitecture

ATTENTION_PARTS = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD_PARTS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True, slots=True)
class Width:
    """The widths to keep; 0 keeps all. key_heads: groups of query heads that share keys and values."""

    hidden: int = 0
    feed_forward: int = 0
    key_heads: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Importance:
    """Scores of every block's neurons [F] and query groups [G], and of the hidden dimensions [d]."""

    neurons: list[Tensor]
    groups: list[Tensor]
    hidden: Tensor


def importance(model: Model, tokens: Tensor) -> Importance:
    """Importance scores from the mean activations on token ids [B, L]; one forward pass."""
    check(model)
    blocks = decoder_layers(model)
    neurons: dict[int, Tensor] = {}
    heads: dict[int, Tensor] = {}
    norms: list[Tensor] = []

    def into(store: dict[int, Tensor], index: int) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            store[index] = args[0].detach().float().abs().flatten(0, -2)

        return look

    def out(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        norms.append(output.detach().float().abs().flatten(0, -2).mean(0))

    handles = []
    for index, block in enumerate(blocks):
        handles.append(block.mlp.down_proj.register_forward_pre_hook(into(neurons, index)))  # type: ignore[union-attr]
        handles.append(block.self_attn.o_proj.register_forward_pre_hook(into(heads, index)))  # type: ignore[union-attr]
        handles.append(block.input_layernorm.register_forward_hook(out))  # type: ignore[union-attr]
        handles.append(block.post_attention_layernorm.register_forward_hook(out))  # type: ignore[union-attr]
    run_watched(model, tokens, handles)
    groups = size(model.config, KEY_HEADS)
    return Importance(
        neurons=[neurons[index].mean(0) for index in range(len(blocks))],
        groups=[heads[index].view(len(heads[index]), groups, -1).norm(dim=-1).mean(0) for index in range(len(blocks))],
        hidden=torch.stack(norms).mean(0),
    )


def check(model: Model) -> None:
    """Refuse a model whose blocks are not norm, attention, norm, gated FFN; checks the module names."""
    for block in decoder_layers(model):
        attention, feed_forward = getattr(block, "self_attn", None), getattr(block, "mlp", None)
        parts = [(attention, name) for name in ATTENTION_PARTS] + [(feed_forward, name) for name in FEED_FORWARD_PARTS]
        for place, name in parts:
            if not isinstance(getattr(place, name, None), nn.Linear):
                raise UnsupportedArchitecture(f"{type(model).__name__} has no {name} in every block; it cannot be cut")


def narrow(model: Model, width: Width, scores: Importance) -> Model:
    """A copy of `model` with the most important neurons, groups and dimensions; the original is untouched."""
    config = model.config
    head, all_hidden = head_width(config), size(config, WIDTH)
    per_group = size(config, HEADS) // size(config, KEY_HEADS)
    groups = _left(width.key_heads, size(config, KEY_HEADS), "key heads")
    neurons = _left(width.feed_forward, size(config, FEED_FORWARD), "FFN neurons")
    hidden = _left(width.hidden, all_hidden, "hidden dimensions")
    student = copy.deepcopy(model)
    stream = _best(scores.hidden, hidden)
    for index, block in enumerate(decoder_layers(student)):
        kept = _best(scores.groups[index], groups)
        queries, keys = _spread(kept, per_group * head), _spread(kept, head)
        fed = _best(scores.neurons[index], neurons)
        attention, mlp = block.self_attn, block.mlp
        for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            _cut(getattr(attention, name), rows, stream)
        _cut(attention.o_proj, stream, queries)  # type: ignore[union-attr, arg-type]
        _cut(mlp.gate_proj, fed, stream)  # type: ignore[union-attr, arg-type]
        _cut(mlp.up_proj, fed, stream)  # type: ignore[union-attr, arg-type]
        _cut(mlp.down_proj, stream, fed)  # type: ignore[union-attr, arg-type]
        attention.num_key_value_groups = per_group  # type: ignore[union-attr]
    with torch.no_grad():
        for module in student.modules():
            weight = getattr(module, "weight", None)
            if weight is not None and weight.dim() == 1 and len(weight) == all_hidden:
                module.weight = nn.Parameter(weight[stream].clone())
        body = student.get_decoder()
        _cut_table(body.embed_tokens, stream)
        if is_tied(config):
            student.get_output_embeddings().weight = body.embed_tokens.weight
        else:
            _cut(student.get_output_embeddings(), None, stream)
    set_fields(student.config, width_changes(config, hidden=hidden, feed_forward=neurons, key_heads=groups))
    return _rebuilt(student)


def _rebuilt(student: Model) -> Model:
    """The same weights in a model built from the new configuration, so that no module keeps the old sizes."""
    try:
        student.config.validate()
    except Exception as error:  # the library's own kind of error for a configuration
        why = str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
        raise BadInput(f"transformers refuses a student of this width: {why}") from error
    fresh = cast(type(student)(copy.deepcopy(student.config)), next(student.parameters()).dtype)
    fresh.load_state_dict(student.state_dict())
    return fresh.eval()


def _left(asked: int, whole: int, what: str) -> int:
    if not 0 <= asked <= whole:
        raise BadInput(f"a student cannot keep {asked} of the teacher's {whole} {what}; give up to {whole}, 0 for all")
    return asked or whole


def _best(scores: Tensor, count: int) -> Tensor:
    """Ascending indices of the `count` highest scores."""
    return scores.topk(count).indices.sort().values


def _spread(kept: Tensor, size: int) -> Tensor:
    """Element indices of the kept groups, each of `size` elements."""
    return (kept[:, None] * size + torch.arange(size)[None, :]).flatten()


def _cut(linear: nn.Linear, rows: Tensor | None, columns: Tensor) -> None:
    with torch.no_grad():
        weight = linear.weight if rows is None else linear.weight[rows]
        linear.weight = nn.Parameter(weight[:, columns].clone())
        if linear.bias is not None and rows is not None:
            linear.bias = nn.Parameter(linear.bias[rows].clone())


def _cut_table(table: nn.Embedding, columns: Tensor) -> None:
    table.weight = nn.Parameter(table.weight[:, columns].clone())
