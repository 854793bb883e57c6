"""What a replica serves while its waiting line never empties, in closed form: where the equations of capacity.py end.

    rate = b / (N T(b))         N decode steps of a request, T(b) mean seconds of a step; b as many as the limits allow

This is the knee: such a queue is stable exactly below what it serves in saturation (Baccelli and Foss 1995).

Where memory binds and is taken block by block, requests are started whose growth finds no room.  The sequences that run
need O = N tokens more until the next one ends; what a plan does not set aside of these goes to prompts, which are
preempted and computed again later:

    computed again, by request      max(N - b, 0)         prompts share the steps of decoding: b are set aside
                                    N                     prompts come first: none are
    and of a prompt of P tokens,    N (P - q) / (P b) w   it starts when its first q tokens fit and is preempted when
      more than the room q                                the next block is needed, over and over: w = F with prompts
      of one step                                         first, F / (F / q + 3/2) where they share steps; 2 F = P + q

Prompts are taken to start at random times, and lengths to be independent of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from flashstill.simulate.capacity import BUDGET, MEMORY, SLOTS, Mix, capacity, edge, mean_steps_s
from flashstill.simulate.policy import Policy
from flashstill.simulate.state import ALL, ANY_TIME, Limits
from flashstill.simulate.tables import StepTables

COMPUTE = "compute"
BINDS = {SLOTS: "sequences", MEMORY: "memory", BUDGET: "prefill"}
LOWERED, LEAST_ELASTICITY = 0.9, 0.1
"""a limit binds if a tenth less of it lowers the rate by more than a tenth of that; else the time of the steps does"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saturated:
    """One replica while requests always wait: requests per second, sequences that decode, mean seconds of a step.

    best: the highest rate at any number of sequences; above `rate` where preemption wastes what the last ones add.
    binds: sequences, memory, prefill (the budget of tokens in a step), or compute where more of none of them helps.
    """

    rate: float
    running: float
    step_s: float
    best: float
    binds: str


def saturated(tables: StepTables, limits: Limits, mix: Mix) -> Saturated:
    """The closed form of the knee of one replica. Rate 0 where not one sequence of the mean length fits."""
    curve = capacity(tables, limits, mix)
    if mix.decoded <= 0.0:
        return Saturated(
            rate=curve.best[0], running=0.0, step_s=1.0 / curve.best[0] if curve.best[0] else 0.0, best=curve.best[0],
            binds=BINDS[curve.limit],
        )  # fmt: skip
    rate, running, step_s, met = _at_the_edge(tables, limits, mix)
    lowered = _at_the_edge(tables, _lowered(limits, met), mix)[0]
    elasticity = math.log(lowered / rate) / math.log(LOWERED)
    return Saturated(
        rate=rate,
        running=running,
        step_s=step_s,
        best=max(curve.best[0], rate),
        binds=BINDS[met] if elasticity > LEAST_ELASTICITY else COMPUTE,
    )


def outside(policy: Policy, limits: Limits) -> str:
    """What of a policy these equations leave out, in words; empty where they hold."""
    reasons = {
        "a scheduler of your own": limits.asks,
        "SLO-aware scheduling": limits.late != ANY_TIME,
        "decode priority": limits.prefill_first and limits.few != ALL,
        "speculative decoding": policy.draft is not None,
        "ranks of attention that step together": limits.ranks > 1,
        "a prefix cache that is simulated": limits.unit > 0,
        "preemption by swap": limits.swap_s > 0.0,
    }
    return " and ".join(reason for reason, holds in reasons.items() if holds)


def _lowered(limits: Limits, met: str) -> Limits:
    column = {SLOTS: "sequences", MEMORY: "blocks", BUDGET: "tokens"}[met]
    return limits._replace(**{column: LOWERED * getattr(limits, column)})


def _at_the_edge(tables: StepTables, limits: Limits, mix: Mix) -> tuple[float, float, float, str]:
    """Rate, decoding sequences, seconds of a step, and the limit that is met."""
    again, used = 0.0, mix
    for _ in range(40):  # what is computed again depends on b, and b on it
        running, met = edge(limits, used)
        wanted = _again(limits, mix, running) if met == MEMORY and not limits.reserves else 0.0
        if abs(wanted - again) < 1e-6 * mix.prompt:
            break
        again += 0.5 * (wanted - again)
        used = replace(mix, prefilled=mix.prefilled + again)
    step_s = float(mean_steps_s(tables, limits, used, np.array([running]))[0])
    return running / (mix.decoded * step_s), running, step_s, met


def _again(limits: Limits, mix: Mix, running: float) -> float:
    """Prompt tokens that are computed again for each request that ends, where memory is taken block by block."""
    room = max(limits.tokens - (0.0 if limits.prefill_first else running), 1.0)
    first = min(mix.prompt, room)
    at_a_time = (mix.prompt + first) / 2.0
    wasted = at_a_time if limits.prefill_first else at_a_time / (at_a_time / room + 1.5)
    over_and_over = mix.decoded * (mix.prompt - first) / (mix.prompt * running) * wasted
    return over_and_over + (mix.decoded if limits.prefill_first else max(mix.decoded - running, 0.0))
