"""Initial weights of an int4 student: every layer is rounded on what the rounded layers before it give, and repays it.

Layers are rounded by GPTQ (compensate.py) in the order in which they run.  x is a layer's input in the rounded model
and x' in the model that is not rounded, whose output W x' is what is to be kept (Li et al. 2025, "GPTAQ"), so that a
layer also makes good what those before it have lost.  A layer that writes to the residual stream repays a part of the
error e = h' - h of the stream as well, of which it can do so in its own units, e / c, if it is added c times:

    V = W + (W mean (x' - x) x^T + b mean (e / c) x^T) (H + r I)^-1,    H = mean x x^T

is rounded in its place: a damped least-squares fit of V x to W x' + b e / c, of which V takes the share that also holds
on text it was not fitted to, as found on halves of the rows (repaying.py).  Means are over all tokens of the
text, learned or not, but no padding: a model that is served reads prompts as well.

Which layers write to the stream is measured, not known: if what a block adds to its input is a sum of its linear
layers' outputs, these are they, with the factors c.  In a block where it is not, as where a norm follows them, nothing
is repaid (b = 0); and where a layer's rows are not the places of the text, as an expert's, V = W.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from flashstill.distill.models import STORED, Model, decoder_layers
from flashstill.distill.students.block_by_block import BlockByBlock, Text
from flashstill.distill.students.compensate import compensate
from flashstill.distill.students.quantise import Format, round_stored, rounded, weights_to_round
from flashstill.distill.students.repaying import fitted, in_halves, stream_factors, sums_of
from flashstill.errors import BadInput
from flashstill.progress import Progress

REPAID = 0.5
"""b; chosen among two or three values on text that no evidence is measured on (docs/log.md)"""


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
    check_compensation(model, format_)
    for _, module, name in weights_to_round(model):
        rounded(getattr(module, name).detach()[:1], format_)  # raises BadInput for an unfit group size
    copied = copy.deepcopy(model)
    text = Text(tokens=tokens, real=real, starts=starts)
    whole, student = (BlockByBlock(each, text) for each in (model, copied))
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


def check_compensation(model: Model, format_: Format) -> None:
    """BadInput if the rounding of a model, which needs no memory for its weights, cannot be compensated."""
    if format_.name != "int4":
        raise BadInput(f"error compensation (compensate_windows) works for int4 weights only, not for {format_.name}")
    if experts := [path for path, module, _ in weights_to_round(model) if not isinstance(module, nn.Linear)]:
        raise BadInput(
            f"error compensation is not implemented for experts ({experts[0]} of {type(model).__name__}); leave"
            " student.compensate_windows out"
        )


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
        halves = [sums_of(given[part], rows[part], self._error[part] if writes else None) for part in in_halves(rows)]
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
