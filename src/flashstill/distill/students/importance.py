"""Importance of the units of a model's axes, from activations on training text, without gradients.

    neuron of an FFN     mean |input of the down projection|
    group of heads       mean norm of the input of the output projection, over queries that share a key head
    hidden dimension     mean |output of the norms|, over all norms of the blocks
    neuron of an expert  mean |input of the down projection|, over the tokens routed to the expert
    expert               mean of gate weight x norm of its output, over the tokens routed to it

Of conversations only the places count whose targets are learned.

Sources: Muralidharan et al. 2024, "Compact Language Models via Pruning and Knowledge Distillation", section 2.2, for
the first three; Lasby et al. 2025, "REAP the Experts", for experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from flashstill.arch.adapter.axes import EXPERT_COUNT, HIDDEN
from flashstill.distill.models import Model
from flashstill.distill.students.axes import WORDS, Group, Side, block_path
from flashstill.distill.students.routing import watch_experts, watch_neurons
from flashstill.distill.students.watching import counted_rows, run_watched
from flashstill.errors import UnsupportedArchitecture

Layout = Sequence[Group]


class Mean:
    """A running mean of rows. learned [B, L]: which places count, None for all."""

    def __init__(self, learned: Tensor | None = None) -> None:
        self.total: Tensor | None = None
        self.count, self.learned = 0, learned

    def add(self, rows: Tensor) -> None:
        """Add rows [N, units]: one or several for each place, in order."""
        rows = counted_rows(rows, self.learned)
        summed = rows.detach().float().sum(0).cpu()
        self.total = summed if self.total is None else self.total + summed
        self.count += len(rows)

    @property
    def value(self) -> Tensor:
        """[units]"""
        assert self.total is not None
        return self.total / max(self.count, 1)


def measured(
    model: Model,
    layouts: Mapping[str, Layout],
    tokens: Tensor,
    learned: Tensor | None = None,
    starts: Tensor | None = None,
) -> dict[str, dict[str, Tensor]]:
    """Scores of the units by axis and group, from one pass over token ids [B, L]; [copies, units] for stacked experts.

    learned [B, L]: the places that count, None for all.  starts [B, L]: of documents (watching.py).  Raises
    UnsupportedArchitecture if some units are read by no module that can be watched.
    """
    means: dict[tuple[str, str], Mean] = {}
    handles: list[RemovableHandle] = []
    stacked: dict[str, Group] = {}
    for axis, layout in layouts.items():
        for group in layout:
            mean = means.setdefault((axis, group.name), Mean(learned))
            if axis == HIDDEN:
                handles += _watch_norms(model, group, mean)
            elif axis != EXPERT_COUNT and not group.copies:
                handles += _watch_inputs(model, group, mean)
            elif axis != EXPERT_COUNT:
                stacked[group.name] = group
    experts, watching = watch_experts(model, layouts.get(EXPERT_COUNT, ()), learned)
    with watch_neurons(model, stacked, learned) as neurons:
        run_watched(model, tokens, [*handles, *watching], starts)
    scores: dict[str, dict[str, Tensor]] = {}
    for (axis, name), mean in means.items():
        found = experts.get(name) if axis == EXPERT_COUNT else neurons.get(name) if name in neurons else None
        if found is None and mean.total is not None:
            found = mean.value
        if found is None:
            raise UnsupportedArchitecture(
                f"the importance of {WORDS[axis]} of {type(model).__name__} cannot be measured: nothing that reads"
                f" those of {name or 'the stream'} was seen"
            )
        scores.setdefault(axis, {})[name] = found
    return scores


def _watch_norms(model: Model, group: Group, mean: Mean) -> list[RemovableHandle]:
    """Hooks on the outputs of all norms over the stream in the blocks."""
    of_stream = {side.tensor.rpartition(".")[0] for side in group.sides}
    blocks = block_path(model)

    def look(module: nn.Module, args: object, output: Any) -> None:
        if output.shape[-1] == group.units:
            mean.add(output.abs().flatten(0, -2))

    return [
        module.register_forward_hook(look)
        for name, module in model.named_modules()
        if name.startswith(f"{blocks}.")
        and "norm" in type(module).__name__.lower()
        and not list(module.children())
        and (name in of_stream or not list(module.parameters()))
    ]


def _watch_inputs(model: Model, group: Group, mean: Mean) -> list[RemovableHandle]:
    """Hooks on the inputs of the matrices that read the group's units."""

    def look_at(side: Side) -> Callable[..., None]:
        def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            values, start = args[0].flatten(0, -2), 0
            for size in side.parts:
                part = values[:, start : start + size * group.units]
                mean.add(part.view(len(values), group.units, size).float().norm(dim=-1))
                start += size * group.units

        return look

    readers, state = [], model.state_dict()
    for side in group.sides:
        module = model.get_submodule(side.tensor.rpartition(".")[0])
        reads = 0 if type(module).__name__ == "Conv1D" else 1
        if side.dim == reads and state[side.tensor].dim() == 2:
            readers.append(module.register_forward_pre_hook(look_at(side)))
    return readers
