"""Initial weights of an int4 student by GPTQ: the error of rounding a column is compensated by the later columns.

Frantar et al. 2023, "GPTQ", algorithm 1.  For a layer y = W x whose inputs on training text have the damped Gram
matrix H = mean x x^T, columns are rounded one after another.  With U the upper Cholesky factor of H^-1:

    w_j -= (w_i - q_i) U_ij / U_ii        for every later column j,  q_i = s round(w_i / s)

Layers are rounded in the order in which they run, each on the inputs x that the rounded layers before it give.  What is
to be kept is their output on the inputs x' of the model that is not rounded (Li et al. 2025, "GPTAQ"), so that a layer
also makes good what those before it have lost: the weights that do that best are rounded in place of its own,

    W + W mean (x' - x) x^T (H + r I)^-1,    the least squares of |V x - W x'|^2 + r |V - W|^2 over V, but for its noise

The means are over all tokens of the text, learned or not, but no padding: a model that is served reads prompts as well.
The result stores w_i as it was just before rounding: round-to-nearest of the result gives q, and quantisation-aware
training can continue from unrounded weights.  A group's scale may end below its largest weight: of some such ends that
with the least error is taken, sum_i (w_i - q_i)^2 / U_ii^2 before later columns make good for it.  Weights beyond are
clipped, and what is stored has its largest weight at the end of the scale, so that rounding it finds the same s again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.distill.models import STORED, Model, decoder_layers
from flashstill.distill.models.skipping import PROBE_TOKENS, OutputForms, input_of, output_of
from flashstill.distill.students.quantise import LARGEST_INT4, Format, largest, round_stored, rounded, weights_to_round
from flashstill.distill.students.watching import counted_rows, run_watched
from flashstill.errors import BadInput
from flashstill.progress import Progress

DAMPING = 0.01  # of H's mean diagonal, as in the paper
DRIFT_DAMPING = 0.1
"""r of the equation above, of H's mean diagonal: chosen among few on text that no evidence is measured on"""
ENDS = tuple(1.0 - 0.025 * step for step in range(21))
"""ends of the scale that are tried, as shares of a group's largest weight"""
TRIED_AT_ONCE = 2**24
"""most weights that are rounded at once to find a scale, 64 MB; a wide layer's rows take turns"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Token ids, the places that are no padding, and those that begin documents; all [B, L]."""

    tokens: Tensor
    real: Tensor | None
    starts: Tensor | None


def compensated(
    model: Model,
    format_: Format,
    tokens: Tensor,
    progress: Progress,
    real: Tensor | None = None,
    starts: Tensor | None = None,
) -> Model:
    """A copy of the model with GPTQ-compensated weights for int4; calibrated on token ids [B, L] of training text.

    real [B, L]: the places that are no padding, None for all.  starts [B, L]: of documents (watching.py).
    Raises BadInput for formats other than int4, and for layers whose weights are not plain matrices.
    """
    if format_.name != "int4":
        raise BadInput(f"error compensation (compensate_windows) works for int4 weights only, not for {format_.name}")
    for _, module, name in weights_to_round(model):
        if not isinstance(module, nn.Linear):
            raise BadInput("error compensation is not implemented for experts; leave compensate_windows out")
        rounded(getattr(module, name).detach()[:1], format_)  # raises BadInput for an unfit group size
    copied = copy.deepcopy(model)
    text = Text(tokens=tokens, real=real, starts=starts)
    whole, student = (_Walk(each, text) for each in (model, copied))
    count = len(decoder_layers(model))
    with progress.task("make good the rounding", count, "blocks") as advance:
        for index in range(count):
            given: dict[str, Tensor] = {}
            whole.step(index, given.setdefault)
            rounding = _InOrder(decoder_layers(copied)[index], given, text, format_)
            student.step(index, rounding.look)
            rounding.unround()
            advance(1)
    return copied


