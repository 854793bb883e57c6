"""The Python face of drafts: what speculative decoding is worth, by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flashstill.asking import Edits, FactsLike, asked_by_keywords, facts_of
from flashstill.calls import refuses_other_keywords
from flashstill.errors import BadInput
from flashstill.plan.worth import COUNTS, DraftWorth, worth_by_batch

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["COUNTS", "draft_worth"]
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@refuses_other_keywords
def draft_worth(
    *,
    model: str | Architecture,
    chip: str,
    draft: str,
    batches: Sequence[int] = BATCHES,
    draft_tokens: Sequence[int] | None = None,
    isl: int = 1024,
    osl: int = 1024,
    price: str = "rented",
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> DraftWorth:
    """Tokens/s, joules and dollars with a draft and without it, for each number of requests in flight.

    draft: a model, a directory of a draft (with its measured acceptance.jsonl), "heads" or "new-heads".  draft_tokens:
    numbers of drafted tokens to try; the fastest is taken at each batch.  more: acceptance, acceptance_decay,
    measured_acceptance and the fields of a deployment, as in `predict`; price, facts and set work as there.
    Raises BadInput for invalid values, and InfeasiblePlan if the deployment holds no request.
    """
    if draft_tokens is not None and not len(draft_tokens):
        raise BadInput("draft_tokens is empty; give at least one number, or leave it out")
    asked = asked_by_keywords({"model": model, "chip": chip, "draft": draft, "isl": isl, "osl": osl, **more})
    return worth_by_batch(facts_of(facts, set, chip), asked.cases[0], batches, draft_tokens, price)
