"""Where one decode step's seconds and joules go, for one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flashstill.cost import LEVELS, StepCost, step_cost
from flashstill.economics import HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.facts import Facts
from flashstill.plan.configuration import Configuration
from flashstill.workload import decode


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A decode step, its lower bound, and its price."""

    configuration: Configuration
    batch: int
    context: int
    cost: StepCost
    perfect_seconds: float
    price: HourlyPrice

    @property
    def joules_per_token(self) -> dict[str, float]:
        """By level, with `total`; chips only."""
        levels = {level: float(self.cost.joules[level]) / self.batch for level in LEVELS}
        return {**levels, "total": sum(levels.values())}

    def as_json(self) -> dict[str, Any]:
        """The document that `explain --json` prints. Seconds, joules, picojoules, dollars."""
        made, cost = self.configuration, self.cost
        way = {part: joules * 1e12 for part, joules in made.tier.joules_per_byte.items()}
        return {
            "model": made.model.name,
            "parameters": made.model.parameters,
            "chip": made.chip.name,
            "chips": made.chips,
            "batch": self.batch,
            "context": self.context,
            "precision": made.precision,
            "runs_in": made.chip.precision(made.precision),
            "memory": made.tier.name,
            "seconds": float(cost.seconds),
            "seconds_perfect": self.perfect_seconds,
            "seconds_by": {name: float(share) for name, share in cost.shares_s.items()},
            "tokens_per_s": self.batch / float(cost.seconds),
            "joules_per_token": self.joules_per_token,
            "wall_joules_per_token": float(cost.wall_joules) / self.batch,
            "pj_per_mac": {name: float(value) for name, value in cost.pj_per_mac.items()},
            "pj_per_byte": {**way, "total": sum(way.values())},
            "macs_per_token": float(cost.macs) / self.batch,
            "watts_per_chip": float(cost.watts_per_chip),
            "usd_per_million_tokens": float(
                usd_per_million_tokens(self.price, cost.seconds, made.chips, float(self.batch))
            ),
            "usd_per_chip_hour": self.price.usd_per_hour,
            "price_basis": self.price.basis,
            "bound": cost.bound,
        }


def explain(facts: Facts, configuration: Configuration, batch: int, context: int) -> Explanation:
    """Price one decode step of `batch` sequences with `context` cached tokens each."""
    made = configuration
    operations = decode(made.model, float(batch), float(context), made.widths)
    pue = facts.value("facility", "pue_ratio")
    cost = step_cost(made.chip, operations, made.chips, made.precision, made.tier, pue=pue)
    perfect = step_cost(made.chip, operations, made.chips, made.precision, made.tier, perfect=True)
    return Explanation(
        configuration=made,
        batch=batch,
        context=context,
        cost=cost,
        perfect_seconds=float(perfect.seconds),
        price=hourly_price(facts, made.chip.name),
    )
