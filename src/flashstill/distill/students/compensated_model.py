"""Initial weights of an int4 student: every layer is rounded on what the rounded layers before it give, and repays it.

Layers are rounded by GPTQ (compensate.py) in the order in which they run.  x is a layer's input in the rounded model
and x' in the model that is not rounded, whose output W x' is what is to be kept (Li et al. 2025, "GPTAQ"), so that a
layer also makes good what those before it have lost.  A layer that writes to the residual stream repays a part of the
error e = h' - h of the stream as well, of which it can do so in its own units, e / c, if it is added c times:

    V = W + (W mean (x' - x) x^T + b mean (e / c) x^T) (H + r I)^-1,    H = mean x x^T

is rounded in its place: a damped least-squares fit of V x to W x' + b e / c, of which V takes the share that also holds
on text it was not fitted to, as found on halves of the rows.  Means are over all tokens of the text, learned or not,
but no padding: a model that is served reads prompts as well.

Which layers write to the stream is measured, not known: if what a block adds to its input is a sum of its linear
layers' outputs, these are they, with the factors c.  In a block where it is not, as where a norm follows them, nothing
is repaid (b = 0); and where a layer's rows are not the places of the text, as an expert's, V = W.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.distill.models import STORED, Model, decoder_layers
from flashstill.distill.models.skipping import PROBE_TOKENS, OutputForms, input_of, output_of
from flashstill.distill.students.compensate import compensate
from flashstill.distill.students.quantise import Format, round_stored, rounded, weights_to_round
from flashstill.distill.students.watching import counted_rows, run_watched
from flashstill.errors import BadInput
from flashstill.progress import Progress

FIT_DAMPING = 0.1
"""r, of H's mean diagonal"""
REPAID = 0.5
"""b.  Both were chosen among two or three values on text that no evidence is measured on (docs/log.md)."""
UNEXPLAINED = 0.01
"""most of what a block adds, in squares, that is not a sum of its layers' outputs; in bfloat16 sums are rounded"""
PLACES = 4096
"""about as many places of the text tell which layers these are"""
LEAST_FACTOR = 0.01
"""c of a layer that counts as added to the stream"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """Token ids, the places that are no padding, and those that begin documents; all [B, L]."""

    tokens: Tensor
    real: Tensor | None
    starts: Tensor | None

    def rows(self, states: Tensor) -> Tensor:
        """The rows of states [B, L, d] that count, in float32."""
        return counted_rows(states.flatten(0, -2), self.real).float()


def compensated(
    model: Model,
    format_: Format,
    tokens: Tensor,
    progress: Progress,
    real: Tensor | None = None,
    starts: Tensor | None = None,
) -> Model:
    """A copy of the model with compensated weights for int4; calibrated on token ids [B, L] of training text.

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
            error = text.rows(whole.hidden) - text.rows(student.hidden)
            before, seen = whole.hidden, _Seen(whole.hidden.shape)
            whole.step(index, seen.given.setdefault, seen.note)
            seen.keep_writers(whole.hidden - before)
            rounding = _InOrder(student.layers(index), seen, error, text, format_)
            student.step(index, rounding.before, rounding.after)
            rounding.unround()
            advance(1)
    return copied


class _Walk:
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


@dataclass
class _Seen:
    """What the linear layers of a block that is not rounded were given, in their order, and what writers returned.

    shape: of the hidden states.  factors: of the layers that write to the residual stream, by name."""

    shape: torch.Size
    given: dict[str, Tensor] = field(default_factory=dict)
    returned: dict[str, Tensor] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, output: Tensor) -> None:
        """Note the output of a layer that may be a writer."""
        if output.shape == self.shape:
            self.returned.setdefault(name, output)

    def keep_writers(self, added: Tensor) -> None:
        """Find the writers by what the block has added to its input."""
        self.factors = stream_factors(added, self.returned)
        self.returned = {name: self.returned[name] for name in self.factors}


