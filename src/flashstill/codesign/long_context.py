"""One question over a corpus by attending to all of it: seconds, joules, dollars, chips, and where that ends.

    cold    chips x (prefill + question + answer)        kept    chips x (question + answer), and the rent of the memory
    rent    chips x price of an hour;  keeping pays from   rent / (cold - kept)   questions an hour on

Attention takes over from the other products at the context where their FLOPs in a prefill are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.codesign.readings import MOST_CHIPS, Asked, Readings, kept_bytes, readings
from flashstill.codesign.rent import Rent, busy_usd
from flashstill.cost.long_context import sequences_held
from flashstill.errors import InfeasiblePlan
from flashstill.plan.setup import Setup
from flashstill.units import SECONDS_PER_HOUR
from flashstill.workload import Attention, IndexScores, prefill

LONGEST = 1e15
"""tokens up to which contexts are looked at"""
SHORTEST = 128.0
HALVINGS = 50
PRECISE = 1e-5
"""relative width at which a length is found"""


@dataclass(frozen=True, kw_only=True, slots=True)
class OneQuestion:
    """One question over `asked.tokens` on the chips where it costs least. joules: at the wall.

    parts: a power of two.  fewest_chips: that would hold weights and cache with as much tensor parallelism.
    cold_*: with the prefill of the corpus.  kept_*: over a corpus that stays in memory, without its rent.
    attention_ratio: attention's share of the FLOPs of the prefill.  shares_s: seconds of the prefill by bound.
    """

    setup: Setup
    asked: Asked
    tp: int
    parts: int
    fewest_chips: int
    kv_bytes: float
    prefill_s: float
    question_s: float
    answer_s: float
    cold_joules: float
    kept_joules: float
    cold_usd: float
    kept_usd: float
    rent_usd_per_hour: float
    attention_ratio: float
    shares_s: dict[str, float]

    @property
    def chips(self) -> int:
        """Chips that hold the cache and compute."""
        return self.tp * self.parts

    @property
    def pays_per_hour(self) -> float:
        """Questions an hour from which keeping the cache in memory costs less than reading the corpus each time."""
        return self.rent_usd_per_hour / max(self.cold_usd - self.kept_usd, 1e-300)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        kept_s = self.question_s + self.answer_s
        return {
            "model": self.setup.model.name, "chip": self.setup.conditions.chip.name, "tokens": self.asked.tokens,
            "chips": self.chips, "tp": self.tp, "parts": self.parts,
            "fewest_chips": self.fewest_chips, "kv_bytes": self.kv_bytes,
            "cold_s": self.prefill_s + kept_s, "cold_joules": self.cold_joules, "cold_usd": self.cold_usd,
            "prefill_s": self.prefill_s, "kept_s": kept_s, "kept_joules": self.kept_joules, "kept_usd": self.kept_usd,
            "rent_usd_per_hour": self.rent_usd_per_hour, "keeping_pays_questions_per_hour": self.pays_per_hour,
            "attention_ratio": self.attention_ratio, "prefill_by_bound_s": dict(self.shares_s),
            "beyond_the_models_context": self.asked.end > self.setup.model.context,
        }  # fmt: skip


def one_question(
    setup: Setup, rent: Rent, asked: Asked, max_s: float = math.inf, most_chips: int = MOST_CHIPS
) -> OneQuestion:
    """The cheapest way, in dollars of busy chips, to answer cold within `max_s` on up to `most_chips` chips.

    InfeasiblePlan, with the ways counted by what they break, if there is none.
    """
    ways = readings(setup, asked, kept=False, most_batch=1, most_chips=most_chips)
    usd = np.asarray(busy_usd(rent, ways.chips, ways.seconds, ways.joules))
    fine = ways.fits & (ways.seconds <= max_s)
    if not fine.any():
        raise InfeasiblePlan(_why(setup, asked, ways, max_s, most_chips), _reasons(ways))
    at = np.unravel_index(int(np.argmin(np.where(fine, usd, np.inf))), usd.shape)
    chips, tp, parts = float(ways.chips[at]), float(ways.tp[at]), float(ways.parts[at])
    held = float(sequences_held(setup.model, setup.conditions, tp, parts, asked.end))

    def of(values: Any) -> float:
        return float(np.broadcast_to(values, usd.shape)[at])

    question_s, answer_s = of(ways.question.seconds), asked.answer * of(ways.step.seconds)
    kept = of(ways.question.total_joules) + asked.answer * of(ways.step.total_joules)
    cold = float(ways.joules[at])
    return OneQuestion(
        setup=setup,
        asked=asked,
        tp=int(tp),
        parts=int(parts),
        fewest_chips=int(tp) * math.ceil(parts / held * (1.0 - 1e-12)),
        kv_bytes=kept_bytes(setup, asked.tokens),
        prefill_s=of(ways.prefill.seconds),
        question_s=question_s,
        answer_s=answer_s,
        cold_joules=cold * rent.wall_ratio,
        kept_joules=kept * rent.wall_ratio,
        cold_usd=float(usd[at]),
        kept_usd=float(busy_usd(rent, chips, question_s + answer_s, kept)),
        rent_usd_per_hour=float(busy_usd(rent, chips, SECONDS_PER_HOUR, rent.chip.idle_w * chips * SECONDS_PER_HOUR)),
        attention_ratio=attention_ratio(setup, asked.tokens),
        shares_s={name: of(value) for name, value in ways.prefill.shares_s.items()},
    )


def _reasons(ways: Readings) -> dict[str, int]:
    reasons = {"does not fit in memory": int((~ways.fits).sum()), "too slow": int(ways.fits.sum())}
    return {name: count for name, count in reasons.items() if count}


def _why(setup: Setup, asked: Asked, ways: Readings, max_s: float, most_chips: int) -> str:
    where = f"{setup.model.name} over {asked.tokens:.4g} tokens on up to {most_chips:,} x {setup.conditions.chip.name}"
    if not ways.fits.any():
        return f"{where}: nothing holds its weights and {kept_bytes(setup, asked.tokens):.3g} bytes of cache"
    return f"{where}: the fastest way takes {float(np.min(ways.seconds[ways.fits])):.3g} s, not {max_s:g} s"


def attention_ratio(setup: Setup, tokens: float) -> float:
    """Attention's share of the FLOPs of a prefill of `tokens`; an indexer's scores count as attention."""
    attention = others = 0.0
    for operation in prefill(setup.model, 1.0, tokens, setup.conditions.widths, 0.0, setup.conditions.skew):
        flops = float(operation.count * operation.flops)
        if isinstance(operation, Attention | IndexScores):
            attention += flops
        else:
            others += flops
    return attention / (attention + others)


def attention_takes_over(setup: Setup) -> float | None:
    """Tokens at which attention needs half of the FLOPs of a prefill; None if it never does."""
    return _first(lambda tokens: attention_ratio(setup, tokens) >= 0.5)


def longest_within(setup: Setup, rent: Rent, question: float, answer: float, max_s: float, chips: int) -> float:
    """The most tokens that a fleet of `chips` can hold and answer a question over within `max_s`; 0 if none."""

    def too_long(tokens: float) -> bool:
        try:
            one_question(setup, rent, Asked(tokens=tokens, question=question, answer=answer), max_s, chips)
        except InfeasiblePlan:
            return True
        return False

    end = _first(too_long)
    return LONGEST if end is None else 0.0 if end <= SHORTEST else end


def _first(reached: Callable[[float], bool]) -> float | None:
    """The least number of tokens at which a condition holds that never ends again; None if it is beyond LONGEST."""
    low, high = math.log(SHORTEST), math.log(LONGEST)
    if reached(SHORTEST):
        return SHORTEST
    if not reached(LONGEST):
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if reached(math.exp(middle)) else (middle, high)
        if high - low < PRECISE:
            break
    return math.exp(high)
