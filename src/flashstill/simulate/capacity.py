"""What one replica can sustain, in closed form: requests per second at each number of decoding sequences.

In a steady state b sequences decode at a time.  Of requests with p prompt tokens to prefill and d tokens to decode
after the first, r = b / d finish in a decode step, and as many take their places.  Their prompts come in lumps of q:

    t     p r / (1 - exp(-r))                the prompts that start together, at random times (Poisson)
    q     min(t, room), or                   prompt tokens of a step that has any; room: its budget of tokens, less b
          t / max(t / room + 1/2, 1)         where prompts share the steps of decoding, and not where they come first
    step  T(b, s) + r (p / q) E(b, q, a)     mean seconds of a decode step with its share of the prompts, which is also
                                             the mean time per output token; E at b = 0 where prompts stop the decoding
    rate  r / step                           requests per second

with T and E of tables.py, s cached tokens per decoded token and a attended tokens per prompt token, both means over
tokens.  b ends where the slots, the cache blocks or the budget of tokens are full, which need not be a whole number.
Means stand for whole distributions: exact where T and E are linear, which they are in contexts, and nearly in b; that
memory is used up at random times, and preemption (saturated.py), cost a part of the last places.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from flashstill.simulate.state import Counts, Limits, Values
from flashstill.simulate.tables import StepTables
from flashstill.simulate.times import extra_value, knot_before
from flashstill.workload import Quantity

SLOTS, MEMORY, BUDGET = "sequences of the engine", "memory", "tokens of a step"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """Mean lengths of requests.

    prefilled: prompt tokens not found in a cache; attended: earlier tokens that each of them attends to; decoded:
    tokens after the first; context: cached tokens, over the decoded ones; whole: tokens at the end, over them too.
    prompt: of the whole prompt; prompt_spare, whole_spare: mean tokens of memory that stay free as the next request
    needs more than that, E[x^2] / (2 E[x]) of a renewal process.
    """

    prefilled: float
    attended: float
    decoded: float
    context: float
    whole: float
    prompt: float
    prompt_spare: float
    whole_spare: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """One replica by the number of decoding sequences: batches [n] from 1 on; seconds of a step and requests/s [n].

    limit: what ends the batches: slots, memory, or the budget of tokens.  Empty arrays: not even one fits.
    """

    batches: Values
    step_s: Values
    requests_per_s: Values
    limit: str

    def times(self, ranks: int) -> Capacity:
        """Of so many that step together, each with as much."""
        return replace(self, batches=ranks * self.batches, requests_per_s=ranks * self.requests_per_s)

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
    fresh, later, whole = prompt - cached, output - 1, prompt + output
    tokens, steps = float(fresh.sum()), float(later.sum())
    return Mix(
        prefilled=tokens / len(prompt),
        attended=float((fresh * (cached + fresh / 2.0)).sum()) / max(tokens, 1.0),
        decoded=steps / len(prompt),
        context=float((later * (prompt + output / 2.0)).sum()) / steps if steps else float(prompt.mean()),
        whole=float((later * whole).sum()) / steps if steps else float(prompt.mean()) + 1.0,
        prompt=float(prompt.mean()),
        prompt_spare=float(np.square(prompt, dtype=np.float64).mean() / (2.0 * prompt.mean())),
        whole_spare=float(np.square(whole, dtype=np.float64).mean() / (2.0 * whole.mean())),
    )


class Lumps(NamedTuple):
    """Prompts beside decoding: requests that end in a step, prompt tokens that come together, the passes in which one
    request's prompt is prefilled (below 1: several prompts in a pass), and the room for prompt tokens in a step."""

    ends: Values
    tokens: Values
    passes: Values
    room: Values


def lumps_of(mix: Mix, step_tokens: Quantity, prefill_first: bool, batches: Values) -> Lumps:
    """How prompts come where so many sequences decode."""
    ends = batches / mix.decoded
    room = np.maximum(step_tokens - (0.0 if prefill_first else batches), 1.0)
    together = mix.prefilled * ends / -np.expm1(-ends)
    # steps of prompts alone end with a part of a step, half of one on average; decoding goes on beside chunks anyway
    tokens = together / np.maximum(together / room + 0.5, 1.0) if prefill_first else np.minimum(together, room)
    return Lumps(ends, tokens, mix.prefilled / tokens, room)


