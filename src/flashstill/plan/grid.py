"""A grid of batches for many models and chips, as CostRecords; all batches are priced in one vectorised call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost import LEVELS, StepCost
from flashstill.cost.phases import batch_step, prefill_step, working_share
from flashstill.economics import RENTED, HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.facts import Facts
from flashstill.plan.deployment import AS_PUBLISHED, Deployment
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.room import check_room
from flashstill.plan.scenario import Scenario
from flashstill.records import CostRecord
from flashstill.workload import Quantity


def price_grid(
    facts: Facts,
    models: Iterable[Architecture],
    chips: Sequence[str | Deployment],
    batches: Sequence[int],
    context: int,
    precision: str = AS_PUBLISHED,
    price: str = RENTED,
) -> list[CostRecord]:
    """Decode and prefill of every model on every chip at every batch, deployed as in `explain` and `predict`.

    chips: names, deployed in `precision` with every default; or complete deployments.
    The number of chips is the fewest that hold the largest batch, so all batches of a model run on the same machine.
    """
    records: list[CostRecord] = []
    pue = facts.value("facility", "pue_ratio")
    sizes = np.asarray(batches, dtype=np.float64)
    for model in models:
        for chip in chips:
            deployment = Deployment(chip=chip, precision=precision) if isinstance(chip, str) else chip
            largest = Scenario(model=model, batch=max(batches), context=context)
            resolved = check_room(resolve(facts, largest, deployment))
            paid = hourly_price(facts, resolved.chip.name, price)
            step = batch_step(model, resolved.conditions, resolved.layout, sizes, float(context), pue=pue)
            records += _records(resolved, paid, "decode", step, batches, context, sizes)
            local, share = resolved.layout.local_batch(sizes), working_share(model, resolved.layout, sizes)
            prompt = prefill_step(model, resolved.conditions, resolved.layout, local, float(context), pue=pue)
            records += _records(
                resolved, paid, "prefill", prompt.partly_empty(share), batches, context, sizes * context
            )
    return records


def _records(
    resolved: Resolved,
    price: HourlyPrice,
    phase: str,
    cost: StepCost,
    batches: Sequence[int],
    context: int,
    tokens: np.ndarray,
) -> list[CostRecord]:

    def spread(quantity: Quantity) -> np.ndarray:
        return np.broadcast_to(np.asarray(quantity, dtype=np.float64), tokens.shape)

    seconds, watts = spread(cost.seconds), spread(cost.watts_per_chip)
    levels = {level: spread(cost.joules[level]) / tokens for level in LEVELS}
    levels["total"] = spread(cost.total_joules) / tokens
    wall, bounds = spread(cost.wall_joules) / tokens, np.atleast_1d(np.asarray(cost.bound))
    dollars = usd_per_million_tokens(price, cost.seconds, float(resolved.chips), tokens, cost.watts_per_chip)
    records = []
    for index, batch in enumerate(batches):
        records.append(
            CostRecord(
                model=resolved.model.name,
                chip=resolved.chip.name,
                chips=resolved.chips,
                phase=phase,
                batch=batch,
                context=context,
                precision=resolved.precision,
                seconds=float(seconds[index]),
                tokens_per_s=float(tokens[index] / seconds[index]),
                joules_per_token={level: float(values[index]) for level, values in levels.items()},
                wall_joules_per_token=float(wall[index]),
                usd_per_million_tokens=None if dollars is None else float(spread(dollars)[index]),
                watts_per_chip=float(watts[index]),
                bound=str(np.broadcast_to(bounds, tokens.shape)[index]),
                price_basis=price.at(float(watts[index])).basis,
            )
        )
    return records
