"""Where the answer turns: tokens, the best teacher, and the number of students that share its bill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from flashstill.family.both_ways import (
    Values,
    conditions_of,
    distilled_loss_of,
    gain_of,
)
from flashstill.family.question import Question
from flashstill.family.taught import ENDLESS
from flashstill.quality import Law

TOKENS_PER_PARAMETER = 20.0
"""of a teacher that is trained as well as its compute allows (Besiroglu et al. 2024)"""


def nearest_flip(question: Question, law: Law, tokens: Values, gains: Values, teacher_loss: float) -> float | None:
    """The tokens nearest to the question's (in ratio) at which the answer changes."""
    signs = gains > 0.0
    at = np.flatnonzero(signs[1:] != signs[:-1])
    if not at.size:
        return None
    flips = [_bisected(question, law, tokens[each], tokens[each + 1], teacher_loss) for each in at]
    return min(flips, key=lambda each: abs(float(np.log(each / question.tokens))))


def _bisected(question: Question, law: Law, low: float, high: float, teacher_loss: float) -> float:
    starts = gain_of(question, law, low, teacher_loss) > 0.0
    for _ in range(50):
        middle = float(np.sqrt(low * high))
        same = (gain_of(question, law, middle, teacher_loss) > 0.0) == starts
        low, high = (middle, high) if same else (low, middle)
    return high


def ranges_of(tokens: Values, wins: npt.NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Ranges of tokens in which distillation wins, on the grid."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wins, [False]]).astype(int)))
    return tuple((float(tokens[a]), float(tokens[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True))


def best_teacher_loss_of(question: Question, law: Law) -> float:
    """Loss of the teacher with which this student does best at these tokens: beyond it lies the capacity gap."""
    own = float(law.loss(question.parameters, question.tokens, **conditions_of(question)))
    floor = float(law.loss(ENDLESS, ENDLESS))
    losses = np.linspace(floor, own, 2000)[1:]
    return float(losses[int(np.argmin(distilled_loss_of(question, law, question.tokens, losses)))])


def teacher_size_of(law: Law, loss: float) -> float | None:
    """Parameters that reach a loss on 20 tokens each."""
    sizes = np.geomspace(1e6, 1e15, 600)
    enough = np.flatnonzero(np.asarray(law.loss(sizes, TOKENS_PER_PARAMETER * sizes)) <= loss)
    return float(sizes[enough[0]]) if enough.size else None


def students_needed_of(question: Question, law: Law, teacher_loss: float) -> int | None:
    """Fewest students that make training the teacher pay; 1 for one that exists and pays, None where none do."""

    def wins(students: int) -> bool:
        return bool(gain_of(replace(question, students=students), law, question.tokens, teacher_loss) > 0.0)

    if wins(1):
        return 1
    most = 1
    while not wins(most):
        most *= 2
        if most > 2**30:
            return None
    low = most // 2
    while most - low > 1:
        middle = (low + most) // 2
        low, most = (low, middle) if wins(middle) else (middle, most)
    return most