class _InOrder:
    """Rounds the linear layers of a block while it runs, each before it does; layers with one input as one matrix.

    seen: in the block that is not rounded; error [N, d]: of the block's input.
    """

    def __init__(self, layers: dict[str, nn.Linear], seen: _Seen, error: Tensor, text: Text, format_: Format) -> None:
        self._seen, self._error, self._text, self._format = seen, error, text, format_
        self._layers = layers
        self._fine: dict[str, Tensor] = {}

    def before(self, name: str, states: Tensor) -> None:
        """Round the layer that gets these states, and those that shared its input in the other block."""
        if name in self._fine:  # it runs a second time
            return
        whole = self._seen.given.get(name)
        names = [each for each, other in self._seen.given.items() if other is whole] or [name]
        if whole is None or whole.shape != states.shape or states[..., 0].numel() % self._text.tokens.numel():
            whole = states  # else its rows may be those of other places, and nothing is known to be lost
        rows, given = self._text.rows(states), self._text.rows(whole)
        writes = any(each in self._seen.factors for each in names)
        halves = [sums_of(given[part], rows[part], self._error[part] if writes else None) for part in _halves(rows)]
        fits = [fitted(self._layers[each].weight.detach().float(), halves, self._repaid(each)) for each in names]
        fine = compensate(torch.cat(fits), (halves[0].gram + halves[1].gram) / len(rows), self._format, STORED)
        heights = [self._layers[each].out_features for each in names]
        for each, part in zip(names, torch.split(fine, heights), strict=True):
            stored = self._layers[each].weight.data
            self._fine[each] = part.to(stored.dtype)
            stored.copy_(round_stored(self._fine[each], self._format))
            self._seen.given.pop(each, None)

    def after(self, name: str, output: Tensor) -> None:
        """Add what a writer's output errs by to the error of the stream."""
        if name in self._seen.returned:
            difference = self._text.rows(self._seen.returned.pop(name)) - self._text.rows(output)
            self._error = self._error + self._seen.factors[name] * difference

    def unround(self) -> None:
        """Give the layers the weights whose rounding they ran with."""
        for name, fine in self._fine.items():
            self._layers[name].weight.data.copy_(fine)

    def _repaid(self, name: str) -> float:
        factor = self._seen.factors.get(name)
        return 0.0 if factor is None else REPAID / factor


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """Sums over rows: gram [in, in] of x x^T, drift [in, in] of (x' - x) x^T, error [d, in] of e x^T or None."""

    rows: int
    gram: Tensor
    drift: Tensor
    error: Tensor | None

    def lost(self, weight: Tensor, repaid: float) -> Tensor:
        """The sum [out, in] of (W (x' - x) + repaid e) x^T."""
        plain = weight @ self.drift
        return plain if self.error is None or not repaid else plain + repaid * self.error


def sums_of(whole: Tensor, rows: Tensor, error: Tensor | None) -> Sums:
    """The sums over inputs x' [N, in] and x [N, in], and the error [N, d] of the residual stream."""
    owed = None if error is None else error.T @ rows
    return Sums(rows=len(rows), gram=rows.T @ rows, drift=(whole - rows).T @ rows, error=owed)


def fitted(weight: Tensor, halves: Sequence[Sums], repaid: float) -> Tensor:
    """Weights [out, in] whose outputs on x are nearly those of `weight` on x', and `repaid` e more.

    A fit of few rows fits their noise: only the share of it is used, 0 to 1, with which the fit of each half predicts
    best what was lost on the other.
    """
    met = made = 0.0
    for own, other in (halves, reversed(halves)):
        part = _fit(weight, [own], repaid)
        met += float((part * other.lost(weight, repaid)).sum())
        made += float((part @ other.gram * part).sum())
    share = min(1.0, max(0.0, met / made)) if made > 0.0 else 0.0
    return weight + share * _fit(weight, halves, repaid) if share else weight


def _fit(weight: Tensor, parts: Sequence[Sums], repaid: float) -> Tensor:
    """Weights [out, in] that give what was lost on rows, by damped least squares."""
    rows = max(1, sum(part.rows for part in parts))
    gram = torch.stack([part.gram for part in parts]).sum(0) / rows
    lost = torch.stack([part.lost(weight, repaid) for part in parts]).sum(0) / rows
    damping = FIT_DAMPING * gram.diagonal().mean().clamp_min(1e-30)  # rows of zeros say nothing
    solved: Tensor = torch.linalg.solve(gram + damping * torch.eye(len(gram), device=gram.device), lost, left=False)
    return solved


def _halves(rows: Tensor) -> tuple[slice, slice]:
    return slice(0, len(rows) // 2), slice(len(rows) // 2, None)


def stream_factors(added: Tensor, returned: dict[str, Tensor]) -> dict[str, float]:
    """The factors c with which outputs [B, L, d], by name, sum up to what a block adds [B, L, d]; empty if they do not.

    Found by least squares; outputs that are not in the sum get no factor."""
    if not returned:
        return {}
    step = max(1, added[..., 0].numel() // PLACES)
    total = added.flatten(0, -2)[::step].flatten().float()
    sums = torch.stack([each.flatten(0, -2)[::step].flatten().float() for each in returned.values()])
    products = (sums @ sums.T).double()
    factors = (torch.linalg.pinv(products, hermitian=True) @ (sums @ total).double()).float()
    left = total - factors @ sums
    if not float(left.square().sum()) <= UNEXPLAINED * float(total.square().sum()):
        return {}
    return {name: c for name, c in zip(returned, factors.tolist(), strict=True) if abs(c) >= LEAST_FACTOR}


def _first_input(model: Model, text: Text, forms: OutputForms) -> Tensor:
    """Hidden states [B, L, d] that enter the first block."""
    seen: list[Tensor] = []

    def look(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        seen.append(input_of(args, inputs))

    with forms.only([0]):
        handle = decoder_layers(model)[0].register_forward_pre_hook(look, with_kwargs=True)
        run_watched(model, text.tokens, [handle], text.starts)
    return seen[0]
