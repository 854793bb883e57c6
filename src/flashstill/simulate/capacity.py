"""What one replica can sustain, in closed form: requests per second at each number of decoding sequences.

In a steady state b sequences decode at a time.  Of requests with p prompt tokens to prefill and d tokens to decode
after the first, r = b / d finish in a decode step, and as many take their places.  Their prompts come in lumps of q:

    q     min(p r / (1 - exp(-r)), room)     the prompts of a step that has any, at random times (Poisson);
                                             room: the step's budget of tokens, less b where prompts share decode steps
    step  T(b, s) + r (p / q) E(b, q, a)     mean seconds of a decode step with its share of the prompts, which is also
                                             the mean time per output token; E at b = 0 where prompts stop the decoding
    rate  r / step                           requests per second

with T and E of tables.py, s cached tokens per decoded token and a attended tokens per prompt token, both means over
tokens.  b ends where the slots, the cache blocks or the budget of tokens are full.  Means stand for whole
distributions: exact where T and E are linear, which they are in contexts, and nearly in b; that memory is used up at
random times, and preemption, cost a part of the last places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flashstill.simulate.state import Counts, Limits, Values
from flashstill.simulate.tables import StepTables
from flashstill.simulate.times import decode_value, extra_value

SLOTS, MEMORY, BUDGET = "sequences of the engine", "memory", "tokens of a step"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """Mean lengths of requests.

    prefilled: prompt tokens not found in a cache; attended: earlier tokens that each of them attends to; decoded:
    tokens after the first; context: cached tokens, over the decoded ones; whole: tokens at the end, over them too.
    """

    prefilled: float
    attended: float
    decoded: float
    context: float
    whole: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """One replica by the number of decoding sequences: batches [n] from 1 on; seconds of a step and requests/s [n].

    limit: what ends the batches: slots, memory, or the budget of tokens.  Empty arrays: not even one fits.
    """

    batches: Values
    step_s: Values
    requests_per_s: Values
    limit: str

    @property
    def best(self) -> tuple[float, float]:
        """The highest rate in requests per second, and the decoding sequences at it; (0, 0) if none fits."""
        return self.within(np.inf)

    def within(self, step_s: float) -> tuple[float, float]:
        """The same among steps of at most `step_s` seconds, between whole batches too."""
        inside = self.step_s <= step_s
        if not inside.any():
            return 0.0, 0.0
        at = int(np.argmax(np.where(inside, self.requests_per_s, -1.0)))
        rate, batch = float(self.requests_per_s[at]), float(self.batches[at])
        if at + 1 < len(inside) and not inside[at + 1] and self.requests_per_s[at + 1] > rate:
            part = (step_s - self.step_s[at]) / (self.step_s[at + 1] - self.step_s[at])
            rate += float(part * (self.requests_per_s[at + 1] - rate))
            batch += float(part * (self.batches[at + 1] - batch))
        return rate, batch


def mix_of(prompt: Counts, output: Counts, cached: Counts) -> Mix:
    """Mean lengths of requests, one entry each."""
    fresh, later = prompt - cached, output - 1
    tokens, steps = float(fresh.sum()), float(later.sum())
    return Mix(
        prefilled=tokens / len(prompt),
        attended=float((fresh * (cached + fresh / 2.0)).sum()) / max(tokens, 1.0),
        decoded=steps / len(prompt),
        context=float((later * (prompt + output / 2.0)).sum()) / steps if steps else float(prompt.mean()),
        whole=float((later * (prompt + output)).sum()) / steps if steps else float(prompt.mean()) + 1.0,
    )


class Lumps(NamedTuple):
    """Prompts beside decoding: requests that end in a step, prompt tokens that come together, the passes in which one
    request's prompt is prefilled (below 1: several prompts in a pass), and the room for prompt tokens in a step."""

    ends: Values
    tokens: Values
    passes: Values
    room: Values


def lumps_of(mix: Mix, step_tokens: int, prefill_first: bool, batches: Values) -> Lumps:
    """How prompts come where so many sequences decode."""
    ends = batches / mix.decoded
    room = np.maximum(step_tokens - (0.0 if prefill_first else batches), 1.0)
    tokens = np.minimum(mix.prefilled * ends / -np.expm1(-ends), room)
    return Lumps(ends, tokens, mix.prefilled / tokens, room)


def mean_step_s(lumps: Lumps, decode_s: Values, extra_s: Values) -> Values:
    """Mean seconds of a decode step with its share of prompts. extra_s: what `lumps.tokens` add to a step."""
    return decode_s + lumps.ends * lumps.passes * extra_s


def capacity(tables: StepTables, limits: Limits, mix: Mix) -> Capacity:
    """Rates of one replica for each batch that its slots, memory and budget allow."""
    if mix.decoded <= 0.0:
        return _prefill_only(tables, limits, mix)
    batches = np.arange(1.0, len(tables.decode_s))
    lumps = lumps_of(mix, limits.tokens, limits.prefill_first, batches)
    decode_s = np.array([decode_value(tables.contexts, row, mix.context) for row in tables.decode_s[1:]])
    beside = np.zeros_like(batches) if limits.prefill_first else batches
    extra_s = [_extra(tables, mix, batch, tokens) for batch, tokens in zip(beside, lumps.tokens, strict=True)]
    step_s = mean_step_s(lumps, decode_s, np.array(extra_s))
    ends, room = lumps.ends, lumps.room
    filling = ends * np.maximum(lumps.passes, 1.0)
    held = mix.whole if limits.reserves else mix.context + limits.block / 2.0
    full = {
        SLOTS: batches + filling > limits.sequences,
        MEMORY: batches * held + filling * mix.prefilled / 2.0 > limits.blocks * limits.block,
        BUDGET: ends * mix.prefilled > room if not limits.prefill_first else np.zeros(len(batches), dtype=bool),
    }
    first = {name: int(np.argmax(over)) if over.any() else len(batches) for name, over in full.items()}
    limit = min(first, key=lambda name: first[name])
    fitting = slice(0, first[limit])
    return Capacity(
        batches=batches[fitting], step_s=step_s[fitting], requests_per_s=(ends / step_s)[fitting], limit=limit
    )


def _extra(tables: StepTables, mix: Mix, batch: float, tokens: float) -> float:
    return float(
        extra_value(tables.batches, tables.tokens, tables.attended, tables.extra_s, batch, tokens, mix.attended)
    )


def _prefill_only(tables: StepTables, limits: Limits, mix: Mix) -> Capacity:
    """Requests of one output token: whole steps of prompts."""
    tokens = float(limits.tokens)
    seconds = _extra(tables, mix, 0.0, tokens) * mix.prefilled / tokens
    fits = mix.prefilled <= limits.blocks * limits.block
    one = np.ones(1 if fits else 0)
    return Capacity(batches=one * 0.0, step_s=one * 0.0, requests_per_s=one / seconds, limit=BUDGET if fits else MEMORY)
