"""A model that reads a text block by block, so that what enters and leaves each linear layer can be seen or changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from flashstill.distill.models import Model, decoder_layers
from flashstill.distill.models.skipping import PROBE_TOKENS, OutputForms, input_of, output_of
from flashstill.distill.students.quantise import weights_to_round
from flashstill.distill.students.watching import counted_rows, run_watched


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Token ids, the places that are no padding, and those that begin documents; all [B, L]."""

    tokens: Tensor
    real: Tensor | None
    starts: Tensor | None

    def rows(self, states: Tensor) -> Tensor:
        """The rows of states [B, L, d] that count, in float32."""
        return counted_rows(states.flatten(0, -2), self.real).float()


class BlockByBlock:
    """A model that reads a text block by block. hidden [B, L, d]: the input of the next block."""

    def __init__(self, model: Model, text: Text) -> None:
        self.model, self.text = model, text
        self.forms = OutputForms(model, text.tokens[:1, :PROBE_TOKENS])
        self.hidden = _first_input(model, text, self.forms)
        self._rounded = {id(module) for _, module, _ in weights_to_round(model)}

    def layers(self, index: int) -> dict[str, nn.Linear]:
        """The layers of a block that are rounded, by their names in it."""
        every = decoder_layers(self.model)[index].named_modules()
        return {name: module for name, module in every if isinstance(module, nn.Linear) and id(module) in self._rounded}

    def step(self, index: int, before: Callable[[str, Tensor], object], after: Callable[[str, Tensor], object]) -> None:
        """Run a block; `before` gets the name and input of each linear layer before it runs, `after` its output."""
        block, seen = decoder_layers(self.model)[index], []

        def enter(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            return lambda module, args: (before(name, args[0]), None)[1]

        def leave(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            return lambda module, args, output: (after(name, output), None)[1]

        handles = [block.register_forward_hook(lambda module, args, output: seen.append(output_of(output)))]
        for name, layer in self.layers(index).items():
            handles += [layer.register_forward_pre_hook(enter(name)), layer.register_forward_hook(leave(name))]
        with self.forms.only([index], into=self.hidden):
            run_watched(self.model, self.text.tokens, handles, self.text.starts)
        self.hidden = seen[0]


def _first_input(model: Model, text: Text, forms: OutputForms) -> Tensor:
    """Hidden states [B, L, d] that enter the first block."""
    seen: list[Tensor] = []

    def look(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        seen.append(input_of(args, inputs))

    with forms.only([0]):
        handle = decoder_layers(model)[0].register_forward_pre_hook(look, with_kwargs=True)
        run_watched(model, text.tokens, [handle], text.starts)
    return seen[0]
