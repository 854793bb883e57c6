"""The requests that a fleet is sized for: a trace, other days like it, more of it, and parts of it.

another day   local block bootstrap (Paparoditis and Politis 2002): the trace is cut into equal spans; each is replaced
              by one drawn from those up to a tenth of the trace before or behind it.  Bursts stay whole within a
              block, and the rise and fall of the load over the trace stays where it is.
k times it    k days laid over each other, each drawn by itself: k times as many users.  A fraction keeps each request
              of one more day with that probability.
a part        consecutive blocks, where all of them would take too long
Seed 0 at 1 times the traffic is the trace itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flashstill.errors import BadInput
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.state import Counts, Values
from flashstill.simulate.traces import pieces_of
from flashstill.simulate.traffic import Traffic
from flashstill.traces.reader import Trace
from flashstill.traces.reading import DEFAULT, Reading

FEWEST_BLOCKS, MOST_BLOCKS, REQUESTS_OF_A_BLOCK = 60, 960, 300
NEAR_SHARE = 0.1
LEAST_SPAN_S = 1e-3
MOST_REQUESTS = 5_000_000
"""more would not be held in memory at once"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """Requests in order of arrival, from time 0 on. edges [blocks + 1]: index of the first request of each block.

    span_s: from the first to the last arrival.  left_out: requests longer than the model's context.
    has_names: the trace names its hash blocks; they are not followed, as other days would repeat them.
    told: what reading the trace has met.
    """

    requests: Arrivals
    span_s: float
    edges: Counts
    left_out: int = 0
    has_names: bool = False
    told: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Mean requests per second."""
        return len(self.requests.arrival_s) / self.span_s

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.edges) - 1

    def busiest(self, blocks: int) -> tuple[int, int]:
        """The consecutive blocks with the most tokens."""
        tokens = np.cumsum(self.requests.prompt - self.requests.cached + self.requests.output)
        work = np.diff(np.append(0, tokens)[self.edges])
        totals = np.convolve(work, np.ones(blocks), mode="valid")
        start = int(np.argmax(totals))
        return start, start + blocks


def read_demand(path: Path, longest: int, speed: float = 1.0, reading: Reading = DEFAULT) -> Demand:
    """The requests of a trace that a model of `longest` tokens of context can answer."""
    Traffic(trace=path, speed=speed)  # raises for a speed that cannot be
    pieces, count, trace = [], 0, Trace(path, reading)
    for piece in pieces_of(trace, speed):
        pieces.append(piece)
        count += len(piece.arrival_s)
        if count > MOST_REQUESTS:
            raise BadInput(
                f"{path} has over {MOST_REQUESTS:,} requests; a fleet is sized for up to so many: take a part of it, as"
                " with --trace-from 24h --trace-until 48h"
            )
    if not pieces:
        raise BadInput(f"{path} holds no requests")
    whole = Arrivals(
        np.concatenate([piece.arrival_s for piece in pieces]),
        np.concatenate([piece.prompt for piece in pieces]),
        np.concatenate([piece.output for piece in pieces]),
        np.concatenate([piece.cached for piece in pieces]),
    )
    has_names = any(len(piece.keys) for piece in pieces)
    fitting = np.flatnonzero(whole.prompt + whole.output <= longest)
    if not len(fitting):
        raise BadInput(f"every request of {path} is longer than the {longest:,} tokens that the model was made for")
    kept = _rows(whole, fitting, -float(whole.arrival_s[0]))
    demand = demand_of(kept, float(kept.arrival_s[-1]), len(whole.arrival_s) - len(fitting))
    return replace(demand, has_names=has_names, told=trace.seen.notes())


def demand_of(requests: Arrivals, span_s: float, left_out: int = 0) -> Demand:
    """Requests that arrive within [0, span_s]."""
    span_s = max(span_s, LEAST_SPAN_S)
    blocks = int(np.clip(len(requests.arrival_s) // REQUESTS_OF_A_BLOCK, FEWEST_BLOCKS, MOST_BLOCKS))
    times = np.linspace(0.0, span_s, blocks + 1)
    edges = np.searchsorted(requests.arrival_s, times)
    edges[-1] = len(requests.arrival_s)
    return Demand(requests=requests, span_s=span_s, edges=edges, left_out=left_out)


def sample(demand: Demand, seed: int, times: float = 1.0, part: tuple[int, int] | None = None) -> Arrivals:
    """Requests of another day: `times` as much traffic, of the blocks of `part` (first, end) if given."""
    start, end = part or (0, demand.blocks)
    width = demand.span_s / (demand.blocks)
    copies = int(np.ceil(times - 1e-9))
    rows, shifts = [], []
    for copy in range(copies):
        numbers = np.random.default_rng((seed, copy))
        is_itself = seed == 0 and copies == 1
        for block in range(start, end):
            source = block if is_itself else _near(block, demand.blocks, numbers)
            chosen = np.arange(demand.edges[source], demand.edges[source + 1])
            share = min(times - copy, 1.0)
            if share < 1.0:
                chosen = chosen[numbers.random(len(chosen)) < share]
            rows.append(chosen)
            shifts.append(np.full(len(chosen), (block - source - start) * width))
    every, shift = np.concatenate(rows), np.concatenate(shifts)
    arrival_s = demand.requests.arrival_s[every] + shift
    order = np.argsort(arrival_s, kind="stable")
    return _rows(demand.requests, every[order], shift[order])


def _near(block: int, blocks: int, numbers: np.random.Generator) -> int:
    reach = max(int(NEAR_SHARE * blocks), 1)
    return int(numbers.integers(max(block - reach, 0), min(block + reach + 1, blocks)))


def _rows(requests: Arrivals, rows: Counts, shift_s: Values | float) -> Arrivals:
    return Arrivals(
        np.maximum(requests.arrival_s[rows] + shift_s, 0.0),
        requests.prompt[rows],
        requests.output[rows],
        requests.cached[rows],
    )
