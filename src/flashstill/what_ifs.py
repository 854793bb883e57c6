"""The Python face of co-design: which numbers of a chip bear on the cost of a model's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flashstill.arch import load_architecture
from flashstill.asking import Edits, FactsLike, facts_of, search_by_keywords
from flashstill.calls import refuses_other_keywords
from flashstill.codesign.whatif_answer import WhatIfs
from flashstill.codesign.whatifs import what_ifs
from flashstill.errors import BadInput
from flashstill.hardware import known_chips
from flashstill.hardware.wiring import WIRED
from flashstill.plan.space import BATCHES

if TYPE_CHECKING:
    from flashstill.arch import Architecture
    from flashstill.facts import Facts

__all__ = ["codesign"]
ALL = "all"
MAX_CHIPS = 16


@refuses_other_keywords
def codesign(
    *,
    model: str | Architecture | Sequence[str | Architecture],
    chip: str | Sequence[str] = ALL,
    isl: int = 1024,
    osl: int = 1024,
    max_chips: int = MAX_CHIPS,
    batches: Sequence[int] = BATCHES,
    max_ttft_s: float | None = None,
    max_tpot_s: float | None = None,
    min_tokens_per_s: float | None = None,
    precisions: Sequence[str] = ("published",),
    kv_precisions: Sequence[str | None] = (None,),
    tiers: Sequence[str] = ("memory", "sram"),
    engine: str | None = None,
    overlaps: Sequence[str] = ("none",),
    redundant_experts: Sequence[int | None] = (None,),
    burst_share: float = 0.1,
    batching_steps: float = 0.0,
    cohort: float = 1.0,
    cached_ratio: float = 0.0,
    isl_cv: float = 0.0,
    osl_cv: float = 0.0,
    price: str = "rented",
    doubling: bool | None = None,
    facts: FactsLike = (),
    set: Edits | None = None,
) -> WhatIfs:
    """d ln(cost) / d ln(number) of every number of one or more chips, with the deployment chosen anew on both sides.

    The costs are dollars, joules and seconds per output token, each of the configuration that is best for it within
    the bounds: chips up to max_chips, layouts, batches, formats and tiers, as `search` tries them.
    chip: names, or "all" for every chip that runs any model.  doubling: also what twice each number buys, and from
    which multiple of it another one binds (default: for one model on one chip).
    The other keywords are those of `search`.  Raises BadInput for an impossible question, MissingFact for unknown names
    and InfeasiblePlan, with counted reasons, if no model has a feasible configuration on any chip.
    """
    table = facts_of(facts, set, chip)
    asked = [model] if not isinstance(model, Sequence) or isinstance(model, str) else list(model)
    models = list(dict.fromkeys(load_architecture(one) if isinstance(one, str) else one for one in asked))
    if not models:
        raise BadInput("name a model with `model`")
    names = _chips(table, chip)
    scenario, space = search_by_keywords({
        "model": models[0], "chips": names, "max_chips": max_chips, "batches": batches, "precisions": precisions,
        "kv_precisions": kv_precisions, "tiers": tiers, "engine": engine, "redundant_experts": redundant_experts,
        "overlaps": overlaps, "isl": isl, "osl": osl, "burst_share": burst_share, "batching_steps": batching_steps,
        "cohort": cohort, "cached_ratio": cached_ratio, "isl_cv": isl_cv, "osl_cv": osl_cv,
        "max_ttft_s": max_ttft_s, "max_tpot_s": max_tpot_s,
        "min_tokens_per_s": min_tokens_per_s,
    })  # fmt: skip
    one_pair = len(models) == 1 and len(names) == 1
    return what_ifs(table, models, scenario, space, price, one_pair if doubling is None else doubling)


def _chips(facts: Facts, chip: str | Sequence[str]) -> tuple[str, ...]:
    """Canonical names without duplicates; "all": every chip that is not made for one model."""
    asked = [chip] if isinstance(chip, str) else list(chip)
    if [name.lower() for name in asked] == [ALL]:
        return tuple(name for name in known_chips(facts) if facts.find(name, WIRED) is None)
    if not asked:
        raise BadInput(f"name a chip with `chip`, or {ALL!r}")
    if ALL in [name.lower() for name in asked]:
        raise BadInput(f"{ALL!r} stands for every chip that runs any model; leave the other names out, or {ALL!r}")
    return tuple(dict.fromkeys(facts.machine(name).name for name in asked))
