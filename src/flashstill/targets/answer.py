"""The answer: the cheapest student of a quality, runners-up, and how sure the choice is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flashstill.tables import Displayed, Table, records_table

SHOWN = (
    "active_parameters", "experts", "precision", "training_tokens", "train_chips", "chip", "chips", "batch",
    "training_usd", "teacher_usd", "serving_usd", "usd",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Student:
    """A student with its training, its serving configuration and its dollars.

    experts: FFN weights over those of one token, 1 if dense.  counted_parameters: N as the law counts it.
    train_...: the training run.  chip, chips, tp, ...: of serving.
    """

    model: str
    parameters: int
    active_parameters: int
    width: int
    depth: int
    counted_parameters: float
    experts: float
    training_tokens: float
    tokens_per_parameter: float
    train_chip: str
    train_chips: int
    train_layout: str
    train_days: float
    train_mfu: float
    train_batch_tokens: int
    chip: str
    chips: int
    tp: int
    pp: int
    ep: int
    dp: int
    batch: int
    precision: str
    kv_precision: str
    weights_in: str
    ttft_s: float
    tpot_s: float | None
    usd_per_million_output_tokens: float | None
    training_usd: float
    teacher_usd: float
    serving_usd: float
    usd: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantiles:
    """P10, P50, P90; None where infinite (the target is not reached)."""

    p10: float | None
    p50: float | None
    p90: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """What the law's errors do to the choice.

    kind: what the cases are.  unreached: share of cases in which no candidate reaches the target.
    active_parameters, training_tokens, usd: of each case's cheapest candidate.  best_tokens: that the chosen student
    needs.  best_is_cheapest: share of cases in which the chosen student is the cheapest.  best_over_cheapest_p90: its
    dollars over those of the cheapest, which nine of ten cases do not exceed; None where it misses the target.
    """

    kind: str
    cases: int
    unreached: float
    active_parameters: Quantiles
    training_tokens: Quantiles
    usd: Quantiles
    best_tokens: Quantiles
    best_is_cheapest: float
    best_over_cheapest_p90: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The model that the target names: its own training and serving. None where it does not fit or end in time."""

    model: str
    training_tokens: float
    training_usd: float | None
    serving_usd: float | None

    @property
    def usd(self) -> float | None:
        """Both together."""
        parts = (self.training_usd, self.serving_usd)
        return None if None in parts else sum(part for part in parts if part is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetPlan(Displayed):
    """target: as asked; loss: on the law's `scale`.  evaluated: candidates; priced: those with dollars; reasons: of the
    others.  prices: chip -> price basis.  doubt: None if nothing is known about the law's errors."""

    target: str
    loss: float
    teacher: str | None
    teacher_loss: float | None
    law: str
    law_kind: str
    law_source: str
    scale: str
    tokens_served: float
    best: Student
    runners_up: tuple[Student, ...]
    reference: Reference | None
    doubt: Doubt | None
    evaluated: int
    priced: int
    reasons: dict[str, int]
    prices: dict[str, str]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        document = asdict(self)
        if self.reference is not None:
            document["reference"]["usd"] = self.reference.usd
        document["runners_up"] = list(document["runners_up"])
        document["notes"] = list(self.notes)
        return document

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per student, the cheapest first."""
        return [asdict(each) for each in (self.best, *self.runners_up)]

    def _table(self) -> Table:
        return records_table(
            self.as_records(), SHOWN, f"{self.target} under {self.law}: {self.best.model}, ${self.best.usd:,.0f}"
        )
