"""A candidate with its dollars."""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.plan.space import Configuration
from flashstill.targets.candidates import Shape, Variant
from flashstill.targets.costs import Training
from flashstill.targets.target import mixture


@dataclass(frozen=True, kw_only=True, slots=True)
class Priced:
    """A candidate with its dollars. training: of a run at least as long; days: of its own."""

    shape: Shape
    variant: Variant
    tokens: float
    training: Training
    training_usd_per_token: float
    reading_usd_per_token: float
    point: Configuration
    serving_usd: float
    days: float

    @property
    def usd_per_training_token(self) -> float:
        """Dollars of a training token, the teacher's reading of it included."""
        return self.training_usd_per_token + self.reading_usd_per_token

    @property
    def training_usd(self) -> float:
        """Dollars of its training."""
        return self.training_usd_per_token * self.tokens

    @property
    def reading_usd(self) -> float:
        """Dollars of the teacher's reading."""
        return self.reading_usd_per_token * self.tokens

    @property
    def usd(self) -> float:
        """Dollars of its life."""
        return self.usd_per_training_token * self.tokens + self.serving_usd

    @property
    def expansion(self) -> float:
        """FFN weights over those of one token."""
        return mixture(self.shape.model).get("experts", 1.0)
