"""Measures in a few seconds how fast this machine is at the parts of a family's run.

read     seconds per token of the teacher's forward pass: the main part of signals, search and evaluation
head     seconds per token of logits, softmax and divergence: the additional work of evaluating a model
step     of a student with a share b of the teacher's blocks, h of its hidden width, w of its weights:
         at_zero w + (3 read b + 2 head h) x tokens
                                  a pass forward is as many products again twice over on the way back, logits of both
                                  models beside them
         at_zero                  the optimiser's share, which does not depend on the tokens: what a short step that is
                                  timed takes beyond that; rounding of all weights beside it, where they are rounded
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from flashstill.distill.losses import kl_of_log_probabilities
from flashstill.distill.models import Model, decoder_layers, keep_layers, parts
from flashstill.distill.models.devices import current, wait
from flashstill.distill.signals import hidden_states
from flashstill.distill.students import Format
from flashstill.distill.students.quantise import DEFAULT_GROUP, round_stored
from flashstill.distill.teachers import Online
from flashstill.distill.training import Batch, TrainRecipe, distillation
from flashstill.measure.budget import Line
from flashstill.measure.training import time_steps

READ_TOKENS, HEAD_TOKENS, STEP_TOKENS = 256, 128, 64
PASSES, HEADS, LABEL_HEADS = 3.0, 2.0, 1.5
"""of a training step, in passes of the blocks and in logits of a token judged; those of a step on labels alone"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds at the teacher's size: per token of a forward pass, per token of head and divergence, per step besides
    its tokens, and of rounding all weights. training: actual / predicted time of training so far."""

    read_s: float
    head_s: float
    at_zero_s: float
    rounding_s: float = 0.0
    training: float = 1.0

    def slowed(self, factor: float, training: float = 1.0) -> Rates:
        """Rates with all times multiplied by `factor`, and training times also by `training`."""
        return replace(
            self, read_s=self.read_s * factor, head_s=self.head_s * factor, at_zero_s=self.at_zero_s * factor,
            rounding_s=self.rounding_s * factor, training=self.training * training,
        )  # fmt: skip

    def step_s(self, blocks: float, head: float, weights: float, soft: bool, rounded: bool = False) -> Line:
        """Seconds of a step, as a line over its tokens, of a student with these shares of the teacher's sizes.

        soft: with a teacher; rounded: with weights that are rounded in every step.
        """
        line = step_line(self.read_s, self.head_s * head, blocks, HEADS if soft else LABEL_HEADS)
        at_zero = (self.at_zero_s + (self.rounding_s if rounded else 0.0)) * weights
        return Line(at_zero=at_zero * self.training, per_unit=line.per_unit * self.training)


def step_line(read_s: float, head_s: float, share: float, heads: float = HEADS) -> Line:
    """Seconds of a step over its tokens, without the optimiser's. share: of the teacher's blocks."""
    return Line(at_zero=0.0, per_unit=PASSES * read_s * share + heads * head_s)


def rates(teacher: Model, layers: int) -> Rates:
    """Measured with the teacher and a student of so many of its layers; takes the time of some 1,000 tokens read."""
    vocabulary, depth = parts(teacher).head.shape[0], len(decoder_layers(teacher))
    tokens = torch.randint(0, vocabulary, (1, READ_TOKENS + 1), generator=torch.Generator().manual_seed(0))
    tokens = tokens.to(teacher.device)
    with torch.inference_mode():
        hidden_states(teacher, tokens[:, :STEP_TOKENS])  # warms up
        read_s = _seconds(lambda: hidden_states(teacher, tokens[:, :-1])) / READ_TOKENS
        hidden = hidden_states(teacher, tokens[:, :HEAD_TOKENS]).flatten(0, 1)
        head = parts(teacher).head.detach().widened()
        other = torch.log_softmax(head.logits(hidden), -1)
        probability = other.exp()

        def judge() -> None:
            given = torch.log_softmax(head.logits(hidden), -1)
            kl_of_log_probabilities(given, other, probability)
            given.argmax(-1)

        head_s = _seconds(judge) / HEAD_TOKENS
    mask = torch.ones(1, STEP_TOKENS, dtype=torch.bool, device=tokens.device)
    batch = Batch(tokens=tokens[:, : STEP_TOKENS + 1], mask=mask, windows=None)
    targets = Online(teacher, as_kept=True)(batch)  # computed once, so that steps cost what they do with stored signals
    recipe = TrainRecipe(tokens=STEP_TOKENS, windows_per_step=1, learning_rate=1e-4)
    student = keep_layers(teacher, list(range(layers)))
    step_s = min(time_steps(student, batch, distillation(lambda _: targets), recipe, 1))
    products_s = step_line(read_s, head_s, layers / depth)(STEP_TOKENS)
    return Rates(
        read_s=read_s, head_s=head_s, at_zero_s=max(0.0, step_s - products_s) * depth / layers,
        rounding_s=_rounding_s(teacher),
    )  # fmt: skip


def _rounding_s(teacher: Model) -> float:
    """Seconds to round the weights of all blocks, extrapolated from the first block."""
    blocks = decoder_layers(teacher)
    weights = [module.weight.detach() for module in blocks[0].modules() if isinstance(module, torch.nn.Linear)]
    formats = [Format(name="int4", group=math.gcd(weight.shape[-1], DEFAULT_GROUP)) for weight in weights]
    pairs = list(zip(weights, formats, strict=True))
    return len(blocks) * _seconds(lambda: [round_stored(weight, rounded) for weight, rounded in pairs])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    wait(current())
    return time.perf_counter() - started
