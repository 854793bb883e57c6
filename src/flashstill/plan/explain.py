"""Breakdown of one decode step's seconds and joules, for one deployment.

The step is the one used by `predict` and `plan`: `batch` sequences on the whole deployment, each with `context` cached
tokens, get one token each.  `predict` combines such steps, at isl + osl/2 tokens, with prefills; its decode_... figures
are those of a single step and equal the figures here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flashstill.cost import LEVELS, StepCost
from flashstill.cost.footprint import layout_room_bytes, most_sequences, token_bytes
from flashstill.cost.phases import batch_step
from flashstill.economics import RENTED, HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.errors import BadInput, joined_notes
from flashstill.facts import Facts
from flashstill.plan.crossover import knees
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.room import check_room
from flashstill.plan.scenario import Scenario
from flashstill.tables import Displayed, Table, cell, flat

DECODE_POOL_ALONE = "a decode step of the decode pool alone; the prefill pool takes no part in it, nor in its price"
EXPLAINED = (
    "model", "chip", "chips", "batch", "context", "seconds", "joules_per_token_total", "joules_per_token_weights",
    "usd_per_million_tokens", "bound", "reason",
)  # fmt: skip
"""columns of a sweep of explanations that a notebook displays"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation(Displayed):
    """A decode step, its lower bound in seconds, and its price."""

    resolved: Resolved
    cost: StepCost
    perfect_seconds: float
    price: HourlyPrice

    @property
    def batch(self) -> int:
        """Sequences that get a token in the step."""
        return self.resolved.scenario.batch

    @property
    def context(self) -> int | float:
        """Cached tokens per sequence; the mean over a serving request, which may end in .5."""
        tokens = self.resolved.scenario.mean_tokens
        return int(tokens) if tokens.is_integer() else tokens

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions and deviations from the request."""
        return (*self.resolved.notes, *([DECODE_POOL_ALONE] if self.resolved.prefill else []))

    @property
    def joules_per_token(self) -> dict[str, float]:
        """Joules per token by level, plus `total`; chips only, host and facility excluded."""
        levels = {level: float(self.cost.joules[level]) / self.batch for level in LEVELS}
        return {**levels, "total": float(self.cost.total_joules) / self.batch}

    @property
    def tokens_per_s(self) -> float:
        """Output tokens a second of all sequences together."""
        return self.batch / float(self.cost.seconds)

    @property
    def paid(self) -> HourlyPrice:
        """The price of an hour at the power that the chips draw."""
        return self.price.at(float(self.cost.watts_per_chip))

    @property
    def usd_per_million_tokens(self) -> float | None:
        """Dollars of a million tokens of this step; None if no price of the chip is known."""
        return usd_per_million_tokens(
            self.paid, float(self.cost.seconds), float(self.resolved.chips), float(self.batch)
        )

    def as_dict(self) -> dict[str, Any]:
        """The document that `explain --json` prints. Seconds, joules, picojoules, dollars; and the knees (batches)."""
        return {**self._step(), "knees": knees(self.resolved)}

    def _step(self) -> dict[str, Any]:
        resolved, cost, paid = self.resolved, self.cost, self.paid
        segments = {part: joules * 1e12 for part, joules in resolved.tier.joules_per_byte.items()}
        formats = resolved.conditions.precisions
        return {
            "model": resolved.model.name,
            "parameters": resolved.model.parameters,
            "chip": resolved.chip.name,
            "chips": resolved.chips,
            "layout": resolved.degrees._asdict(),
            "engine": resolved.conditions.software.asked_as,
            "batch": self.batch,
            "context": self.context,
            "precision": resolved.precision,
            "runs_in": resolved.runs_in,
            "memory": resolved.tier.name,
            "seconds": float(cost.seconds),
            "seconds_perfect": self.perfect_seconds,
            "seconds_by": {name: float(share) for name, share in cost.shares_s.items()},
            "tokens_per_s": self.tokens_per_s,
            "joules_per_token": self.joules_per_token,
            "wall_joules_per_token": float(cost.wall_joules) / self.batch,
            "pj_per_mac": {name: float(value) for name, value in cost.pj_per_mac.items()},
            "pj_per_byte": {**segments, "total": sum(segments.values())},
            "macs_per_token": float(cost.macs) / self.batch,
            "watts_per_chip": float(cost.watts_per_chip),
            "usd_per_million_tokens": self.usd_per_million_tokens,
            "usd_per_chip_hour": paid.usd_per_hour,
            "price_basis": paid.basis,
            "bound": cost.bound,
            "note": joined_notes(self.notes),
            "formats": {"linear": formats.linear, "experts": formats.experts, "cache": formats.kv},
            "kv_in": resolved.conditions.cache.name,
            "kv_bytes_per_token": token_bytes(resolved.model, formats.widths),
            "cache_room_bytes": float(layout_room_bytes(resolved.model, resolved.conditions, resolved.layout)),
            "sequences_fit": float(
                most_sequences(resolved.model, resolved.conditions, resolved.layout, max(self.context, 1.0))
            ),
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row: nested names are joined, as in joules_per_token_weights; layout degrees are not."""
        tree = self._step()
        degrees = tree.pop("layout")
        return [flat({**tree, **degrees, "fits": True})]

    def _table(self) -> Table:
        tree, levels = self._step(), self.joules_per_token
        title = f"{tree['model']} on {tree['chips']} x {tree['chip']}, batch {self.batch}, context {self.context}"
        rows = [(f"{name}, s", cell(seconds)) for name, seconds in tree["seconds_by"].items() if seconds]
        rows += [("one decode step, s", cell(tree["seconds"]))]
        rows += [(f"{level}, J per token", cell(joules)) for level, joules in levels.items() if joules]
        rows += [("dollars per million tokens", cell(tree["usd_per_million_tokens"])), ("bound by", str(tree["bound"]))]
        return Table(("", ""), rows, title)


def explain(facts: Facts, scenario: Scenario, deployment: Deployment, price: str = RENTED) -> Explanation:
    """Price one decode step: at the scenario's context, or at the mean context of serving its requests.

    Raises the errors of `resolve`, InfeasiblePlan if the batch does not fit, BadInput for a scenario with a draft.
    """
    check_step(scenario)
    resolved = check_room(resolve(facts, scenario, deployment))
    step = (resolved.layout, float(scenario.batch), scenario.mean_tokens)
    pue = facts.value("facility", "pue_ratio")
    return Explanation(
        resolved=resolved,
        cost=batch_step(resolved.model, resolved.conditions, *step, pue=pue),
        perfect_seconds=float(batch_step(resolved.model, resolved.conditions.perfect, *step).seconds),
        price=hourly_price(facts, resolved.chip.name, price),
    )


def check_step(scenario: Scenario) -> None:
    """Raise BadInput for a scenario with a draft, of which a single step says nothing."""
    if scenario.draft is not None:
        raise BadInput("explain prices a step without drafts; leave draft out, or ask predict")
