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
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flashstill.economics.sensitivity import check_draws
from flashstill.family.both_ways import (
    distilled_loss_of,
    gain_of,
    supervised_loss_of,
    teacher_loss_of,
)
from flashstill.family.question import Question, bill, check_question, label_tokens, overhead
from flashstill.family.turning_points import (
    best_teacher_loss_of,
    nearest_flip,
    ranges_of,
    students_needed_of,
    teacher_size_of,
)
from flashstill.quality import Law
from flashstill.tables import Displayed, Table, cell, flat

_LEAST, _MOST, _POINTS = 1e6, 1e18, 400
_SURE_ERROR = 0.01
"""relative error of a law that does not tell its own, as a labelled guess"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Worth(Displayed):
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

    def _table(self) -> Table:
        names = ("gain_nats", "distilled_loss", "supervised_loss", "flips_at_tokens", "best_teacher_loss", "teacher_is")
        return Table(("", ""), [(name, cell(getattr(self, name))) for name in names], self.answer)


def should_distil(question: Question, law: Law, draws: int = 2000, seed: int = 0) -> Worth:
    """The answer by the law. Raises BadInput for numbers that cannot be, or a teacher of which too little is told."""
    check_question(question)
    check_draws(draws, seed)
    teacher_loss, predicted = teacher_loss_of(question, law)
    gain = float(gain_of(question, law, question.tokens, teacher_loss))
    tokens = np.geomspace(_LEAST, _MOST, _POINTS)
    gains = np.asarray(gain_of(question, law, tokens, teacher_loss))
    flips = nearest_flip(question, law, tokens, gains, teacher_loss)
    best = best_teacher_loss_of(question, law)
    size = teacher_size_of(law, best)
    wins = gain > 0.0
    return Worth(
        question=question,
        distil=wins,
        sure=_sure(question, law, teacher_loss, predicted, wins, draws, seed),
        gain_nats=gain,
        distilled_loss=float(distilled_loss_of(question, law, question.tokens, teacher_loss)),
        supervised_loss=float(supervised_loss_of(question, law, question.tokens)),
        supervised_tokens=float(label_tokens(question, question.tokens)),
        teacher_loss=teacher_loss,
        overhead=overhead(question),
        flops=float(bill(question, question.tokens)),
        flips_at_tokens=flips,
        flips_at_flops=None if flips is None else float(bill(question, flips)),
        wins=ranges_of(tokens, gains > 0.0),
        best_teacher_loss=best,
        best_teacher_parameters=size,
        teacher_is=_fit_of(teacher_loss, best, law),
        students_needed=students_needed_of(question, law, teacher_loss),
        law=law.name,
        notes=_notes(question, law, predicted),
    )


def _fit_of(teacher_loss: float, best: float, law: Law) -> str:
    error = law.spread.relative_error or _SURE_ERROR
    if teacher_loss < best * (1.0 - error):
        return "too strong"
    return "too weak" if teacher_loss > best * (1.0 + error) else "right"


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
    distilled = distilled_loss_of(question, law, tokens, teacher) * (1.0 + off[1])
    supervised = supervised_loss_of(question, law, tokens) * (1.0 + off[2])
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
