"""Sizes and tokens that a fit saw, and what is said about a question beyond them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.units import short_count

FAR = 10.0
"""times beyond the largest or below the smallest run from which a figure is an extrapolation and no prediction"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """(smallest, largest) of the runs that were fitted. experts: the most of a mixture, None if it saw dense models.

    teacher_loss: the loss of the only teacher that fitted students had; None if the law takes any or none.
    """

    parameters: tuple[float, float]
    tokens: tuple[float, float]
    experts: float | None = None
    teacher_loss: float | None = None

    def times_beyond(self, parameters: Any, tokens: Any) -> float:
        """How many times above its largest run the farthest point of a question lies, in either; 1 inside."""
        return max(1.0, float(np.max(parameters)) / self.parameters[1], float(np.max(tokens)) / self.tokens[1])

    def remarks(self, parameters: Any, tokens: Any, experts: Any = None) -> Iterator[str]:
        """One sentence for each way in which a question lies outside."""
        for what, asked, seen in (("parameters", parameters, self.parameters), ("tokens", tokens, self.tokens)):
            high, low = float(np.max(asked)) / seen[1], seen[0] / float(np.min(asked))
            if high > 1:
                yield _remark(
                    f"{short_count(float(np.max(asked)))} {what}",
                    high,
                    f"above the most that the fit saw, {short_count(seen[1])}",
                )
            if low > 1:
                yield _remark(
                    f"{short_count(float(np.min(asked)))} {what}",
                    low,
                    f"below the least that the fit saw, {short_count(seen[0])}",
                )
        if experts is not None and self.experts is not None and float(np.max(experts)) > self.experts:
            times = float(np.max(experts)) / self.experts
            yield _remark(
                f"{float(np.max(experts)):.3g} experts", times, f"above the most that the fit saw, {self.experts:g}"
            )


def _remark(asked: str, times: float, where: str) -> str:
    if not math.isfinite(times):
        return f"{asked} lie {where}"
    far = ": an extrapolation, not a prediction" if times > FAR else ""
    return f"{asked} lie {times:.3g} times {where}{far}"
