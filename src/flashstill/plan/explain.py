"""Where one decode step's seconds and joules go, for one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flashstill.cost import LEVELS, StepCost
from flashstill.cost.passes import decode_step
from flashstill.economics import HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.facts import Facts
from flashstill.plan.configuration import Configuration


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A decode step, its lower bound, and its price. running: sequences in flight, at least one a pipeline stage."""

    configuration: Configuration
    batch: int
    running: float
    context: int
    cost: StepCost
    perfect_seconds: float
    price: HourlyPrice

    @property
    def joules_per_token(self) -> dict[str, float]:
        """By level, with `total`; chips only."""
        levels = {level: float(self.cost.joules[level]) / self.running for level in LEVELS}
        return {**levels, "total": sum(levels.values())}

    def as_json(self) -> dict[str, Any]:
        """The document that `explain --json` prints. Seconds, joules, picojoules, dollars."""
        made, cost = self.configuration, self.cost
        way = {part: joules * 1e12 for part, joules in made.tier.joules_per_byte.items()}
        layout = made.layout
        return {
            "model": made.model.name,
            "parameters": made.model.parameters,
            "chip": made.chip.name,
            "chips": made.chips,
            "layout": {"tp": int(layout.tp), "pp": int(layout.pp), "ep": int(layout.ep), "dp": int(layout.dp)},
            "engine": made.setting.software.name,
            "batch": self.batch,
            "context": self.context,
            "precision": made.precision,
            "runs_in": made.runs_in,
            "memory": made.tier.name,
            "seconds": float(cost.seconds),
            "seconds_perfect": self.perfect_seconds,
            "seconds_by": {name: float(share) for name, share in cost.shares_s.items()},
            "tokens_per_s": self.running / float(cost.seconds),
            "joules_per_token": self.joules_per_token,
            "wall_joules_per_token": float(cost.wall_joules) / self.running,
            "pj_per_mac": {name: float(value) for name, value in cost.pj_per_mac.items()},
            "pj_per_byte": {**way, "total": sum(way.values())},
            "macs_per_token": float(cost.macs) / self.running,
            "watts_per_chip": float(cost.watts_per_chip),
            "usd_per_million_tokens": float(usd_per_million_tokens(self.price, cost.seconds, made.chips, self.running)),
            "usd_per_chip_hour": self.price.usd_per_hour,
            "price_basis": self.price.basis,
            "bound": cost.bound,
            "note": made.model.note,
        }


def explain(facts: Facts, configuration: Configuration, batch: int, context: int) -> Explanation:
    """Price one decode step of `batch` sequences with `context` cached tokens each."""
    made = configuration
    local = made.layout.local_batch(float(batch))
    pue = facts.value("facility", "pue_ratio")
    cost = decode_step(made.model, made.setting, made.layout, local, float(context), pue=pue)
    perfect = decode_step(made.model, made.setting.perfect, made.layout, local, float(context))
    return Explanation(
        configuration=made,
        batch=batch,
        running=float(local * made.layout.pp * made.layout.dp),
        context=context,
        cost=cost,
        perfect_seconds=float(perfect.seconds),
        price=hourly_price(facts, made.chip.name),
    )
