"""Estimates the time of an evaluation from its first passes, and prints it.

seconds in all = seconds of the first passes x (sum of parameters x tokens) / (parameters x tokens of those passes)
"""

from __future__ import annotations

import time

from flashstill.progress import Advance, Progress

TIMED_S, LONG_S = 1.0, 10.0
"""seconds of passes to time; shortest total time that is printed"""


class TimeEstimate:
    """work: sum of parameters x tokens over all passes."""

    def __init__(self, work: float, progress: Progress) -> None:
        self._work, self._progress, self._is_said = work, progress, False

    def watch(self, advance: Advance, parameters: int) -> Advance:
        """Wraps a model's progress callback to time its passes until the estimate is printed."""
        started, tokens = time.perf_counter(), 0.0

        def counted(amount: float, note: str = "") -> None:
            nonlocal tokens
            advance(amount, note)
            tokens += amount
            elapsed_s = time.perf_counter() - started
            if self._is_said or elapsed_s < TIMED_S:
                return
            self._is_said = True
            whole_s = elapsed_s * self._work / (tokens * parameters)
            if whole_s >= LONG_S:
                self._progress.say(f"all models on all texts take about {whole_s / 60:.1f} minutes")

        return counted
