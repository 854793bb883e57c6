"""Run a model as if it had only some of its blocks, without changing its weights, configuration or their numbers.

A skipped block hands on the hidden states that it gets.  Masks, windows and positions that a model chooses by the
number of a layer therefore stay those of the blocks that run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.distill.models.head import replaced_forward
from flashstill.distill.models.layers import place_of

HIDDEN = "hidden_states"
PROBE_TOKENS = 8


def input_of(args: tuple[Any, ...], inputs: Mapping[str, Any]) -> Tensor:
    """The hidden states that a block gets, from its arguments."""
    states = args[0] if args else inputs[HIDDEN]
    assert isinstance(states, Tensor)
    return states


def output_of(output: Any) -> Tensor:
    """The hidden states that a block gives, from its output."""
    states = output[0] if isinstance(output, tuple | list) else output
    assert isinstance(states, Tensor)
    return states


def instead(output: Any, states: Tensor) -> Any:
    """An output like another, with other hidden states."""
    return (states, *output[1:]) if isinstance(output, tuple | list) else states


@contextmanager
def skipped(model: Any, blocks: Iterable[int]) -> Iterator[None]:
    """Context in which the blocks of these numbers hand on their input; they are run, and their output replaced."""

    def pass_on(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any], output: Any) -> Any:
        return instead(output, input_of(args, inputs))

    every = place_of(model).blocks
    handles = [every[index].register_forward_hook(pass_on, with_kwargs=True) for index in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _getting(states: Tensor) -> Any:
    """A hook that gives a block these hidden states."""

    def give(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> Any:
        return ((states, *args[1:]), inputs) if args else (args, {**inputs, HIDDEN: states})

    return give


class OutputForms:
    """The form of the output of every block (a tensor, or a tuple of so many), seen in one forward pass."""

    def __init__(self, model: Any, tokens: Tensor) -> None:
        """tokens [B, L]: any token ids, on any device."""
        self._model = model
        self._lengths: dict[int, int | None] = {}

        def note(index: int) -> Any:
            def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                self._lengths[index] = len(output) if isinstance(output, tuple | list) else None

            return look

        handles = [block.register_forward_hook(note(index)) for index, block in enumerate(place_of(model).blocks)]
        try:
            with torch.inference_mode():
                model(input_ids=tokens.to(model.device), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()

    def output(self, index: int, states: Tensor) -> Any:
        """An output of block `index` with these hidden states, and None for all else."""
        length = self._lengths[index]
        return states if length is None else (states, *([None] * (length - 1)))

    @contextmanager
    def only(self, kept: Iterable[int], start: Tensor | None = None, into: Tensor | None = None) -> Iterator[None]:
        """Context in which only the blocks `kept` run, and the others cost nothing.

        start: hidden states that replace the output of the first of these blocks, which is not run; into: hidden states
        that this block gets instead of its input.
        """
        ascending = sorted(kept)
        with ExitStack() as stack:
            for index, block in enumerate(place_of(self._model).blocks):
                if start is not None and index == ascending[0]:
                    stack.enter_context(replaced_forward(block, self._given(index, start)))
                elif index not in ascending:
                    stack.enter_context(replaced_forward(block, self._handed_on(index)))
                elif into is not None and index == ascending[0]:
                    stack.callback(block.register_forward_pre_hook(_getting(into), with_kwargs=True).remove)
            yield

    def _given(self, index: int, states: Tensor) -> Any:
        return lambda *_, **__: self.output(index, states)

    def _handed_on(self, index: int) -> Any:
        return lambda *args, **inputs: self.output(index, input_of(args, inputs))
