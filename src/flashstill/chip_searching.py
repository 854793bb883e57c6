"""The Python face of the chip search: which chip to build for a mix of models, now or in several futures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flashstill.arch import load_architecture
from flashstill.asking import Edits, FactsLike, facts_of
from flashstill.calls import refuses_other_keywords
from flashstill.codesign.asked_search import asked_space, futures_of_words
from flashstill.codesign.future import Share, mix_of
from flashstill.codesign.search_answer import ChipSearch, answer_search
from flashstill.codesign.search_question import LEAST_TIMES, MOST_TIMES, Question, check_volume
from flashstill.errors import BadInput, check_counts

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["chip_search"]
DESIGNS, MAX_CHIPS, MAX_BATCH = 1_000_000, 64, 1024
"""designs searched, and the most chips and requests of one deployment"""


@refuses_other_keywords
def chip_search(
    *,
    model: str | Architecture | Sequence[str | Architecture],
    weights: Sequence[float] = (),
    future: str | Path | Sequence[str] = (),
    objective: str = "usd",
    node: str | Sequence[str] = (),
    year: int | None = None,
    as_of: int | None = None,
    isl: int = 1024,
    osl: int = 1024,
    max_ttft_s: float | None = None,
    max_tpot_s: float | None = None,
    precision: str | None = None,
    memory: str | Sequence[str] = (),
    designs: int = DESIGNS,
    volume: float | None = None,
    demand: float = 1.0,
    max_chips: int = MAX_CHIPS,
    max_batch: int = MAX_BATCH,
    told: Callable[[str], None] = lambda text: None,
    facts: FactsLike = (),
    set: Edits | None = None,
) -> ChipSearch:
    """The chip to build for a mix of models: every design of a space screened, the best priced by the cost arm.

    model: one or several; weights: their parts of all output tokens (default: equal).  isl, osl, max_ttft_s,
    max_tpot_s, precision: of each model's traffic, its bounds and the format of its weights.
    future: kinds (dense, sparse, long context, thinking), or the path of a TOML file of futures; none: today's mix.
    objective: usd, joules or latency of a token, or regret: the least largest rise of dollars over each future's best.
    node: processes, as n3 (default: the newest in volume for a chip of `year`).  year: in which the chip lands
    (default: of a design begun now).  as_of: rows known at the end of that year only.
    memory: kinds to choose from, "none" for chips of SRAM only (default: all in volume by then, and none).
    designs: about so many are searched, and at least 12 pairs of multipliers and SRAM; a fifth of them lies between the
    points of the grid, around its best.  volume: packages over which a design's own dollars are spread (default: a
    fact row), times `demand`.  max_chips, max_batch: of one deployment.
    told: called with lines of progress.  The front's ends by other objectives are searched among some 2,000 designs of
    the least bounds; if others are not ruled out, a note tells how much less they could cost.
    facts and set work as in `predict`.  Raises BadInput for an impossible question, MissingFact for unknown names, and
    InfeasiblePlan, with the reasons counted, if no design serves the mix.
    """
    asked = [model] if not isinstance(model, Sequence) or isinstance(model, str) else list(model)
    models = [load_architecture(one) if isinstance(one, str) else one for one in asked]
    if not models:
        raise BadInput("name a model with `model`")
    if weights and len(weights) != len(models):
        raise BadInput(f"{len(models)} models need as many weights, not {len(weights)}")
    for name, values in (("weights", weights), ("demand", (demand,))):
        for value in values:
            if not LEAST_TIMES <= value <= MOST_TIMES:
                raise BadInput(f"{name} must lie between {LEAST_TIMES:g} and {MOST_TIMES:g}, not {value:g}")
    check_counts({"max_chips": max_chips, "max_batch": max_batch, "isl": isl, "osl": osl})
    parts = list(weights) or [1.0] * len(models)
    mix = mix_of(
        "today",
        tuple(
            Share(
                model=one, weight=float(part), isl=isl, osl=osl, max_ttft_s=max_ttft_s, max_tpot_s=max_tpot_s,
                precision=precision,
            )
            for one, part in zip(models, parts, strict=True)
        ),
    )  # fmt: skip
    nodes, kinds = _several(node), _several(memory)
    found = asked_space(facts_of(facts, set), year=year, as_of=as_of, nodes=nodes, memories=kinds, designs=designs)
    words = (future,) if isinstance(future, Path) else _several(future)
    futures = futures_of_words(found.facts, mix, words, found.year, as_of, demand)
    question = Question(
        space=found.space,
        futures=futures,
        objective=objective,
        volume=found.facts.value("chip-search", "volume_packages") if volume is None else check_volume(volume),
        max_chips=max_chips,
        max_batch=max_batch,
    )
    return answer_search(found.facts, question, found.notes, told)


def _several(words: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Words, or one text with commas between them."""
    texts = (words,) if isinstance(words, str) else () if isinstance(words, Path) else words
    return tuple(dict.fromkeys(word.strip().lower() for text in texts for word in text.split(",") if word.strip()))
