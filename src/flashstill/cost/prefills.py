"""The passes of a prefill in chunks, of which three stand for all.

Each chunk reads the weights again and attends to all earlier tokens.  Its cost is smooth in the number of earlier
tokens, so the sum over n chunks is Simpson's rule on the first, middle and last one:  n (first + 4 middle + last) / 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.cost.step import StepCost
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """`times` equal passes of `length` prompt tokens each, after `past` others. times: None for one."""

    length: Quantity
    past: Quantity
    times: Quantity | None = None


def prefill_passes(length: Quantity, chunk: int | None = None, past: Quantity = 0.0) -> list[Pass]:
    """The passes of a prefill of `length` tokens after `past` others, at once or in chunks of at most `chunk`."""
    if chunk is None or np.all(np.asarray(length) <= chunk):
        return [Pass(length=length, past=past)]
    steps = np.ceil(length / chunk)
    tokens = length / steps  # chunks of equal size; an engine's last chunk is shorter, with the same total
    last = length - tokens
    return [
        Pass(length=tokens, past=past, times=steps / 6.0),
        Pass(length=tokens, past=past + last / 2.0, times=steps * 4.0 / 6.0),
        Pass(length=tokens, past=past + last, times=steps / 6.0),
    ]


def in_sequence(costs: Sequence[StepCost], passes: Sequence[Pass]) -> StepCost:
    """The cost of all passes of a prefill. costs: of one of each."""
    total = costs[0] if passes[0].times is None else costs[0].times(passes[0].times)
    for cost, each in zip(costs[1:], passes[1:], strict=True):
        assert each.times is not None
        total = total.plus(cost, each.times)
    return total
