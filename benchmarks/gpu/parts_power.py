"""Watts of a board that does nothing, that only waits, and that spins on one multiprocessor; the counter's steps."""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch
from board import Board
from result_rows import Budget, Results
from stopwatch import Stopwatch

TABLE, COLUMNS = "board", ("quantity", "value", "unit", "detail")


def put(results: Results, quantity: str, value: Any, unit: str, detail: str = "", device: str | None = None) -> None:
    """A reading as a row."""
    cells = {"quantity": quantity, "value": value, "unit": unit, "detail": detail}
    results.add(TABLE, COLUMNS, cells, device)


def before_context(results: Results, board: Board, seconds: float) -> None:
    """Before this process has a context on the GPU."""
    for name, value in board.facts().items():
        put(results, name, value, name.rsplit("_", 1)[-1], "before a context exists", device=board.name)
    drawn = board.watch(lambda: time.sleep(0.004), seconds)
    if drawn is not None:
        put(results, "idle_w", round(drawn.watts, 2), "W", f"no context; {drawn.meter}", device=board.name)


def measure(results: Results, watch: Stopwatch, budget: Budget, seconds: float = 1.2) -> None:
    """With a context: waiting, spinning on one block, waiting after work, and the counter's resolution."""
    if not watch.cuda or not watch.board.measures:
        put(results, "no_meter", 1, "1", "no NVML reading on this machine")
        return
    rest = lambda: time.sleep(0.004)
    torch.ones(1, device=watch.device).add_(1.0).item()
    _idle(results, watch, "context_idle_w", rest, seconds)
    cycles = int(2e9 * 0.004)

    def spin() -> None:
        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()

    results.attempt(TABLE, "spin", lambda: _idle(results, watch, "spinning_w", spin, 2 * seconds))
    results.attempt(TABLE, "counter", lambda: _resolution(results, watch, 0.6))
    _idle(results, watch, "waiting_after_work_w", rest, seconds)
    for name, value in watch.board.facts().items():
        put(results, name, value, name.rsplit("_", 1)[-1], "after the parts' first work")


def _idle(results: Results, watch: Stopwatch, quantity: str, work: Any, seconds: float) -> None:
    drawn = watch.board.watch(work, seconds)
    if drawn is not None:
        clocks = f"SM {drawn.sm_clock_mhz} MHz, memory {drawn.memory_clock_mhz} MHz"
        put(results, quantity, round(drawn.watts, 2), "W", f"{clocks}; {drawn.updates} updates; {drawn.meter}")


def _resolution(results: Results, watch: Stopwatch, seconds: float) -> None:
    """Milliseconds and millijoules between two changes of the counter while one block spins."""
    torch.cuda._sleep(int(2e9 * seconds))  # type: ignore[no-untyped-call]
    began, reads = time.perf_counter(), 0
    changes: list[tuple[float, int]] = []
    last = watch.board.millijoules()
    if last is None:
        return
    while time.perf_counter() - began < seconds:
        now = watch.board.millijoules()
        reads += 1
        if now is not None and now != last:
            changes.append((time.perf_counter(), now))
            last = now
    watch.wait()
    put(results, "counter_read_ms", round(seconds / reads * 1e3, 4), "ms", f"{reads} reads")
    if len(changes) > 1:
        gaps = sorted(late[0] - early[0] for early, late in itertools.pairwise(changes))
        steps = sorted(late[1] - early[1] for early, late in itertools.pairwise(changes))
        put(results, "counter_update_ms", round(gaps[len(gaps) // 2] * 1e3, 3), "ms", f"median of {len(gaps)}")
        put(results, "counter_step_mj", steps[len(steps) // 2], "mJ", f"median; least {steps[0]}, most {steps[-1]}")
