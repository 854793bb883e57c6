"""The Python face of silicon of one's own: whether a chip made for a model pays at a volume."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from flashstill.arch import load_architecture
from flashstill.asic.answer import AsicAnswer
from flashstill.asic.answer import answer as answer_question
from flashstill.asic.design import VARIANTS
from flashstill.asic.question import NODES, Question
from flashstill.asking import Edits, FactsLike, facts_of, of_kind
from flashstill.calls import check_kind, refuses_other_keywords
from flashstill.errors import BadInput

if TYPE_CHECKING:
    from flashstill.arch import Architecture
    from flashstill.progress import Progress

__all__ = ["asic"]


@refuses_other_keywords
def asic(
    *,
    model: str | Architecture,
    volume: float,
    variant: str | Sequence[str] = VARIANTS,
    node: str | Sequence[str] = NODES,
    isl: int = 1024,
    osl: int = 1024,
    max_ttft_s: float | None = None,
    max_tpot_s: float | None = None,
    precision: str | None = None,
    kv_precision: str | None = None,
    memory: str = "hbm4",
    concurrency: int | Sequence[int] = (),
    against: str | Sequence[str] = (),
    price: str = "best",
    draws: int = 100_000,
    seed: int = 0,
    decided: date | str | None = None,
    progress: Progress | None = None,
    facts: FactsLike = (),
    set: Edits | None = None,
) -> AsicAnswer:
    """Whether a chip made for a model pays at a volume of output tokens a day, against what can be rented or bought.

    variant: sram, hbm or hardwired; node: n7, n5, n3, n2 or another with fact rows; several are compared.
    isl, osl: tokens of each prompt and answer.  max_ttft_s, max_tpot_s: bounds that both sides keep.
    precision, kv_precision: formats of the chip's weights and cache, which the alternative may use as well.  memory:
    of the variant hbm.  concurrency: sequences that a machine of the chips is sized for (default: several are tried).
    against: chips that can be had (default: all with a price, none hard-wired); price: best, rented or owned.
    draws: of the fact rows, for P10, P50 and P90.  decided: day of the decision (default: today).
    progress: shows how far the search is (`flashstill.console.Console`).  facts and set work as in `predict`.
    Raises BadInput for an impossible question, MissingFact for unknown names, and InfeasiblePlan, with counted
    reasons, if no design or no alternative serves the model within the bounds.
    """
    model = of_kind("model", model, "")
    question = Question(
        model=load_architecture(model) if isinstance(model, str) else model,
        tokens_per_day=float(volume),
        variants=_several(variant),
        nodes=_several(node),
        isl=isl,
        osl=osl,
        max_ttft_s=max_ttft_s,
        max_tpot_s=max_tpot_s,
        precision=precision,
        kv_precision=kv_precision,
        memory=memory.strip().lower(),
        concurrency=(concurrency,) if isinstance(concurrency, int) else tuple(concurrency),
        alternatives=_several(against),
        basis=price,
        draws=draws,
        seed=seed,
        decided=_day(decided),
    )
    return answer_question(facts_of(facts, set, question.alternatives), question, progress)


def _several(words: str | Sequence[str]) -> tuple[str, ...]:
    """Words, or one text with commas between them."""
    texts = (words,) if isinstance(words, str) else words
    return tuple(dict.fromkeys(word.strip().lower() for text in texts for word in text.split(",") if word.strip()))


def _day(decided: date | str | None) -> date:
    if decided is None:
        return date.today()
    if isinstance(decided, date):
        return decided
    check_kind("decided", decided, "str")
    try:
        return date.fromisoformat(decided)
    except ValueError as error:
        raise BadInput(f"the day of the decision must be a date as 2027-01-31, not {decided[:40]!r}") from error
