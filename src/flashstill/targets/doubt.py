"""What the law's interval does to the choice: P10, P50 and P90 of the best size, its tokens and its dollars.

Each draw of the law's coefficients gives every priced candidate the tokens with which it reaches the target (and the
target itself, where that is "as MODEL", and the teacher's loss); dollars of a token stay; the draw's cheapest candidate
is its choice.  Where a law tells only its largest error, the target is shifted by it either way: a span of three cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.quality import Law
from flashstill.targets.answer import Doubt, Quantiles
from flashstill.targets.candidates import Shape, Variant, tokens_of
from flashstill.targets.priced import Priced
from flashstill.targets.question import TargetQuestion
from flashstill.targets.target import TrainedModel

Values = npt.NDArray[np.float64]
DRAWS, SEED = 400, 0
TENTHS = (0.1, 0.5, 0.9)


def doubt(
    question: TargetQuestion, loss: float, teacher: float | None, priced: Sequence[Priced], best: Priced
) -> Doubt | None:
    """Quantiles over the law's errors; None if nothing is known about them."""
    law = question.law
    pairs = [(each.shape, each.variant) for each in priced]
    drawn = law.spread.draws(law.coefficients, DRAWS, SEED)
    if drawn is not None:
        kind = "draws of the law's coefficients"
        tokens = _of_draws(question, law, drawn, loss, teacher, pairs)
    elif law.spread.relative_error is not None:
        kind = "the law's largest error either way, no draws"
        error = law.spread.relative_error
        targets = np.array([[loss / (1 + error)], [loss], [loss / (1 - error)]])
        with np.errstate(all="ignore"):
            tokens = tokens_of(question, law, targets, teacher, pairs)
    else:
        return None
    per_token = np.array([each.usd_per_training_token for each in priced])
    served = np.array([each.serving_usd for each in priced])
    with np.errstate(invalid="ignore", over="ignore"):
        dollars = np.where(np.isfinite(tokens), per_token * tokens + served, np.inf)
    found = np.argmin(dollars, axis=1)
    rows = np.arange(len(dollars))
    reached = np.isfinite(dollars[rows, found])
    if not reached.any():
        return None
    own = next(place for place, each in enumerate(priced) if each is best)
    sizes = np.array([each.shape.model.active_parameters for each in priced], dtype=float)
    ratios = dollars[reached, own] / dollars[rows, found][reached]
    return Doubt(
        kind=kind,
        cases=len(dollars),
        unreached=float(1.0 - reached.mean()),
        active_parameters=quantiles(sizes[found[reached]]),
        training_tokens=quantiles(tokens[rows, found][reached]),
        usd=quantiles(dollars[rows, found][reached]),
        best_tokens=quantiles(tokens[reached, own]),
        best_is_cheapest=float(np.mean(np.isclose(ratios, 1.0))),
        best_over_cheapest_p90=_finite(np.quantile(ratios, 0.9, method="higher")),
    )


def _of_draws(
    question: TargetQuestion,
    law: Law,
    drawn: dict[str, Any],
    loss: float,
    teacher: float | None,
    pairs: list[tuple[Shape, Variant]],
) -> Values:
    """Tokens [draws, pairs]."""
    columns = {name: np.reshape(values, (-1, 1)) for name, values in drawn.items() if name in law.coefficients}
    many: Law = replace(law, coefficients=columns)  # type: ignore[arg-type]  # draws that broadcast
    rows = max(np.size(values) for values in columns.values())
    target, taught = question.target, question.teacher
    targets: Any = np.full((rows, 1), loss)
    teachers: Any = teacher
    if isinstance(target, TrainedModel):
        targets = np.broadcast_to(target.loss(many, target.tokens_under(law)), (rows, 1))
    if taught is not None and question.teacher_loss is None and law.support.teacher_loss is None:
        teachers = np.broadcast_to(taught.loss(many, taught.tokens_under(law)), (rows, 1))
    with np.errstate(all="ignore"):
        return tokens_of(question, many, targets, teachers, pairs)


def quantiles(values: Values) -> Quantiles:
    """P10, P50 and P90 that are values of the list; null where infinite."""
    low, middle, high = (_finite(value) for value in np.quantile(values, TENTHS, method="inverted_cdf"))
    return Quantiles(p10=low, p50=middle, p90=high)


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
