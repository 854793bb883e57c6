"""How long an evaluation will take, said once its first passes are timed.

seconds in all = seconds of the first passes x (sum of parameters x tokens) / (parameters x tokens of those passes)
"""

from __future__ import annotations

import time

from flashstill.progress import Advance, Progress

TIMED_S, LONG_S = 1.0, 10.0
"""passes are timed for so long; what takes less in all is not worth a sentence"""


class TimeEstimate:
    """work: parameters x tokens of all passes that are to be made."""

    def __init__(self, work: float, progress: Progress) -> None:
        self._work, self._progress, self._is_said = work, progress, False

    def watch(self, advance: Advance, parameters: int) -> Advance:
        """The same progress of a model of so many parameters, timed until the estimate is said."""
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
