"""Should I distil? The student of a teacher against the same student on labels, for the same bill.

    D'          tokens on labels that the distilled student's whole bill buys (question.py)
    gain        L(N_S, D') - L(N_S, D, teacher), nats per token, of the distillation law, in which no teacher takes a
                student below what endless tokens on labels do (beyond its runs the formula would)
    sure        share of draws with a gain of the answer's sign: predicted losses within the fit's error (triangular),
                which widens beyond its runs, and tokens within a range if one is told

Supervised training wins with enough tokens (both losses approach the same limits, and a token on labels is cheaper) and
where the teacher is trained for one student; distillation wins where the teacher exists or serves many.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.economics.sensitivity import check_draws
from flashstill.family.question import Question, bill, check_question, label_tokens, overhead
from flashstill.family.taught import ENDLESS, taught_loss
from flashstill.quality import Law
from flashstill.tables import cell, flat, html_table

Values = npt.NDArray[np.float64]
_LEAST, _MOST, _POINTS = 1e6, 1e18, 400
_SURE_ERROR = 0.01
"""relative error of a law that does not tell its own, as a labelled guess"""
TOKENS_PER_PARAMETER = 20.0
"""of a teacher that is trained as well as its compute allows (Besiroglu et al. 2024)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Worth:
    """distil: the answer.  sure: share of draws that agree.  flips_at_tokens, flips_at_flops: nearest threshold above
    or below the question's tokens, None where it never flips.  wins: ranges of tokens in which distillation wins.

    best_teacher_loss, best_teacher_parameters: of the teacher with which this student does best, trained on 20 tokens a
    parameter.  teacher_is: "too strong", "too weak" or "right" for it.
    students_needed: fewest students for which training the teacher pays, None where none does.
    """

    question: Question
    distil: bool
    sure: float
    gain_nats: float
    distilled_loss: float
    supervised_loss: float
    supervised_tokens: float
    teacher_loss: float
    overhead: float
    flops: float
    flips_at_tokens: float | None
    flips_at_flops: float | None
    wins: tuple[tuple[float, float], ...]
    best_teacher_loss: float
    best_teacher_parameters: float | None
    teacher_is: str
    students_needed: int | None
    law: str
    notes: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The answer as a sentence."""
        verb = "distil" if self.distil else "train on labels"
        how = "a close call" if self.sure < 0.75 else "sure" if self.sure > 0.95 else "likely"
        return f"{verb} ({how}: {self.sure:.0%} of draws agree; {abs(self.gain_nats):.4f} nats per token better)"

    def as_dict(self) -> dict[str, Any]:
        """The answer as plain values; `tokens_range` and `wins` as lists."""
        tree = asdict(self)
        return {"answer": self.answer, **tree, "wins": [list(each) for each in self.wins], "notes": list(self.notes)}

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row."""
        tree = self.as_dict()
        return [flat({name: value for name, value in tree.items() if name not in ("wins", "notes")})]

    def _repr_html_(self) -> str:
        names = ("gain_nats", "distilled_loss", "supervised_loss", "flips_at_tokens", "best_teacher_loss", "teacher_is")
        return html_table(("", ""), [(name, cell(getattr(self, name))) for name in names], self.answer)


def should_distil(question: Question, law: Law, draws: int = 2000, seed: int = 0) -> Worth:
    """The answer by the law. Raises BadInput for numbers that cannot be, or a teacher of which too little is told."""
    check_question(question)
    check_draws(draws, seed)
    teacher_loss, predicted = _teacher_loss(question, law)
    gain = float(_gain(question, law, question.tokens, teacher_loss))
    tokens = np.geomspace(_LEAST, _MOST, _POINTS)
    gains = np.asarray(_gain(question, law, tokens, teacher_loss))
    flips = _nearest_flip(question, law, tokens, gains, teacher_loss)
    best = _best_teacher_loss(question, law)
    size = _teacher_size(law, best)
    wins = gain > 0.0
    return Worth(
        question=question,
        distil=wins,
        sure=_sure(question, law, teacher_loss, predicted, wins, draws, seed),
        gain_nats=gain,
        distilled_loss=float(_distilled(question, law, question.tokens, teacher_loss)),
        supervised_loss=float(_supervised(question, law, question.tokens)),
        supervised_tokens=float(label_tokens(question, question.tokens)),
        teacher_loss=teacher_loss,
        overhead=overhead(question),
        flops=float(bill(question, question.tokens)),
        flips_at_tokens=flips,
        flips_at_flops=None if flips is None else float(bill(question, flips)),
        wins=_ranges(tokens, gains > 0.0),
        best_teacher_loss=best,
        best_teacher_parameters=size,
        teacher_is=_fit_of(teacher_loss, best, law),
        students_needed=_students_needed(question, law, teacher_loss),
        law=law.name,
        notes=_notes(question, law, predicted),
    )


def _teacher_loss(question: Question, law: Law) -> tuple[float, bool]:
    """(loss of the teacher, whether the law predicts it)."""
    if question.teacher_loss is not None:
        return question.teacher_loss, False
    if question.teacher_ratio is not None:
        return question.teacher_ratio * float(_supervised(question, law, question.tokens)), False
    return float(law.loss(question.teacher_parameters, question.teacher_tokens)), True


def _conditions(question: Question) -> dict[str, Any]:
    return {} if question.unique_tokens is None else {"unique_tokens": question.unique_tokens}


