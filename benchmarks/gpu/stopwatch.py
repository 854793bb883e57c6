"""Times of GPU work: CUDA graphs of several calls, replayed back to back between events; a wall clock on a CPU.

One stream for everything, so that a library's workspace exists before a capture; one memory pool for all graphs.  The
events lie between replays that follow one another without a gap, so the GPU never waits for the host in what is timed.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from board import Board, Drawn

Step = Callable[[], object]
CACHE_BYTES = 192e6
"""working sets are rotated until they are this large: three times the L2 of the GPUs that this is made for"""
GRAPH_S = 200e-6
"""a graph takes at least about this long, so that its launch and the events' resolution do not count"""
CHUNK_S, AHEAD = 0.005, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Seconds of one call: median, lowest and highest of the repeats."""

    seconds: float
    low: float
    high: float
    calls: int

    def cells(self, unit: float = 1e3) -> dict[str, object]:
        """As columns, milliseconds unless told otherwise."""
        return {
            "latency": f"{self.seconds * unit:.6g}", "low": f"{self.low * unit:.6g}",
            "high": f"{self.high * unit:.6g}", "calls": self.calls,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Sustained:
    """Seconds of one call over most of a second of uninterrupted work, and what the board drew meanwhile."""

    seconds: float
    drawn: Drawn | None

    def cells(self, unit: float = 1e3) -> dict[str, object]:
        """As columns; joules are those of one call."""
        told: dict[str, object] = {"sustained": f"{self.seconds * unit:.6g}"}
        if self.drawn is None:
            return told
        drawn = self.drawn
        return told | {
            "joules": f"{drawn.watts * self.seconds:.6g}", "watts": f"{drawn.watts:.5g}",
            "window_s": f"{drawn.window_s:.3f}", "meter": drawn.meter, "sm_clock_mhz": drawn.sm_clock_mhz,
            "memory_clock_mhz": drawn.memory_clock_mhz, "celsius": drawn.celsius, "limited_by": drawn.limited_by,
        }  # fmt: skip


MEASURED = ("latency", "low", "high", "calls")
"""columns of a Timing"""
DRAWN = (
    "sustained", "joules", "watts", "window_s", "meter", "sm_clock_mhz", "memory_clock_mhz", "celsius", "limited_by",
)  # fmt: skip
"""columns of a Sustained"""


def copies_for(nbytes: float, most: int = 128) -> int:
    """Copies of a working set to rotate over, so that the GPU's cache does not serve it."""
    return max(1, min(most, math.ceil(CACHE_BYTES / max(nbytes, 1.0))))


def calls_for(copies: int, guess_s: float) -> int:
    """Calls in one graph: every copy once, and long enough to be timed."""
    return min(256, max(copies, math.ceil(GRAPH_S / guess_s)))


class Stopwatch:
    """Captures, times and meters steps on one device."""

    def __init__(self, device: torch.device, board: Board, tiny: bool = False) -> None:
        self.device, self.board, self.tiny = device, board, tiny
        self.cuda = device.type == "cuda"
        if self.cuda:
            torch.cuda.set_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()
            self._keeper = torch.cuda.CUDAGraph()  # holds the pool while graphs come and go
            held = torch.zeros(16, device=device)
            torch.cuda.synchronize()
            self._keeper.capture_begin(pool=self._pool)
            held.add_(1.0)
            self._keeper.capture_end()

    def wait(self) -> None:
        """Until the device is done."""
        if self.cuda:
            torch.cuda.synchronize()

    def captured(self, work: Step, warm: int = 2) -> Step:
        """`work` as a CUDA graph, after warming it up; `work` itself on a CPU.

        torch.cuda.graph would collect garbage and empty the allocator's cache each time, which costs more than the
        measurement.
        """
        for _ in range(warm):
            work()
        self.wait()
        if not self.cuda:
            return work
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(pool=self._pool)
        try:
            work()
        except BaseException:
            with contextlib.suppress(Exception):
                graph.capture_end()
            raise
        graph.capture_end()
        return graph.replay

    def timed(self, step: Step, calls: int = 1, repeats: int = 7, most_s: float = 0.15) -> Timing:
        """Seconds of one of the `calls` in `step`; fewer repeats (at least two) where they would pass `most_s`."""
        found = self._laps(step, 2)[1:]
        repeats = max(2, min(repeats, int(most_s / max(found[0], 1e-9))))
        laps = self._laps(step, repeats + 1)[1:]  # the first lap begins while the host still queues
        each = sorted(lap / calls for lap in laps)
        return Timing(seconds=statistics.median(each), low=each[0], high=each[-1], calls=calls * len(each))

    def _laps(self, step: Step, count: int) -> list[float]:
        """Seconds of each of `count` steps, one directly after another."""
        if not self.cuda:
            marks = [time.perf_counter()]
            for _ in range(count):
                step()
                marks.append(time.perf_counter())
            return [late - early for early, late in itertools.pairwise(marks)]
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]  # type: ignore[no-untyped-call]
        events[0].record()
        for event in events[1:]:
            step()
            event.record()
        torch.cuda.synchronize()
        return [early.elapsed_time(late) * 1e-3 for early, late in itertools.pairwise(events)]

    def sustained(self, step: Step, calls: int, seconds_each: float, seconds: float = 0.9) -> Sustained:
        """`step` over and over for `seconds`, a few chunks of 5 ms queued ahead, with the board watched.

        seconds_each: of one call, as timed.
        """
        chunk = max(1, round(CHUNK_S / max(seconds_each * calls, 1e-7)))
        done = 0
        ahead: deque[torch.cuda.Event] = deque()

        def some() -> None:
            nonlocal done
            for _ in range(chunk):
                step()
            done += chunk
            if self.cuda:
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
                ahead.append(event)
                if len(ahead) > AHEAD:
                    ahead.popleft().synchronize()

        self.wait()
        began = time.perf_counter()
        drawn = self.board.watch(some, 0.02 if self.tiny else seconds)
        self.wait()
        return Sustained(seconds=(time.perf_counter() - began) / (done * calls), drawn=drawn)
