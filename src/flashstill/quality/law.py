"""A scaling law as a value: loss from parameters and tokens, its inverses, its interval, and what it rests on.

    law = published("busbridge-2025")
    law.loss(1e9, [2e10, 1e11], teacher_loss=2.0)      arrays broadcast; nats per token of the law's own corpus
    law.predict(1e9, 2e10, teacher_loss=2.0)           with interval, source and remarks

Losses of laws with different corpora or tokenisers are on different scales: scales.py refuses to compare them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flashstill.errors import BadInput, check_counts, unknown
from flashstill.quality import borrowed
from flashstill.quality.amounts import Values, check_level, positive
from flashstill.quality.forms import FORMS
from flashstill.quality.held_out import HeldOut
from flashstill.quality.prediction import Prediction
from flashstill.quality.spread import Spread
from flashstill.quality.support import Support
from flashstill.units import short_count

Placed = Callable[[Values], tuple[Values, Values]]
"""an amount that is searched for -> (parameters, tokens)"""
MOST = 1e24
"""parameters or tokens, the end of every search"""
_HALVINGS = 64
_AT_ONCE = 1000
"""points of which all draws are held at once"""
UNVERIFIED, FITTED = "unverified", "fitted"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Law:
    """One law. form: the formula (forms.FORMS).  kind: published, unverified (recollected coefficients) or fitted.

    corpus, tokeniser: whose nats these are.  counted: which parameters N counts.
    limit: times beyond its largest run at which a question is refused; infinite for published laws, which only remark.
    held_out: of a fit, each run as the others foretell it.
    """

    name: str
    title: str
    form: str
    coefficients: Mapping[str, float]
    kind: str
    source: str
    corpus: str
    tokeniser: str
    counted: str
    support: Support
    spread: Spread = field(default_factory=Spread)
    unit: str = "nats per token"
    notes: tuple[str, ...] = ()
    limit: float = math.inf
    held_out: tuple[HeldOut, ...] = ()

    @property
    def scale(self) -> str:
        """What its losses are measured in: two losses compare only on one scale."""
        return f"{self.unit} of {self.tokeniser} on {self.corpus}"

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names that `loss` takes beside parameters and tokens."""
        return tuple(dict.fromkeys((*FORMS[self.form][1], *borrowed.BORROWED, *self._of_the_fit)))

    @property
    def _of_the_fit(self) -> tuple[str, ...]:
        return ("teacher_loss",) if self.support.teacher_loss is not None else ()

    def loss(self, parameters: Any, tokens: Any, **conditions: Any) -> Values:
        """Loss of models of these sizes after these tokens; all of it broadcasts. None is no condition.

        teacher_loss: distilled from a teacher of this loss (on the law's scale).  experts: of a mixture, parameters
        then being active ones.  weight_bits, activation_bits, cache_bits: formats of training.  unique_tokens: of which
        the tokens are repetitions.  quantised_to_bits: afterwards.  Raises BadInput for a condition that the law does
        not know, an amount that is not positive, and a question beyond `limit`.
        """
        size, data, given = self._checked(parameters, tokens, conditions)
        self._refuse_far(size, data)
        return self._loss(self.coefficients, size, data, given)[()]

    def interval(
        self, parameters: Any, tokens: Any, *, level: float = 0.8, draws: int = 2000, seed: int = 0, **conditions: Any
    ) -> tuple[Values, Values] | None:
        """(low, high) that hold the loss with probability `level`; None if nothing is known about the law's errors."""
        check_level(level)
        check_counts({"draws": draws})
        size, data, given = self._checked(parameters, tokens, conditions)
        self._refuse_far(size, data)
        drawn, error = self.spread.draws(self.coefficients, draws, seed), self.spread.relative_error
        if drawn is None:
            loss = self._loss(self.coefficients, size, data, given)
            return None if error is None else ((loss * (1 - error))[()], (loss * (1 + error))[()])
        columns = {name: values[:, None] for name, values in drawn.items()}
        whole = np.broadcast_arrays(size, data, *given.values())
        points = [np.ravel(amounts) for amounts in whole]
        around = np.empty((2, points[0].size))
        for start in range(0, points[0].size, _AT_ONCE):
            at, on, *rest = (amounts[start : start + _AT_ONCE] for amounts in points)
            losses = self._loss(columns, at, on, dict(zip(given, rest, strict=True))) * columns.get("noise", 1.0)
            around[:, start : start + _AT_ONCE] = np.quantile(losses, [(1 - level) / 2, (1 + level) / 2], axis=0)
        low, high = around.reshape(2, *whole[0].shape)
        return low[()], high[()]

    def predict(self, parameters: Any, tokens: Any, *, level: float = 0.8, **conditions: Any) -> Prediction:
        """Loss with its interval, scale, source, and remarks on everything that makes it less sure."""
        given = {name: value for name, value in conditions.items() if value is not None}
        loss = self.loss(parameters, tokens, **given)
        around = self.interval(parameters, tokens, level=level, **given)
        return Prediction(
            law=self.name,
            parameters=parameters,
            tokens=tokens,
            conditions=given,
            loss=loss,
            low=None if around is None else around[0],
            high=None if around is None else around[1],
            level=level,
            scale=self.scale,
            kind=self.kind,
            source=self.source,
            notes=self.remarks(parameters, tokens, **given),
        )

    def tokens_for(self, loss: Any, parameters: Any, **conditions: Any) -> Values:
        """Fewest training tokens with which models of these sizes reach `loss`; infinite where none do."""
        size, target, given = self._checked(parameters, loss, conditions, ("parameters", "loss"))
        found = self._least(target, given, lambda amount: (size, amount), np.broadcast_shapes(size.shape, target.shape))
        self._refuse_far(size, found[np.isfinite(found)])
        return found[()]

    def parameters_for(self, loss: Any, tokens: Any, **conditions: Any) -> Values:
        """Fewest parameters with which these training tokens reach `loss`; infinite where none do."""
        data, target, given = self._checked(tokens, loss, conditions, ("tokens", "loss"))
        found = self._least(target, given, lambda amount: (amount, data), np.broadcast_shapes(data.shape, target.shape))
        self._refuse_far(found[np.isfinite(found)], data)
        return found[()]

    def remarks(self, parameters: Any, tokens: Any, **conditions: Any) -> tuple[str, ...]:
        """What makes an answer less sure: unverified coefficients, distance from the fit, borrowed assumptions."""
        size, data, given = self._checked(parameters, tokens, conditions)
        said = [f"coefficients of {self.name} are unverified (recollected)"] if self.kind == UNVERIFIED else []
        said += self.support.remarks(size, data, given.get("experts"))
        said += borrowed.remarks(self._foreign(given))
        return (*said, *self.spread.remarks(), *self.notes)

    def as_dict(self) -> dict[str, Any]:
        """What the law is and rests on, as plain values."""
        return {
            "name": self.name,
            "title": self.title,
            "form": self.form,
            "coefficients": dict(self.coefficients),
            "kind": self.kind,
            "source": self.source,
            "scale": self.scale,
            "counted": self.counted,
            "parameters_seen": list(self.support.parameters),
            "tokens_seen": list(self.support.tokens),
            "held_out": [row.as_dict() for row in self.held_out],
            "notes": list(self.notes),
        }

    def extrapolating(self) -> Law:
        """The same law, which remarks on questions far beyond its runs and refuses none."""
        return replace(self, limit=math.inf)

    def _loss(self, c: Mapping[str, Any], parameters: Values, tokens: Values, given: Mapping[str, Values]) -> Values:
        formula, own = FORMS[self.form]
        size, data = borrowed.adjusted(parameters, tokens, self._foreign(given))
        return formula(c, size, data, **{name: value for name, value in given.items() if name in own})

    def _foreign(self, given: Mapping[str, Values]) -> dict[str, Values]:
        own = FORMS[self.form][1]
        return {name: value for name, value in given.items() if name in borrowed.BORROWED and name not in own}

    def _checked(
        self, first: Any, second: Any, conditions: Mapping[str, Any], names: tuple[str, str] = ("parameters", "tokens")
    ) -> tuple[Values, Values, dict[str, Values]]:
        given = {name: value for name, value in conditions.items() if value is not None}
        for name in given:
            if name not in self.conditions:
                hint = "; busbridge-2025 takes it" if name == "teacher_loss" else ""
                raise BadInput(f"{unknown(f'condition of the law {self.name}', name, self.conditions)}{hint}")
        amounts = {name: positive(name, value) for name, value in given.items()}
        found = {names[0]: positive(names[0], first), names[1]: positive(names[1], second), **amounts}
        try:
            np.broadcast_shapes(*(array.shape for array in found.values()))
        except ValueError:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
            raise BadInput(f"arrays of these shapes do not broadcast: {shapes}") from None
        self._check_teacher(amounts)
        if np.any(amounts.get("experts", np.asarray(1.0)) < 1):
            raise BadInput(f"experts must be at least 1, not {given['experts']!r}")
        return found[names[0]], found[names[1]], amounts

    def _check_teacher(self, given: dict[str, Values]) -> None:
        """A teacher's loss is on the law's scale, and that of a fit's only teacher."""
        known, least = self.support.teacher_loss, self.coefficients.get("E", 0.0)
        if self.form == "distilled" and np.any(given.get("teacher_loss", np.asarray(np.inf)) <= least):
            raise BadInput(
                f"no teacher has a loss of {float(np.min(given['teacher_loss'])):.4g} under {self.name}, where no model"
                f" falls below {least:.4g}; it must be in {self.scale}"
            )
        if known is not None and "teacher_loss" in given and not np.allclose(given["teacher_loss"], known, rtol=1e-3):
            raise BadInput(
                f"the law {self.name} was fitted on students of one teacher, of loss {known:.4g}; another teacher needs"
                " runs of its own"
            )

    def _refuse_far(self, parameters: Values, tokens: Values) -> None:
        if math.isinf(self.limit) or not (np.size(parameters) and np.size(tokens)):
            return
        times = self.support.times_beyond(parameters, tokens)
        if times > self.limit:
            raise BadInput(
                f"the question lies {times:.3g} times beyond the largest run that {self.name} was fitted on"
                f" ({short_count(self.support.parameters[1])} parameters,"
                f" {short_count(self.support.tokens[1])} tokens); beyond {self.limit:g} times a fit"
                " extrapolates only if it is told to"
            )

    def _least(self, target: Values, given: Mapping[str, Values], at: Placed, shape: tuple[int, ...]) -> Values:
        """Bisection of the amount in log space; losses never rise with parameters or tokens."""
        whole = np.broadcast_shapes(shape, *(value.shape for value in given.values()))
        low, high = np.zeros(whole), np.full(whole, math.log(MOST))
        reachable = self._loss(self.coefficients, *at(np.exp(high)), given=given) <= target
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            enough = self._loss(self.coefficients, *at(np.exp(middle)), given=given) <= target
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(reachable, np.exp(high), np.inf)
