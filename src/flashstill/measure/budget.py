"""Picks the largest student within a budget, by predictions from a few measurements.

Seconds of a training step and of a decoded token, and bytes kept for the backward pass, are linear in the weights that
a token is multiplied by (`Candidate.multiplied`): every block adds, the head and the overhead of a step are constant.

    t(x) = a + b x        least squares over the sizes that were measured, with a, b >= 0

    training bytes = base + (2 + 2 + 4 + 8) P + activations(x)
                     P parameters: weights and gradients in 16 bits, a copy of the weights and two Adam moments in 32
                     (distill/training/mixed_precision.py); fp32 arithmetic needs the same 16 bytes, 4 + 4 + 8
                     base: the process with its teacher, buffers of the head, signals that are memory-mapped
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flashstill.errors import InfeasiblePlan
from flashstill.measure.candidates import Candidate

STATE_BYTES = 2 + 2 + 4 + 8
"""bytes per parameter during training"""
UNBOUNDED = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """at_zero + per_unit x"""

    at_zero: float
    per_unit: float

    def __call__(self, x: float) -> float:
        return self.at_zero + self.per_unit * x


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Measurements: lines over `multiplied`; seconds of a token's signals; bytes that do not depend on the student."""

    step_s: Line
    decode_s: Line
    kept_bytes: Line
    signal_s: float
    held_bytes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Amount of training, and the number format in which the student is served. validation: its share of the time."""

    steps: int
    tokens_per_step: int
    signal_tokens: int
    quantise: str = ""
    group: int = 64
    validation: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Upper limits: seconds of signals and training, bytes served, seconds a decoded token, bytes while training."""

    seconds: float = UNBOUNDED
    weight_bytes: float = UNBOUNDED
    decode_s: float = UNBOUNDED
    training_bytes: float = UNBOUNDED


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Predictions for a candidate, and the limits that it exceeds."""

    candidate: Candidate
    tokens_per_s: float
    signals_s: float
    training_s: float
    decode_s: float
    weight_bytes: float
    training_bytes: float
    reasons: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the candidate is within every limit."""
        return not self.reasons


def fit_line(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Least squares with neither a negative slope nor a negative intercept; through the origin for a single size."""
    pairs, mean_x, mean_y = list(zip(xs, ys, strict=True)), sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    if not spread:
        return Line(at_zero=0.0, per_unit=mean_y / mean_x)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in pairs) / spread
    if slope <= 0.0:
        return Line(at_zero=mean_y, per_unit=0.0)
    start = mean_y - slope * mean_x
    if start < 0.0:
        return Line(at_zero=0.0, per_unit=sum(x * y for x, y in pairs) / sum(x * x for x in xs))
    return Line(at_zero=start, per_unit=slope)


def forecast(candidate: Candidate, speed: Speed, work: Training, bounds: Bounds) -> Forecast:
    """Predict time and memory of training and serving a candidate."""
    x = candidate.multiplied
    step_s, decode_s = speed.step_s(x), speed.decode_s(x)
    signals_s, training_s = work.signal_tokens * speed.signal_s, work.steps * step_s / (1.0 - work.validation)
    weight_bytes = candidate.weight_bytes(work.quantise, work.group)
    training_bytes = speed.held_bytes + STATE_BYTES * candidate.parameters + speed.kept_bytes(x)
    over = {
        "signals and training take longer": signals_s + training_s > bounds.seconds,
        "the weights take more memory": weight_bytes > bounds.weight_bytes,
        "a token takes longer": decode_s > bounds.decode_s,
        "training needs more memory than this machine has": training_bytes > bounds.training_bytes,
    }
    return Forecast(
        candidate=candidate,
        tokens_per_s=work.tokens_per_step / step_s,
        signals_s=signals_s,
        training_s=training_s,
        decode_s=decode_s,
        weight_bytes=weight_bytes,
        training_bytes=training_bytes,
        reasons=tuple(reason for reason, is_over in over.items() if is_over),
    )


def pick(forecasts: Sequence[Forecast]) -> Forecast:
    """The largest student that fits; InfeasiblePlan with counts of the reasons if none does."""
    fitting = [candidate for candidate in forecasts if candidate.fits]
    if not fitting:
        reasons = Counter(reason for candidate in forecasts for reason in candidate.reasons)
        count = f"none of {len(forecasts)} students fits" if len(forecasts) > 1 else "the student does not fit"
        raise InfeasiblePlan(f"{count} the budget", dict(reasons))
    return max(fitting, key=lambda fit: fit.candidate.parameters)
