"""The model that reaches a loss at the least cost over its life: training, serving, and a teacher's share.

    cost(N, D) = 6 N D k_train + 2 N (D_in k_in + D_out k_out) + 2 N_T D k_teacher + fixed       Sardana et al. 2024
    min over N of cost(N, D(N)),  D(N) = the fewest tokens with which N parameters reach the loss

k: cost of one FLOP: 1 to count FLOPs, or dollars (`usd_per_flop`).  At the optimum the elasticities of the loss obey

    eps_N / eps_D = (6 N D k_train + 2 N D_inf k_inf) / (6 N D k_train + 2 N_T D k_teacher)

which is 1 + D_inf / (3 D) without a teacher where all FLOPs cost the same.  Solved numerically for any law, all
arguments broadcast; `fixed`, as the training of the teacher, moves no optimum and is a part of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.quality.amounts import positive
from flashstill.quality.law import MOST, Law
from flashstill.units import SECONDS_PER_HOUR

Values = npt.NDArray[np.float64]
TRAIN, FORWARD = 6.0, 2.0
"""FLOPs for each parameter and token, without attention over the context"""
BELOW = "the target is below the least loss of the law"
"""why no model reaches a loss"""
_POINTS, _ROUNDS = 64, 7
_STEP = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Life:
    """What a model does over its life, and what a FLOP of each part costs. Fields may be arrays.

    teacher_parameters: of a teacher that reads every training token; 0 without one, or where its signals exist.
    """

    input_tokens: Any = 0.0
    output_tokens: Any = 0.0
    teacher_parameters: Any = 0.0
    fixed: Any = 0.0
    training_per_flop: Any = 1.0
    input_per_flop: Any = 1.0
    output_per_flop: Any = 1.0
    teacher_per_flop: Any = 1.0

    def __post_init__(self) -> None:
        """Amounts become arrays; BadInput for one that is negative or no number."""
        for name in Life.__dataclass_fields__:
            given = getattr(self, name)
            try:
                amounts = np.asarray(given, dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise BadInput(f"{name} must be a number or numbers, not {given!r}") from error
            if not np.all(np.isfinite(amounts) & (amounts >= 0)):
                raise BadInput(f"{name} must be at least 0, not {given!r}")
            object.__setattr__(self, name, amounts[()])

    def training(self, parameters: Any, tokens: Any) -> Any:
        """Cost of training the model."""
        return TRAIN * parameters * tokens * self.training_per_flop

    def serving(self, parameters: Any) -> Any:
        """Cost of serving it."""
        tokens = self.input_tokens * self.input_per_flop + self.output_tokens * self.output_per_flop
        return FORWARD * parameters * tokens

    def teaching(self, tokens: Any) -> Any:
        """Cost of the teacher's reading the training tokens, and what is fixed."""
        return FORWARD * self.teacher_parameters * tokens * self.teacher_per_flop + self.fixed

    def cost(self, parameters: Any, tokens: Any) -> Any:
        """All of it."""
        return self.training(parameters, tokens) + self.serving(parameters) + self.teaching(tokens)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Optimum:
    """Parameters and training tokens of the cheapest model; costs in the unit of the prices of a FLOP."""

    parameters: Any
    tokens: Any
    cost: Any
    training: Any
    serving: Any
    teaching: Any


def usd_per_flop(usd_per_hour: float, flops_per_s: float, mfu: float) -> float:
    """Dollars of one useful FLOP on a chip of this price and peak, at this share of the peak."""
    for name, value in (("usd_per_hour", usd_per_hour), ("flops_per_s", flops_per_s), ("mfu", mfu)):
        positive(name, value)
    if mfu > 1:
        raise BadInput(f"mfu must be a share of the peak, at most 1, not {mfu:g}")
    return usd_per_hour / SECONDS_PER_HOUR / (flops_per_s * mfu)


