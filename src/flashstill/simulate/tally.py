"""What is counted while events pass, in memory that does not grow with the number of requests.

Latencies go into histograms whose bins are 1 % wide, one for each of up to `PARTS` consecutive parts of the requests,
so that percentiles have intervals (results.py); when the parts are used up, neighbours are joined.
Time lines work in the same way with up to `MOMENTS` bins of time.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from flashstill.simulate.compiled import compiled
from flashstill.simulate.state import Counts, Values

TTFT, TPOT, GAP, END_TO_END, WAITING, TRANSFER = cast("list[int]", list(np.arange(6)))
"""of NumPy: for every whole number of Python in a call Numba compiles the called function anew"""
METRICS = ("ttft_s", "tpot_s", "inter_token_s", "end_to_end_s", "waiting_s", "transfer_s")
BIN = 0.01
LEAST_S = 1e-6
BINS = 2800
"""bins from 1 microsecond to over two weeks"""
PARTS, MOMENTS = 32, 512
LEAST_PART = 16
"""requests of a part at first; it doubles whenever there would be more than so many parts"""

ARRIVED, DONE, REFUSED, PREEMPTED, GOOD, TOKENS_IN, TOKENS_OUT, CACHED_IN, PART_SIZE, TOO_LATE = range(10)
FAILED, RETRIED, FAILURES, LOST_OUT, EVICTED, SWAPPED = range(10, 16)
"""requests given up, and tried again; replicas that failed; tokens given to requests that were given up;
cache blocks of the prefix cache that were given up, and blocks that went to the host or came back"""
TIME_S, IN_SYSTEM = 1, 2
"""places in Tally.area: when a request last came or left, and the number of requests in the system"""
RUNNING, QUEUED, CACHE, WORKING, TOKENS, SERVING, PAID, PREFIX = cast("list[int]", list(np.arange(8)))
LINES = (
    "running",
    "queued",
    "cache_blocks",
    "working",
    "output_tokens",
    "replicas_serving",
    "replicas_paid",
    "prefix_blocks",
)


class Tally(NamedTuple):
    """histograms [metric, part, bin]; sums, counts [metric, part]; totals: by the names above; lines [moment, line]:
    integrals over time; moment [1]: seconds of a bin of time; area [3]: integral over time of
    the number of requests in the system, the time up to which it goes, and that number now."""

    histograms: Counts
    sums: Values
    counts: Counts
    totals: Counts
    lines: Values
    moment: Values
    area: Values


def new_tally(moment_s: float = 0.1, is_brief: bool = False) -> Tally:
    """All zero. is_brief: neither time lines nor parts of the run, only latencies over the whole of it."""
    totals = np.zeros(16, dtype=np.int64)
    totals[PART_SIZE] = 2**62 if is_brief else LEAST_PART
    return Tally(
        histograms=np.zeros((len(METRICS), PARTS, BINS), dtype=np.int64),
        sums=np.zeros((len(METRICS), PARTS)),
        counts=np.zeros((len(METRICS), PARTS), dtype=np.int64),
        totals=totals,
        lines=np.zeros((MOMENTS, len(LINES))),
        moment=np.array([np.inf if is_brief else moment_s]),
        area=np.zeros(3),
    )


@compiled
def part_of(tally: Tally, number: int) -> int:
    """The part that holds a request by its number; joins parts first where there are too few."""
    while number // tally.totals[PART_SIZE] >= PARTS:
        half = PARTS // 2
        for metric in range(len(METRICS)):
            for part in range(half):
                one, two = 2 * part, 2 * part + 1
                for at in range(BINS):
                    tally.histograms[metric, part, at] = (
                        tally.histograms[metric, one, at] + tally.histograms[metric, two, at]
                    )
                tally.sums[metric, part] = tally.sums[metric, one] + tally.sums[metric, two]
                tally.counts[metric, part] = tally.counts[metric, one] + tally.counts[metric, two]
        tally.histograms[:, half:] = 0
        tally.sums[:, half:] = 0.0
        tally.counts[:, half:] = 0
        tally.totals[PART_SIZE] *= 2
    return int(number // tally.totals[PART_SIZE])


@compiled
def enter(tally: Tally, now: float) -> None:
    """A request comes into the system."""
    tally.area[0] += tally.area[2] * (now - tally.area[1])
    tally.area[1] = now
    tally.area[2] += 1.0


@compiled
def leave(tally: Tally, now: float) -> None:
    """A request leaves the system."""
    tally.area[0] += tally.area[2] * (now - tally.area[1])
    tally.area[1] = now
    tally.area[2] -= 1.0


@compiled
def note(tally: Tally, metric: int, part: int, seconds: float, times: int) -> None:
    """Count a latency `times` times."""
    if times == 0:
        return
    at = 0
    if seconds > LEAST_S:
        at = min(int(np.log(seconds / LEAST_S) / BIN) + 1, BINS - 1)
    tally.histograms[metric, part, at] += times
    tally.sums[metric, part] += seconds * times
    tally.counts[metric, part] += times


@compiled
def widen(tally: Tally) -> None:
    """Join neighbouring moments, so that the time lines reach twice as far."""
    half = MOMENTS // 2
    for moment in range(half):
        for line in range(len(LINES)):
            tally.lines[moment, line] = tally.lines[2 * moment, line] + tally.lines[2 * moment + 1, line]
    tally.lines[half:] = 0.0
    tally.moment[0] *= 2.0


@compiled
def draw_line(tally: Tally, line: int, start: float, end: float, value: float) -> None:
    """Add `value` over [start, end) to a time line."""
    if value == 0.0 or end <= start or tally.moment[0] == np.inf:
        return
    while end >= tally.moment[0] * MOMENTS:
        widen(tally)
    width = tally.moment[0]
    first, last = int(start / width), int(end / width)
    for moment in range(first, last + 1):
        inside = min(end, (moment + 1) * width) - max(start, moment * width)
        if inside > 0.0:
            tally.lines[moment, line] += value * inside


@compiled
def draw_token(tally: Tally, now: float) -> None:
    """Add one output token at a moment to its time line."""
    if tally.moment[0] == np.inf:
        return
    while now >= tally.moment[0] * MOMENTS:
        widen(tally)
    tally.lines[int(now / tally.moment[0]), TOKENS] += 1.0
