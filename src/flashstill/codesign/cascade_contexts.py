"""What a cascade's models read by themselves: single questions over long texts, and where attending to all ends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from flashstill.codesign.cascade_plan import CascadePlan
from flashstill.codesign.long_context import OneQuestion, attention_takes_over, longest_within, one_question
from flashstill.codesign.reading import setup_of
from flashstill.codesign.readings import Asked
from flashstill.codesign.rent import rent_of
from flashstill.errors import InfeasiblePlan
from flashstill.facts import Facts

Told = Callable[[str], None]
"""called with lines of progress"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Where attending to everything ends for one model on one chip.

    takes_over: tokens at which attention needs half of a prefill's FLOPs; None: never.  within_bound: tokens that the
    fleet reads and answers over within the bound.
    """

    model: str
    chip: str
    takes_over_tokens: float | None
    within_bound_tokens: float


def contexts_of(
    facts: Facts, plan: CascadePlan, basis: str, notes: list[str], told: Told
) -> tuple[list[OneQuestion], list[Attention]]:
    """Of every model on every chip of a plan, or of its last stage. notes: takes what is not feasible, and why."""
    last, questions, ends = plan.stages[-1], [], []
    for chip, model in itertools.product(plan.chips or (last.chip,), plan.models or (last.model,)):
        told(f"{model} over long contexts on {chip}")
        setup = setup_of(facts, model, chip, (last.precision or None) if model == last.model else None)
        rent = rent_of(facts, setup.conditions.chip, basis)
        for tokens in plan.contexts:
            asked = Asked(tokens=tokens, question=plan.question_tokens, answer=plan.answer_tokens)
            try:
                questions.append(one_question(setup, rent, asked, plan.contexts_s or math.inf))
            except InfeasiblePlan as error:
                notes.append(str(error))
        ends.append(
            Attention(
                model=setup.model.name,
                chip=setup.conditions.chip.name,
                takes_over_tokens=attention_takes_over(setup),
                within_bound_tokens=longest_within(
                    setup, rent, plan.question_tokens, plan.answer_tokens, plan.bound_s, plan.fleet_chips
                ),
            )
        )
    return questions, ends