def cheapest(law: Law, loss: Any, life: Life | None = None, **conditions: Any) -> Optimum:
    """The cheapest model over its life that reaches `loss`. conditions: as of `Law.loss`.

    Raises InfeasiblePlan if no model of the law reaches the loss, and BadInput if the optimum lies beyond the law's
    limit.
    """
    uses = Life() if life is None else life
    free = law.extrapolating()
    target = positive("loss", loss)
    least = free.parameters_for(target, MOST, **conditions)
    if not np.all(np.isfinite(least)):
        raise InfeasiblePlan(
            f"no model reaches a loss of {float(np.min(target)):.4g} under {law.name}: with any size and tokens it"
            f" stays above {float(np.max(free.loss(MOST, MOST, **conditions))):.4g}",
            {BELOW: 1},
        )
    shape = np.broadcast_shapes(*(np.shape(value) for value in (least, *_amounts(uses))))
    low, high = np.broadcast_to(np.log(least), shape) + 0.0, np.full(shape, np.log(MOST))

    def cost_at(log_size: Values) -> Values:
        size = np.exp(log_size)
        with np.errstate(over="ignore"):
            return np.asarray(uses.cost(size, free.tokens_for(target, size, **conditions)))

    best = _minimum(cost_at, low, high)
    size = np.exp(best)
    tokens = free.tokens_for(target, size, **conditions)
    law.loss(size, tokens, **conditions)  # refuses an optimum beyond the law's limit
    return _optimum(uses, size, tokens)


def compute_optimal(law: Law, flops: Any, **conditions: Any) -> Optimum:
    """The model with the lowest loss whose training takes 6 N D = `flops`."""
    budget = positive("flops", flops) / TRAIN
    free = law.extrapolating()
    shape = np.broadcast_shapes(budget.shape, *(np.shape(value) for value in conditions.values() if value is not None))
    low, high = np.zeros(shape), np.broadcast_to(np.log(budget), shape) + 0.0
    best = _minimum(lambda log: np.asarray(free.loss(np.exp(log), budget / np.exp(log), **conditions)), low, high)
    size = np.exp(best)
    law.loss(size, budget / size, **conditions)
    return _optimum(Life(), size, budget / size)


def elasticities(law: Law, parameters: Any, tokens: Any, **conditions: Any) -> tuple[Values, Values]:
    """(-d ln L / d ln N, -d ln L / d ln D), by central differences."""
    size, data = positive("parameters", parameters), positive("tokens", tokens)
    up, down = np.exp(_STEP), np.exp(-_STEP)
    free = law.extrapolating()

    def slope(above: tuple[Values, Values], below: tuple[Values, Values]) -> Values:
        change = np.log(free.loss(*above, **conditions)) - np.log(free.loss(*below, **conditions))
        return np.asarray(-change / (2 * _STEP))[()]

    return slope((size * up, data), (size * down, data)), slope((size, data * up), (size, data * down))


def _amounts(uses: Life) -> list[Any]:
    return [getattr(uses, name) for name in Life.__dataclass_fields__]


def _optimum(uses: Life, size: Values, tokens: Values) -> Optimum:
    return Optimum(
        parameters=size[()],
        tokens=np.asarray(tokens)[()],
        cost=np.asarray(uses.cost(size, tokens))[()],
        training=np.asarray(uses.training(size, tokens))[()],
        serving=np.asarray(uses.serving(size))[()],
        teaching=np.asarray(uses.teaching(tokens))[()],
    )


def _minimum(cost_at: Any, low: Values, high: Values) -> Values:
    """Place of the minimum in [low, high]: a grid, refined around its best point; it need not be the only dip."""
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _POINTS)
        best = np.argmin(cost_at(grid), axis=0)[None]
        low = np.take_along_axis(grid, np.maximum(best - 1, 0), axis=0)[0]
        high = np.take_along_axis(grid, np.minimum(best + 1, _POINTS - 1), axis=0)[0]
    return (low + high) / 2
