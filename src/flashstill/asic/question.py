"""The question of a chip of one's own: a model, a volume, the requests and their bounds, and what may be compared."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, timedelta

from flashstill.arch import Architecture
from flashstill.asic.alternative import OWNED, RENTED
from flashstill.asic.design import HBM, VARIANTS
from flashstill.asic.givens import check_memory
from flashstill.errors import BadInput, check_counts, shortened, unknown
from flashstill.facts import Facts
from flashstill.plan.scenario import Scenario, check_bounds, check_scenario
from flashstill.units import DAYS_PER_YEAR

NODES = ("n7", "n5", "n3", "n2")
"""processes that are compared if none is asked for"""
BASES = ("best", RENTED, OWNED)
_NODE = re.compile(r"n?(\d{1,3})(?:nm)?", re.ASCII)
MOST_DRAWS = 10_000_000
MOST_TOKENS = 1e20


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked. tokens_per_day: output tokens; their prompts (isl to osl) come along.

    variants, nodes: those that are compared.  memory: of the variant hbm.  concurrency: sequences that a machine is
    sized for; () tries several.
    alternatives: chips that may be rented or bought; () for all with a price.  basis: best, rented or owned.
    draws: of the fact rows.  decided: the day of the decision.
    """

    model: Architecture
    tokens_per_day: float
    variants: tuple[str, ...] = VARIANTS
    nodes: tuple[str, ...] = NODES
    isl: int = 1024
    osl: int = 1024
    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    precision: str | None = None
    kv_precision: str | None = None
    memory: str = "hbm4"
    concurrency: tuple[int, ...] = ()
    alternatives: tuple[str, ...] = ()
    basis: str = BASES[0]
    draws: int = 100_000
    seed: int = 0
    decided: date

    @property
    def scenario(self) -> Scenario:
        """The requests and their bounds."""
        return Scenario(
            model=self.model, isl=self.isl, osl=self.osl, max_ttft_s=self.max_ttft_s, max_tpot_s=self.max_tpot_s
        )

    @property
    def bases(self) -> tuple[str, ...]:
        """How alternatives may be paid."""
        return (RENTED, OWNED) if self.basis == BASES[0] else (self.basis,)

    def day(self, years: float | None) -> str | None:
        """The date so many years after the decision; None if it never comes, or not in a calendar's reach."""
        days_left = (date.max - self.decided).days
        if years is None or years * DAYS_PER_YEAR >= days_left:
            return None
        return (self.decided + timedelta(days=round(years * DAYS_PER_YEAR))).isoformat()


def check_question(facts: Facts, question: Question) -> None:
    """Raise BadInput for a question that cannot be answered; one sentence says why."""
    volume = question.tokens_per_day
    if not (math.isfinite(volume) and 0.0 < volume <= MOST_TOKENS):
        raise BadInput(f"the volume must be above 0 and at most {MOST_TOKENS:g} tokens a day, not {volume:g}")
    for what, words in (("variant", question.variants), ("node", question.nodes)):
        if not words:
            raise BadInput(f"no {what} is asked for; name one or several, with commas between them")
    for variant in question.variants:
        if variant not in VARIANTS:
            raise BadInput(unknown("variant", variant, VARIANTS))
    for node in question.nodes:
        node_nm(facts, node)
    if HBM in question.variants:
        check_memory(facts, question.memory)
    if question.basis not in BASES:
        raise BadInput(unknown("price of the alternative", question.basis, BASES))
    check_counts({"draws": question.draws, "concurrency": min(question.concurrency, default=None)})
    if question.seed < 0:
        raise BadInput(f"the seed must be 0 or above, not {question.seed}")
    if question.draws > MOST_DRAWS:
        raise BadInput(f"draws must be at most {MOST_DRAWS:,}, not {question.draws:,}")
    check_bounds(question.scenario)
    check_scenario(question.scenario, question.model)


def node_nm(facts: Facts, name: str) -> int:
    """Nanometres of a process as n5, 5nm or 5; BadInput lists the nearest known ones."""
    known = {owner.removeprefix("node-") for owner, quantity in facts.rows if quantity == "usd_design"}
    match = _NODE.fullmatch(name.strip().lower())
    if match is None or match[1] not in known:
        names = [f"n{number}" for number in sorted(known, key=int)]
        raise BadInput(unknown("node", shortened(name), names))
    return int(match[1])
