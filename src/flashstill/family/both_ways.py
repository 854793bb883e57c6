"""Losses of a student by either way, taught by its teacher or on labels for the same bill, and what teaching gains."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.family.question import Question, label_tokens
from flashstill.family.taught import taught_loss
from flashstill.quality import Law

Values = npt.NDArray[np.float64]


def teacher_loss_of(question: Question, law: Law) -> tuple[float, bool]:
    """(loss of the teacher, whether the law predicts it)."""
    if question.teacher_loss is not None:
        return question.teacher_loss, False
    if question.teacher_ratio is not None:
        return question.teacher_ratio * float(supervised_loss_of(question, law, question.tokens)), False
    return float(law.loss(question.teacher_parameters, question.teacher_tokens)), True


def conditions_of(question: Question) -> dict[str, Any]:
    """What the law is asked under: tokens of the text that are unique, if fewer than are read."""
    return {} if question.unique_tokens is None else {"unique_tokens": question.unique_tokens}


def distilled_loss_of(question: Question, law: Law, tokens: Any, teacher_loss: Any) -> Values:
    """Loss after so many tokens from a teacher of this loss, nats per token; quantities broadcast."""
    return taught_loss(law, question.parameters, tokens, teacher_loss, **conditions_of(question))


def supervised_loss_of(question: Question, law: Law, tokens: Any) -> Values:
    """Loss on labels for the bill of so many distilled tokens, nats per token."""
    return law.loss(question.parameters, label_tokens(question, tokens), **conditions_of(question))


def gain_of(question: Question, law: Law, tokens: Any, teacher_loss: Any) -> Values:
    """What teaching gains over labels for the same bill, nats per token; below 0 where it loses."""
    return np.asarray(
        supervised_loss_of(question, law, tokens) - distilled_loss_of(question, law, tokens, teacher_loss)
    )
