"""Times of steps from the tables (tables.py), and of many decode steps in a row in closed form.

While b sequences decode and nothing else happens, each step adds one token to each context, so that with T(s) linear
between knots the seconds of k steps are sums of arithmetic series:

    sum over i < k of T(s + i) = k T(s) + slope k (k - 1) / 2        within one pair of knots
"""

from __future__ import annotations

import numpy as np

from flashstill.simulate.compiled import compiled
from flashstill.simulate.tables import Values

Pair = tuple[float, float]
"""a knot and the next one, or values at them"""


@compiled
def knot_before(knots: Values | Pair, value: float) -> int:
    """Index i of the pair of knots [i, i + 1] that holds the value; the first or last pair outside of them."""
    low, high = 0, len(knots) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if knots[middle] <= value:
            low = middle
        else:
            high = middle
    return low


@compiled
def decode_value(contexts: Values | Pair, row: Values | Pair, context: float) -> float:
    """One decode step at a mean context, of the table's row for the batch."""
    i = knot_before(contexts, context)
    return float(row[i] + (row[i + 1] - row[i]) * (context - contexts[i]) / (contexts[i + 1] - contexts[i]))


@compiled
def decode_sum(contexts: Values | Pair, row: Values | Pair, context: float, steps: int) -> float:
    """`steps` decode steps in a row, the first at a mean context of `context` tokens."""
    total, left, at = 0.0, steps, context
    i = knot_before(contexts, at)
    last = len(contexts) - 2
    while left > 0:
        slope = (row[i + 1] - row[i]) / (contexts[i + 1] - contexts[i])
        count = left
        if i < last:
            count = min(left, max(int(np.ceil(contexts[i + 1] - at)), 1))
        first = row[i] + slope * (at - contexts[i])
        total += count * first + slope * (count * (count - 1.0) / 2.0)
        at += count
        left -= count
        while i < last and contexts[i + 1] <= at:
            i += 1
    return float(total)


@compiled
def steps_until(contexts: Values | Pair, row: Values | Pair, context: float, steps: int, seconds: float) -> int:
    """The fewest decode steps, from 1 to `steps`, that take at least `seconds`."""
    low, high = 1, steps
    while low < high:
        middle = (low + high) // 2
        if decode_sum(contexts, row, context, middle) >= seconds:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def extra_value(
    batches: Values, tokens: Values, attended: Values, table: Values, batch: float, prompt: float, mean: float
) -> float:
    """What `prompt` prompt tokens, each attending to `mean` earlier ones, add to a step of `batch` sequences."""
    i, j, k = knot_before(batches, batch), knot_before(tokens, prompt), knot_before(attended, mean)
    x = min(max((batch - batches[i]) / (batches[i + 1] - batches[i]), 0.0), 1.0)
    y = (prompt - tokens[j]) / (tokens[j + 1] - tokens[j])
    z = (mean - attended[k]) / (attended[k + 1] - attended[k])
    total = 0.0
    for di in range(2):
        for dj in range(2):
            for dk in range(2):
                weight = (x if di else 1.0 - x) * (y if dj else 1.0 - y) * (z if dk else 1.0 - z)
                if weight != 0.0:
                    total += weight * table[i + di, j + dj, k + dk]
    return total
