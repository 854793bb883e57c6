"""Tables of a made-up engine, arrivals and limits for the tests of the event loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from flashstill.simulate import tally as counted
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.engine import run
from flashstill.simulate.state import Limits
from flashstill.simulate.tables import StepTables

MOST = 64
"""sequences that the tables of these tests hold"""


def step_s(count: int, mean: float, prompt: int, attended: float) -> float:
    """Seconds of a step: linear in everything the tables interpolate."""
    seconds = 1e-2 + 1e-4 * count + 1e-6 * count * mean if count else 0.0
    return seconds + (2e-5 * prompt + 1e-8 * prompt * attended + (0.0 if count else 1e-2) if prompt else 0.0)


def tables(cost: Callable[[int, float, int, float], float] = step_s, longest: float = 4096.0) -> StepTables:
    """The tables of a cost that is linear between knots."""
    contexts = np.array([0.0, longest / 3.0, longest])
    batches = np.array([0.0, 1.0, float(MOST)])
    tokens, attended = np.array([0.0, 1.0, 8192.0]), np.array([0.0, longest])
    decode = np.array([[cost(b, s, 0, 0.0) for s in contexts] for b in range(MOST + 1)])
    extra = np.array(
        [
            [
                [(cost(int(b), 0.0, int(p), a) - cost(int(b), 0.0, 0, 0.0)) if p else 0.0 for a in attended]
                for p in tokens
            ]
            for b in batches
        ]
    )
    return StepTables(contexts, decode, 2.0 * decode, batches, tokens, attended, extra, 3.0 * extra)


def arrivals(
    rows: list[tuple[float, int, int]], cached: int = 0, keys: Sequence[Sequence[int]] | None = None
) -> Arrivals:
    times, prompt, output = (np.array(values) for values in zip(*rows, strict=True))
    found = np.minimum(np.full(len(rows), cached), prompt - 1)
    whole = Arrivals(times.astype(float), prompt.astype(np.int64), output.astype(np.int64), found.astype(np.int64))
    if keys is None:
        return whole
    ends = np.cumsum([len(each) for each in keys], dtype=np.int64)
    return whole._replace(key_ends=ends, keys=np.array([key for each in keys for key in each], dtype=np.int64))


def limits(**changed: object) -> Limits:
    usual: dict[str, object] = {
        "sequences": 16, "tokens": 256, "block": 16, "blocks": 10_000, "prefill_first": False,
        "reserves": False, "router": 1, "ttft_s": math.inf, "tpot_s": math.inf, "first_s": 0.0,
    }  # fmt: skip
    return Limits(**{**usual, **changed})  # type: ignore[arg-type]


SECOND = tables(lambda count, mean, prompt, attended: 1.0 if count or prompt else 0.0)
"""tables of an engine whose steps take a second, whatever they do"""
FIRST = (0.0, 10, 10)
"""a request that is alone: its steps end at 1, 2, ..., 10 s"""


def ttft_s(rows: list[tuple[float, int, int]], **changed: object) -> float:
    """Seconds to the first token of the last of these requests to come, from such an engine."""
    both = [run(SECOND, limits(**changed), [arrivals(some)]).tally for some in (rows, rows[:-1])]
    assert both[0].totals[counted.DONE] == len(rows)
    return float(both[0].sums[counted.TTFT].sum() - both[1].sums[counted.TTFT].sum())