class _Walk:
    """A model that reads a text block by block. hidden [B, L, d]: the input of the next block."""

    def __init__(self, model: Model, text: Text) -> None:
        self.model, self.text = model, text
        self.forms = OutputForms(model, text.tokens[:1, :PROBE_TOKENS])
        self.hidden = _first_input(model, text, self.forms)

    def step(self, index: int, look: Callable[[str, Tensor], object]) -> None:
        """Run a block; `look` gets the name and the input of each of its linear layers just before that layer runs."""
        block, seen = decoder_layers(self.model)[index], []

        def after(module: nn.Module, args: object, output: Any) -> None:
            seen.append(output_of(output))

        def before(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                look(name, args[0])

            return hook

        linear = [(name, module) for name, module in block.named_modules() if isinstance(module, nn.Linear)]
        handles = [module.register_forward_pre_hook(before(name)) for name, module in linear]
        with self.forms.only([index], into=self.hidden):
            run_watched(self.model, self.text.tokens, [*handles, block.register_forward_hook(after)], self.text.starts)
        self.hidden = seen[0]


class _InOrder:
    """Rounds the linear layers of a block while it runs, each before it does; layers with one input as one matrix.

    given: the inputs of the same layers in the block that is not rounded, by name; dropped as they are used.
    """

    def __init__(self, block: nn.Module, given: dict[str, Tensor], text: Text, format_: Format) -> None:
        self._given, self._text, self._format = given, text, format_
        self._layers = {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}
        self._fine: dict[str, Tensor] = {}

    def look(self, name: str, states: Tensor) -> None:
        """Round the layer that gets these states, and those that shared its input in the other block."""
        if name in self._fine:  # it runs a second time
            return
        whole = self._given.get(name)
        names = [name] if whole is None else [each for each, other in self._given.items() if other is whole]
        rows, was = self._rows(states), None
        if (
            whole is not None
            and whole.shape == states.shape
            and states[..., 0].numel() % self._text.tokens.numel() == 0
        ):
            was = self._rows(whole)  # else its rows may be those of other places, of an expert's for instance
        weight = torch.cat([self._layers[each].weight.detach().float() for each in names])
        gram = rows.T @ rows / len(rows)
        fine = compensate(weight if was is None else drifted(weight, was, rows, gram), gram, self._format, STORED)
        for each, part in zip(
            names, torch.split(fine, [self._layers[each].out_features for each in names]), strict=True
        ):
            stored = self._layers[each].weight.data
            self._fine[each] = part.to(stored.dtype)
            stored.copy_(round_stored(self._fine[each], self._format))
            self._given.pop(each, None)

    def unround(self) -> None:
        """Give the layers the weights whose rounding they ran with."""
        for name, fine in self._fine.items():
            self._layers[name].weight.data.copy_(fine)

    def _rows(self, states: Tensor) -> Tensor:
        return counted_rows(states.flatten(0, -2), self._text.real).float()


def drifted(weight: Tensor, whole: Tensor, rows: Tensor, gram: Tensor) -> Tensor:
    """Weights [out, in] whose outputs on `rows` [N, in] are nearly those of `weight` on `whole` [N, in].

    gram [in, in]: the mean of the products of `rows`."""
    drift = (whole - rows).T @ rows / len(rows)
    damped = gram + DRIFT_DAMPING * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
    solved: Tensor = torch.linalg.solve(damped, drift, left=False)
    return weight + weight @ solved


def compensate(weight: Tensor, gram: Tensor, format_: Format, dtype: torch.dtype) -> Tensor:
    """A float32 weight [out, in] whose rounding in `dtype` changes outputs little, given the Gram matrix [in, in]."""
    left, size = weight.clone(), weight.shape[1]
    damped = gram + DAMPING * gram.diagonal().mean() * torch.eye(size, device=gram.device)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    for first in range(0, size, format_.group):
        part, rest = slice(first, first + format_.group), slice(first + format_.group, size)
        group, errors = left[:, part], torch.empty(len(weight), format_.group, device=weight.device)
        corner = factor[part, part]
        top = _end_of_scale(group, corner.diagonal(), dtype)
        bottom, end = -top, group.abs().argmax(1, keepdim=True)
        scale = (top / LARGEST_INT4).clamp_min(1e-8)
        stored_scale = scale.to(dtype).float()
        at_end = torch.split(end == torch.arange(format_.group, device=weight.device), 1, 1)
        columns, errors_of = (torch.split(each, 1, 1) for each in (group, errors))
        diagonal = corner.diagonal().unbind()
        for i, column in enumerate(columns):  # a GPU waits for each operation here to be started: as few as possible
            fine = torch.where(at_end[i], top * column.sign(), column.clamp(bottom, top)).to(dtype).float()
            coarse = (fine / scale).round_().mul_(stored_scale).to(dtype).float()
            torch.div(column - coarse, diagonal[i], out=errors_of[i])
            group[:, i + 1 :].addmm_(errors_of[i], corner[i : i + 1, i + 1 :], alpha=-1)
            column.copy_(fine)
        left[:, rest].addmm_(errors, factor[part, rest], alpha=-1)
    return left


def _end_of_scale(group: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """The end of the scale of each row [out, 1] with the least error of rounding group [out, g]; weights [g]: U_ii."""
    rows = max(1, TRIED_AT_ONCE // (len(ENDS) * group.shape[1]))
    return torch.cat([_end_of_rows(part, weights, dtype) for part in torch.split(group, rows)])


def _end_of_rows(group: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """The same of some rows, all ends at once."""
    whole = largest(group)
    ends = torch.stack([(whole * share).to(dtype).float() for share in ENDS])
    scale = (ends / LARGEST_INT4).clamp_min(1e-8)
    coarse = (group / scale).round_().clamp_(-LARGEST_INT4, LARGEST_INT4).mul_(scale.to(dtype).float())
    error = ((group - coarse) / weights).square_().sum(-1, keepdim=True)
    return ends.gather(0, error.argmin(0, keepdim=True))[0]


def _first_input(model: Model, text: Text, forms: OutputForms) -> Tensor:
    """Hidden states [B, L, d] that enter the first block."""
    seen: list[Tensor] = []

    def look(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        seen.append(input_of(args, inputs))

    with forms.only([0]):
        handle = decoder_layers(model)[0].register_forward_pre_hook(look, with_kwargs=True)
        run_watched(model, text.tokens, [handle], text.starts)
    return seen[0]
