"""Where one decode step's seconds and joules go, for one deployment.

The step is the one inside `predict` and `plan`: `batch` sequences of the whole deployment, each with `context` tokens
cached, get one token each.  What `predict` says of serving holds such steps, at isl + osl/2 tokens, and the prefills
between them; its decode_... figures are those of the step alone, and equal to these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flashstill.cost import LEVELS, StepCost
from flashstill.cost.footprint import layout_room_bytes, most_sequences, token_bytes
from flashstill.cost.phases import batch_step
from flashstill.economics import RENTED, HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A decode step, its lower bound, and its price."""

    deployment: Deployment
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
        made, cost = self.deployment, self.cost
        way = {part: joules * 1e12 for part, joules in made.tier.joules_per_byte.items()}
        formats = made.conditions.precisions
        return {
            "model": made.model.name,
            "parameters": made.model.parameters,
            "chip": made.chip.name,
            "chips": made.chips,
            "layout": made.degrees._asdict(),
            "engine": made.conditions.software.name,
            "batch": self.batch,
            "context": self.context,
            "precision": made.precision,
            "runs_in": made.runs_in,
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
            "usd_per_million_tokens": usd_per_million_tokens(
                self.price, float(cost.seconds), float(made.chips), float(self.batch)
            ),
            "usd_per_chip_hour": self.price.usd_per_hour,
            "price_basis": self.price.basis,
            "bound": cost.bound,
            "note": "; ".join(made.notes),
            "formats": {"linear": formats.linear, "experts": formats.experts, "cache": formats.kv},
            "kv_in": made.conditions.cache.name,
            "kv_bytes_per_token": token_bytes(made.model, formats.widths),
            "cache_room_bytes": float(layout_room_bytes(made.model, made.conditions, made.layout)),
            "sequences_fit": float(most_sequences(made.model, made.conditions, made.layout, max(self.context, 1.0))),
        }


def explain(facts: Facts, deployment: Deployment, batch: int, context: int, price: str = RENTED) -> Explanation:
    """Price one decode step of `batch` sequences with `context` cached tokens each."""
    made = deployment
    pue = facts.value("facility", "pue_ratio")
    cost = batch_step(made.model, made.conditions, made.layout, float(batch), float(context), pue=pue)
    perfect = batch_step(made.model, made.conditions.perfect, made.layout, float(batch), float(context))
    return Explanation(
        deployment=made,
        batch=batch,
        context=context,
        cost=cost,
        perfect_seconds=float(perfect.seconds),
        price=hourly_price(facts, made.chip.name, price),
    )
