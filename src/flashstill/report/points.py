"""Quality against cost: the models of a family and their Pareto front."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flashstill.frontier import on_front
from flashstill.records import CostRecord, ModelRecord, QualityRecord, Record

LOWER_IS_BETTER = (
    "bits_per_byte", "perplexity", "kl_to_teacher", "word_perplexity", "byte_perplexity", "brier_score", "ter",
)  # fmt: skip
"""metrics, also of tasks, of which less is better"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedModel:
    """A model at one batch on one chip. cost: dollars per million tokens or joules per token."""

    model: str
    role: str
    batch: int
    cost: float
    quality: float
    low: float | None
    high: float | None
    on_front: bool


def points(
    records: Iterable[Record], chip: str, batch: int, domain: str, metric: str, cost: str, phase: str = "decode"
) -> list[PricedModel]:
    """Every model that has both a quality and a cost, priced as itself or as the student whose shape it shares.

    A chip without a price has no point in dollars.  cost: "usd_per_million_tokens" or "joules_per_token".
    """
    records = list(records)
    models = {record.model: record for record in records if isinstance(record, ModelRecord)}
    prices = {
        record.model: price
        for record in records
        if isinstance(record, CostRecord)
        and (record.chip, record.batch, record.phase) == (chip, batch, phase)
        and (price := _price(record, cost)) is not None
    }
    priced = [
        (models[record.model], prices[models[record.model].of], record)
        for record in records
        if isinstance(record, QualityRecord)
        and (record.domain, record.metric) == (domain, metric)
        and record.model in models
        and models[record.model].of in prices
    ]
    sign = 1.0 if is_less_better(metric) else -1.0
    front = on_front([(price, sign * quality.value) for _, price, quality in priced])
    return [
        PricedModel(
            model=model.model,
            role=model.role,
            batch=batch,
            cost=price,
            quality=quality.value,
            low=quality.low,
            high=quality.high,
            on_front=flag,
        )
        for (model, price, quality), flag in zip(priced, front, strict=True)
    ]


def is_less_better(metric: str) -> bool:
    """Whether less of a metric is better; a task's may have the name of a filter after a comma."""
    return metric.partition(",")[0] in LOWER_IS_BETTER


def _price(record: CostRecord, cost: str) -> float | None:
    return record.joules_per_token["total"] if cost == "joules_per_token" else record.usd_per_million_tokens