def mean_step_s(lumps: Lumps, decode_s: Values, extra_s: Values) -> Values:
    """Mean seconds of a decode step with its share of prompts. extra_s: what `lumps.tokens` add to a step."""
    return decode_s + lumps.ends * lumps.passes * extra_s


def loads(limits: Limits, mix: Mix, batches: Values) -> dict[str, Values]:
    """How full each limit is where so many sequences decode: 1 where it is met. Prompts that share steps with decoding
    hold slots and memory meanwhile; those that come first find the slots that they will decode in."""
    lumps = lumps_of(mix, limits.tokens, limits.prefill_first, batches)
    filling = 0.0 if limits.prefill_first else lumps.ends * np.maximum(lumps.passes, 1.0)
    spare, started = (mix.whole_spare, mix.whole) if limits.reserves else (mix.prompt_spare, mix.prompt)
    held = (mix.whole if limits.reserves else mix.context) + (limits.block - 1) / 2.0  # the last block is half full
    memory = limits.blocks * limits.block
    return {
        SLOTS: (batches + filling) / limits.sequences,
        MEMORY: (batches * held + filling * started) / max(memory - spare, memory / 2.0),
        BUDGET: 0.0 * batches if limits.prefill_first else lumps.ends * mix.prefilled / lumps.room,
    }


def edge(limits: Limits, mix: Mix) -> tuple[float, str]:
    """The most sequences that decode at a time, not rounded, and the limit that they meet."""
    low, high = 0.0, float(limits.sequences)
    for _ in range(50):
        middle = (low + high) / 2.0
        is_over = max(float(each[0]) for each in loads(limits, mix, np.array([middle])).values()) > 1.0
        low, high = (low, middle) if is_over else (middle, high)
    full = loads(limits, mix, np.array([high]))
    return low, max(full, key=lambda name: float(full[name][0]))


def mean_steps_s(tables: StepTables, limits: Limits, mix: Mix, batches: Values) -> Values:
    """Mean seconds of a decode step with its share of prompts, between whole batches too."""
    lumps = lumps_of(mix, limits.tokens, limits.prefill_first, batches)
    decode_s = decode_s_of(tables, mix.context, batches)
    beside = np.zeros_like(batches) if limits.prefill_first else batches
    extra_s = [_extra(tables, mix, batch, tokens) for batch, tokens in zip(beside, lumps.tokens, strict=True)]
    return mean_step_s(lumps, decode_s, np.array(extra_s))


def decode_s_of(tables: StepTables, context: float, batches: Values) -> Values:
    """Seconds of a decode step without prompts, between whole batches too."""
    at = knot_before(tables.contexts, context)
    low, high = tables.contexts[at], tables.contexts[at + 1]
    column = tables.decode_s[:, at] + (context - low) / (high - low) * (
        tables.decode_s[:, at + 1] - tables.decode_s[:, at]
    )
    found: Values = np.interp(batches, np.arange(len(column)), column)
    return found


def capacity(tables: StepTables, limits: Limits, mix: Mix) -> Capacity:
    """Rates of one replica for each batch that its slots, memory and budget allow, the last one not rounded."""
    if mix.decoded <= 0.0:
        return _prefill_only(tables, limits, mix)
    last, limit = edge(limits, mix)
    batches = np.unique([*np.arange(1.0, int(last) + 1), last])
    step_s = mean_steps_s(tables, limits, mix, batches)
    return Capacity(batches=batches, step_s=step_s, requests_per_s=batches / mix.decoded / step_s, limit=limit)


def decode_only(tables: StepTables, limits: Limits, mix: Mix) -> Capacity:
    """The same of one replica that gets requests with their prompt already in the cache."""
    held = (mix.whole if limits.reserves else mix.context) + (limits.block - 1) / 2.0
    memory = limits.blocks * limits.block
    room = max(memory - mix.whole_spare, memory / 2.0) / held
    last, limit = min((float(limits.sequences), SLOTS), (room, MEMORY))
    batches = np.unique([*np.arange(1.0, int(last) + 1), last])
    step_s = decode_s_of(tables, mix.context, batches)
    return Capacity(batches=batches, step_s=step_s, requests_per_s=batches / mix.decoded / step_s, limit=limit)


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
