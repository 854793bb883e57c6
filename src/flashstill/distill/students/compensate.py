"""Initial weights of an int4 student by GPTQ: the error of rounding a column is compensated by the later columns.

Frantar et al. 2023, "GPTQ", algorithm 1.  For a layer y = W x whose inputs on training text have the damped Gram
matrix H = mean x x^T, columns are rounded one after another.  With U the upper Cholesky factor of H^-1:

    w_j -= (w_i - q_i) U_ij / U_ii        for every later column j,  q_i = s round(w_i / s)

The mean is over all tokens of the text, learned or not, but no padding: a model that is served reads prompts as well.
Blocks are processed in order; each gets as inputs the outputs of the rounded blocks before it.  The result stores w_i
as it was just before rounding: round-to-nearest of the result gives q, and quantisation-aware training can continue
from unrounded weights.  A group's scale may end below its largest weight: of some such ends that with the least error
is taken, sum_i (w_i - q_i)^2 / U_ii^2 before later columns make good for it.  Weights beyond are clipped, and what is
stored has its largest weight at the end of the scale, so that rounding it finds the same s again.
"""

from __future__ import annotations

import copy
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
    blocks = decoder_layers(copied)
    forms = OutputForms(copied, tokens[:1, :PROBE_TOKENS])
    text = Text(tokens=tokens, real=real, starts=starts)
    hidden = _first_input(copied, text, forms)
    with progress.task("make good the rounding", len(blocks), "blocks") as advance:
        for index in range(len(blocks)):
            for given, layers in _inputs(copied, index, hidden, text, forms):
                rows = torch.cat([layer.weight.detach().float() for layer in layers])
                fine = compensate(rows, given, format_, STORED)
                heights = [layer.out_features for layer in layers]
                for layer, part in zip(layers, torch.split(fine, heights), strict=True):
                    layer.weight.data.copy_(part)
            hidden = _after(copied, index, hidden, text, format_, forms)
            advance(1)
    return copied


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


def _inputs(model: Model, index: int, hidden: Tensor, text: Text, forms: OutputForms) -> list[tuple[Tensor, list[Any]]]:
    """Gram matrices of the inputs of a block's linear layers; layers with the same input share one matrix."""
    seen: dict[int, tuple[Tensor, list[Any]]] = {}

    def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.setdefault(id(args[0]), (args[0], []))[1].append(module)

    layers = [module for module in decoder_layers(model)[index].modules() if isinstance(module, nn.Linear)]
    with forms.only([index], into=hidden):
        run_watched(model, text.tokens, [layer.register_forward_pre_hook(look) for layer in layers], text.starts)
    grams = []
    for given, users in seen.values():
        rows = counted_rows(given.flatten(0, -2), text.real).float()
        grams.append((rows.T @ rows / len(rows), users))
    return grams


def _first_input(model: Model, text: Text, forms: OutputForms) -> Tensor:
    """Hidden states [B, L, d] that enter the first block."""
    seen: list[Tensor] = []

    def look(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        seen.append(input_of(args, inputs))

    with forms.only([0]):
        handle = decoder_layers(model)[0].register_forward_pre_hook(look, with_kwargs=True)
        run_watched(model, text.tokens, [handle], text.starts)
    return seen[0]


def _after(model: Model, index: int, hidden: Tensor, text: Text, format_: Format, forms: OutputForms) -> Tensor:
    """Hidden states [B, L, d] after a block, computed with its rounded weights."""
    block, seen = decoder_layers(model)[index], []

    def look(module: nn.Module, args: object, output: Any) -> None:
        seen.append(output_of(output))

    layers = [module for module in block.modules() if isinstance(module, nn.Linear)]
    fine = [layer.weight.data for layer in layers]
    for layer in layers:
        layer.weight.data = round_stored(layer.weight.data, format_)
    with forms.only([index], into=hidden):
        run_watched(model, text.tokens, [block.register_forward_hook(look)], text.starts)
    for layer, weight in zip(layers, fine, strict=True):
        layer.weight.data = weight
    hidden_after: Tensor = seen[0]
    return hidden_after
