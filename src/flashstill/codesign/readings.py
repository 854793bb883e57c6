"""Every way to read one long context on many chips: tensor parallelism x parts x questions at a time, in arrays.

    cold      prefill of the corpus, then the question, then the answer, for every question anew
    kept      the corpus's cache stays in memory; questions that are answered together read it once a step

    seconds of b questions at a time   cold  b (prefill + question) + A t(b)        kept  b question + A t(b)
with A tokens of an answer and steps of t(b) seconds.  Shapes are (degrees of tp, parts, batches).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost.long_context import context_prefill, context_room_bytes, context_step, sequences_held
from flashstill.cost.step import StepCost
from flashstill.parallel import layout_reason
from flashstill.plan.setup import Setup
from flashstill.workload import cache_bytes

Values = npt.NDArray[np.float64]
MOST_CHIPS = 2**24
"""chips of one reading at the most: more than were ever made of one kind"""
MOST_TP = 64
MOST_BATCH = 256
BEYOND = 256.0
"""times the fewest parts that hold the cache, up to which more parts are tried"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Tokens of the corpus (or of what is read of it), of a question and of its answer."""

    tokens: float
    question: float
    answer: float

    @property
    def end(self) -> float:
        """Tokens of the context at the end of the answer."""
        return self.tokens + self.question + self.answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Readings:
    """Figures of all ways. seconds, joules: of `batch` questions together, joules of the chips; `fits`: held in memory.

    prefill, question, step: shares of the seconds.
    """

    tp: Values
    parts: Values
    batch: Values
    fits: npt.NDArray[np.bool_]
    seconds: Values
    joules: Values
    prefill: StepCost
    question: StepCost
    step: StepCost
    kept: bool

    @property
    def chips(self) -> Values:
        """Chips of each way."""
        return self.tp * self.parts


def readings(
    setup: Setup, asked: Asked, kept: bool, most_batch: int = MOST_BATCH, most_chips: int = MOST_CHIPS
) -> Readings:
    """Price every way of reading `asked` on up to `most_chips` chips."""
    model, conditions = setup.model, setup.conditions
    domain = conditions.chip.system.domain_chips if not conditions.chip.system.scale_out_bytes_per_s else most_chips
    most = min(most_chips, domain if conditions.chip.topology.link_bytes_per_s else 1)
    degrees = np.array([tp for tp in _degrees(model) if tp <= most], dtype=np.float64)[:, None, None]
    fewest = _fewest_parts(setup, degrees, asked)
    doublings = np.exp2(np.arange(np.log2(max(most, 1)) // 1.0 + 1.0))
    last = min(float(np.max(np.where(np.isfinite(fewest), fewest, 1.0))) * BEYOND, float(most))
    parts = doublings[doublings <= last][None, :, None]
    batch = np.exp2(np.arange(np.log2(most_batch) + 1.0))[None, None, :]
    filling = context_prefill(model, conditions, degrees, parts, asked.tokens)
    one = context_step(model, conditions, degrees, parts, 1.0, asked.tokens, asked.question)
    middle = asked.tokens + asked.question + asked.answer / 2.0
    together = (1.0, batch) if kept else (batch, 1.0)
    step = context_step(model, conditions, degrees, parts, together[0], middle, together[1])
    before = 0.0 if kept else 1.0
    seconds = batch * (before * filling.seconds + one.seconds) + asked.answer * step.seconds
    joules = batch * (before * filling.total_joules + one.total_joules) + asked.answer * step.total_joules
    shape = np.broadcast_shapes(degrees.shape, parts.shape, batch.shape)
    own = asked.tokens + batch * (asked.end - asked.tokens) if kept else asked.end
    held = sequences_held(model, conditions, degrees, parts, own) >= (1.0 if kept else batch)
    enough = (degrees * parts <= most) & (asked.tokens >= parts)
    return Readings(
        tp=np.broadcast_to(degrees, shape),
        parts=np.broadcast_to(parts, shape),
        batch=np.broadcast_to(batch, shape),
        fits=np.broadcast_to(held & enough, shape),
        seconds=np.broadcast_to(seconds, shape),
        joules=np.broadcast_to(joules, shape),
        prefill=filling,
        question=one,
        step=step,
        kept=kept,
    )


def kept_bytes(setup: Setup, tokens: float) -> float:
    """Bytes of the cache of `tokens` tokens, each stored once."""
    return float(cache_bytes(setup.model, 1.0, tokens, setup.conditions.precisions.widths))


def _degrees(model: Architecture) -> list[int]:
    powers = [2**power for power in range(MOST_TP.bit_length())]
    return [tp for tp in powers if tp <= MOST_TP and layout_reason(model, tp, 1, 1, 1) is None]


def _fewest_parts(setup: Setup, degrees: Values, asked: Asked) -> Values:
    """Parts that hold one context beside weights of which each group holds all (no experts spread): at most these."""
    room = np.asarray(context_room_bytes(setup.model, setup.conditions, degrees, float(MOST_CHIPS)))
    one = np.asarray(sequences_held(setup.model, setup.conditions, degrees, float(MOST_CHIPS), asked.end))
    parts: Values = np.where(
        room > 0.0, np.exp2(np.ceil(np.log2(np.maximum(MOST_CHIPS / np.maximum(one, 1e-12), 1.0)))), np.inf
    )
    return parts
