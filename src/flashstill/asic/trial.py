"""Designs that were judged: one of a variant and node, and the best of a variant."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

from flashstill.asic.design import ChipDesign
from flashstill.asic.point import Point
from flashstill.asic.question import Question
from flashstill.asic.verdict import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A design of one variant and node at its best point, and the verdict from few draws."""

    point: Point
    verdict: Verdict

    @property
    def design(self) -> ChipDesign:
        """The design."""
        return self.point.decision.design

    @property
    def rank(self) -> tuple[int, float]:
        """Sorts the better first: what pays by its worth, then by break-even, what never does by dollars a token."""
        found = self.verdict
        worth, volume, dollars = (each["p50"] for each in (found.net_usd, found.break_even, found.asic_usd))
        if found.pays:
            return (0, -(worth or 0.0))
        return (1, volume) if volume is not None else (2, inf if dollars is None else dollars)


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantAnswer:
    """The best design of one variant. latency: the same against what is as quick; None if nothing is, or all are.

    nodes: the best design of every node, by name.  infeasible: why others were not, counted.
    """

    question: Question
    best: Trial
    verdict: Verdict
    nodes: dict[str, Trial]
    latency: Trial | None
    infeasible: dict[str, int] = field(default_factory=dict)

    @property
    def variant(self) -> str:
        """Where the weights are."""
        return self.best.design.variant

    @property
    def rank(self) -> tuple[int, float]:
        """As of a trial, by all draws."""
        return Trial(point=self.best.point, verdict=self.verdict).rank


def record_of(one: VariantAnswer) -> dict[str, Any]:
    """A flat row of a variant."""
    found, design = one.verdict, one.best.design
    names = ("break_even", "asic_usd", "alternative_usd", "nre_usd", "net_usd")
    spread = {f"{name}_{end}": value for name in names for end, value in getattr(found, name).items()}
    return {
        "variant": design.variant,
        "node": f"n{design.node_nm}",
        "pays": found.pays,
        "probability": found.probability,
        "dies": design.dies,
        "alternative": one.best.point.decision.alternative.chip,
        **spread,
    }
