"""How fast this machine does what a family's run consists of, from a few seconds of doing it.

read     the teacher over tokens of text: what signals, search and evaluation are made of
head     logits of a token, their softmax, and the divergence from another: what a model adds when it is judged
step     of a student of k of the teacher's n layers:  at_zero + per_unit x tokens
         per_unit = 3 read k/n + 2 head     a pass forward is as many products again twice over on the way back,
                                            logits of both models beside them
         at_zero                            the optimiser's share, which does not depend on the tokens: what a
                                            short step that is timed takes beyond that
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from flashstill.distill.losses import kl_of_log_probabilities
from flashstill.distill.models import Model, decoder_layers, keep_layers, parts
from flashstill.distill.signals import hidden_states
from flashstill.distill.teachers import Online
from flashstill.distill.training import Batch, TrainRecipe, distillation
from flashstill.measure.budget import Line
from flashstill.measure.training import time_steps

READ_TOKENS, HEAD_TOKENS, STEP_TOKENS = 256, 128, 64
PASSES, HEADS, LABEL_HEADS = 3.0, 2.0, 1.5
"""of a training step, in passes of the blocks and in logits of a token judged; those of a step on labels alone"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds: of a token read, of a token judged beside that, and of a step beyond its tokens, of a student of
    `layers`; training: how many times as long as that training takes, by what has been seen of it."""

    read_s: float
    head_s: float
    at_zero_s: float
    layers: int
    training: float = 1.0

    def slowed(self, factor: float, training: float = 1.0) -> Rates:
        """The same where all takes `factor` times as long, and training `training` times that."""
        return replace(
            self, read_s=self.read_s * factor, head_s=self.head_s * factor, at_zero_s=self.at_zero_s * factor,
            training=self.training * training,
        )  # fmt: skip

    def step_s(self, layers: int, depth: int, soft: bool) -> Line:
        """Of a student of so many of the teacher's layers, over the tokens of a step."""
        line = step_line(self.read_s, self.head_s, layers / depth, HEADS if soft else LABEL_HEADS)
        at_zero = self.at_zero_s * layers / self.layers
        return Line(at_zero=at_zero * self.training, per_unit=line.per_unit * self.training)


def step_line(read_s: float, head_s: float, share: float, heads: float = HEADS) -> Line:
    """Seconds of a step over its tokens, without the optimiser's. share: of the teacher's layers."""
    return Line(at_zero=0.0, per_unit=PASSES * read_s * share + heads * head_s)


def rates(teacher: Model, layers: int) -> Rates:
    """Measured with the teacher and a student of so many of its layers; takes the time of some 1,000 tokens read."""
    vocabulary, depth = parts(teacher).head.shape[0], len(decoder_layers(teacher))
    tokens = torch.randint(0, vocabulary, (1, READ_TOKENS + 1), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        hidden_states(teacher, tokens[:, :STEP_TOKENS])  # warms up
        read_s = _seconds(lambda: hidden_states(teacher, tokens[:, :-1])) / READ_TOKENS
        hidden = hidden_states(teacher, tokens[:, :HEAD_TOKENS]).flatten(0, 1)
        head = parts(teacher).head.detach().float()
        other = torch.log_softmax(hidden.float() @ head.T, -1)
        probability = other.exp()

        def judge() -> None:
            given = torch.log_softmax(hidden.float() @ head.T, -1)
            kl_of_log_probabilities(given, other, probability)
            given.argmax(-1)

        head_s = _seconds(judge) / HEAD_TOKENS
    batch = Batch(tokens=tokens[:, : STEP_TOKENS + 1], mask=torch.ones(1, STEP_TOKENS, dtype=torch.bool), windows=None)
    said = Online(teacher, as_kept=True)(batch)  # as fast as signals from the disk
    recipe = TrainRecipe(tokens=STEP_TOKENS, windows_per_step=1, learning_rate=1e-4)
    student = keep_layers(teacher, list(range(layers)))
    step_s = min(time_steps(student, batch, distillation(lambda _: said), recipe, 1))
    products_s = step_line(read_s, head_s, layers / depth)(STEP_TOKENS)
    return Rates(read_s=read_s, head_s=head_s, at_zero_s=max(0.0, step_s - products_s), layers=layers)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
