"""Warnings about benchmarks that no longer, or not yet, tell models apart.

A benchmark of shares of right answers ranks models only in between: where almost all answers are wrong, what is right
is mostly luck; where almost all are right, what is left are its own mistakes.  With c the score of answering without
understanding (guessing, or always the most frequent answer), useful is

    c + 0.10 (1 - c)  <=  score  <=  0.95

10 and 95 % are a rule of thumb for the life of a benchmark, no measured constants: below a tenth of the way from chance
to perfect, and in its last twentieth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flashstill.records import NO_INTERVAL, QualityRecord

LOWEST, HIGHEST = 0.10, 0.95
"""share of the way from chance to 1 below which, and score above which, a benchmark does not rank models"""
SHARES = re.compile(
    r"accuracy|agreement|(acc|acc_norm|acc_bytes|acc_mutual_info|exact_match)(,.*)?|(best|majority)_of_\d+|pass_at_\d+"
)
"""metrics that are shares of right answers"""
TEACHER = "teacher"


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeWarning:
    """A score outside a benchmark's useful range [lowest, highest]. chance: the score of not understanding."""

    model: str
    domain: str
    metric: str
    value: float
    low: float | None
    high: float | None
    chance: float
    lowest: float
    highest: float
    message: str


def lowest_useful(chance: float) -> float:
    """The least score that ranks models; chance: score of answers without understanding, 0 to 1."""
    return chance + LOWEST * (1.0 - chance)


def range_warnings(
    records: Iterable[object], chance: Callable[[str, str], float] = lambda model, domain: 0.0
) -> tuple[RangeWarning, ...]:
    """A warning for each QualityRecord of a share of right answers outside the useful range; others are passed over.

    chance: (model, domain) -> score of answers without understanding, where a record does not say it.  A teacher's
    agreement with itself is no score.
    """
    found = []
    for record in records:
        if not isinstance(record, QualityRecord) or not SHARES.fullmatch(record.metric):
            continue
        if record.metric == "agreement" and record.model == TEACHER:
            continue
        guessed = chance(record.model, record.domain) if record.chance is None else record.chance
        lowest = lowest_useful(guessed)
        if record.value < lowest or record.value > HIGHEST:
            found.append(_warning(record, guessed, lowest))
    return tuple(found)


def _warning(record: QualityRecord, chance: float, lowest: float) -> RangeWarning:
    metric = record.metric.replace("_", " ")
    interval = NO_INTERVAL if record.low is None else f"{record.low:.1%} to {record.high:.1%}"
    score = f"{metric} of {record.model} on {record.domain} is {record.value:.1%} ({interval})"
    if lowest > HIGHEST:
        why = f"and chance is {chance:.1%} of all: no score tells models apart; take another benchmark"
    elif record.value > HIGHEST:
        why = f"above {HIGHEST:.0%}: too few mistakes are left to tell models apart; take a harder benchmark"
    elif chance:
        why = (
            f"below {lowest:.1%}, a tenth of the way from chance ({chance:.1%}) to all: differences are mostly luck;"
            " take an easier benchmark"
        )
    else:
        why = f"below {lowest:.0%}: differences are mostly luck; take an easier benchmark"
    return RangeWarning(
        model=record.model, domain=record.domain, metric=record.metric, value=record.value, low=record.low,
        high=record.high, chance=chance, lowest=lowest, highest=HIGHEST, message=f"{score}, {why}",
    )  # fmt: skip