def _distilled(question: Question, law: Law, tokens: Any, teacher_loss: Any) -> Values:
    return taught_loss(law, question.parameters, tokens, teacher_loss, **_conditions(question))


def _supervised(question: Question, law: Law, tokens: Any) -> Values:
    return law.loss(question.parameters, label_tokens(question, tokens), **_conditions(question))


def _gain(question: Question, law: Law, tokens: Any, teacher_loss: Any) -> Values:
    return np.asarray(_supervised(question, law, tokens) - _distilled(question, law, tokens, teacher_loss))


def _nearest_flip(question: Question, law: Law, tokens: Values, gains: Values, teacher_loss: float) -> float | None:
    """The tokens nearest to the question's (in ratio) at which the answer changes."""
    signs = gains > 0.0
    at = np.flatnonzero(signs[1:] != signs[:-1])
    if not at.size:
        return None
    flips = [_bisected(question, law, tokens[each], tokens[each + 1], teacher_loss) for each in at]
    return min(flips, key=lambda each: abs(float(np.log(each / question.tokens))))


def _bisected(question: Question, law: Law, low: float, high: float, teacher_loss: float) -> float:
    starts = _gain(question, law, low, teacher_loss) > 0.0
    for _ in range(50):
        middle = float(np.sqrt(low * high))
        same = (_gain(question, law, middle, teacher_loss) > 0.0) == starts
        low, high = (middle, high) if same else (low, middle)
    return high


def _ranges(tokens: Values, wins: npt.NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Ranges of tokens in which distillation wins, on the grid."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wins, [False]]).astype(int)))
    return tuple((float(tokens[a]), float(tokens[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True))


def _best_teacher_loss(question: Question, law: Law) -> float:
    """Loss of the teacher with which this student does best at these tokens: beyond it lies the capacity gap."""
    own = float(law.loss(question.parameters, question.tokens, **_conditions(question)))
    floor = float(law.loss(ENDLESS, ENDLESS))
    losses = np.linspace(floor, own, 2000)[1:]
    return float(losses[int(np.argmin(_distilled(question, law, question.tokens, losses)))])


def _teacher_size(law: Law, loss: float) -> float | None:
    """Parameters that reach a loss on 20 tokens each."""
    sizes = np.geomspace(1e6, 1e15, 600)
    enough = np.flatnonzero(np.asarray(law.loss(sizes, TOKENS_PER_PARAMETER * sizes)) <= loss)
    return float(sizes[enough[0]]) if enough.size else None


def _fit_of(teacher_loss: float, best: float, law: Law) -> str:
    error = law.spread.relative_error or _SURE_ERROR
    if teacher_loss < best * (1.0 - error):
        return "too strong"
    return "too weak" if teacher_loss > best * (1.0 + error) else "right"


def _students_needed(question: Question, law: Law, teacher_loss: float) -> int | None:
    """Fewest students that make training the teacher pay; 1 for one that exists and pays, None where none do."""

    def wins(students: int) -> bool:
        return bool(_gain(replace(question, students=students), law, question.tokens, teacher_loss) > 0.0)

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


def _sure(
    question: Question, law: Law, teacher_loss: float, predicted: bool, wins: bool, draws: int, seed: int
) -> float:
    """Share of draws in which the answer holds."""
    student = error_of(law, question.parameters, question.tokens)
    taught = error_of(law, question.teacher_parameters, question.teacher_tokens) if predicted else student
    numbers = np.random.default_rng(seed)
    off = numbers.triangular(-1.0, 0.0, 1.0, (3, draws)) * [[taught], [student], [student]]
    tokens: Any = question.tokens
    if question.tokens_range is not None and question.tokens_range[0] < question.tokens_range[1]:
        low, high = question.tokens_range
        tokens = numbers.triangular(low, min(max(question.tokens, low), high), high, draws)
    teacher = teacher_loss * (1.0 + off[0]) if predicted else teacher_loss
    distilled = _distilled(question, law, tokens, teacher) * (1.0 + off[1])
    supervised = _supervised(question, law, tokens) * (1.0 + off[2])
    return float(np.mean((supervised > distilled) == wins))


def error_of(law: Law, parameters: Any, tokens: Any) -> float:
    """Relative error of a predicted loss: the fit's, widened by 1 + ln(times beyond its runs), a labelled guess."""
    times = 1.0
    for asked, (low, high) in ((parameters, law.support.parameters), (tokens, law.support.tokens)):
        times = max(times, asked / high, low / asked)
    return (law.spread.relative_error or _SURE_ERROR) * (1.0 + math.log(times))


def _notes(question: Question, law: Law, predicted: bool) -> tuple[str, ...]:
    found = [*law.remarks(question.parameters, question.tokens)]
    if predicted:
        found += [
            f"teacher: {each}" for each in law.support.remarks(question.teacher_parameters, question.teacher_tokens)
        ]
    if question.initialised:
        found.append(
            "the student starts from the teacher's weights, which the law does not know; it needs fewer tokens"
        )
    if question.active_parameters or question.teacher_active_parameters:
        found.append(
            "a mixture of experts counts as a dense model of sqrt(active x all) parameters in losses, a rule of thumb;"
            " its bill follows the active ones"
        )
    if law.spread.relative_error is None:
        found.append(f"the law does not tell its error; {_SURE_ERROR:.0%} is a guess")
    if any("lie" in each for each in found):
        found.append("errors beyond the law's runs are widened by 1 + ln(times beyond), a guess")
    return tuple(dict.fromkeys(found))
