"""The answer to a cascade plan: its stages, attending to everything beside it, and where things are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from flashstill.codesign.cascade import (
    Everything,
    Priced,
    Total,
    cascade_total,
    cascade_usd,
    corpora,
    crossover_items,
    priced_stages,
    traffic_of,
)
from flashstill.codesign.cascade_contexts import Attention, Told, contexts_of
from flashstill.codesign.cascade_plan import CascadePlan
from flashstill.codesign.index_tiers import TierOfIndex, index_tiers
from flashstill.codesign.knowledge import Stored, stored_or_retrieved
from flashstill.codesign.long_context import OneQuestion
from flashstill.codesign.modules import ModuleCost, module_costs
from flashstill.codesign.stage import StageCost, Traffic
from flashstill.codesign.stage_sizes import Sizes, cheapest_sizes
from flashstill.codesign.tiers import stores_of
from flashstill.errors import InfeasiblePlan
from flashstill.facts import Facts
from flashstill.tables import Displayed, Table, cell


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeAnswer(Displayed):
    """What a plan costs. all_cold, all_kept: the corpus read by the last stage's model, None where nothing can.

    crossover_*: corpus, in tokens, from which the cascade costs less.  curve: dollars over the size of the corpus.
    sizes: the cheapest for the plan's recall.
    """

    plan: CascadePlan
    traffic: Traffic
    total: Total
    all_cold: StageCost | None
    all_kept: StageCost | None
    crossover_cold: float | None
    crossover_kept: float | None
    curve: tuple[dict[str, float | None], ...]
    contexts: tuple[OneQuestion, ...]
    attention: tuple[Attention, ...]
    tiers: tuple[TierOfIndex, ...]
    sizes: Sizes | None
    knowledge: tuple[Stored, ...]
    modules: tuple[ModuleCost, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The answer as plain values, the keys of `--json`."""
        total = self.total
        return {
            "fits": True,
            "total": {
                "seconds": total.seconds, "joules": total.joules, "usd": total.usd, "recall": total.recall,
                "chips": total.chips,
            },
            "stages": [stage.as_dict() for stage in total.stages],
            "everything": {
                "cold": None if self.all_cold is None else self.all_cold.as_dict(),
                "kept": None if self.all_kept is None else self.all_kept.as_dict(),
                "crossover_cold_tokens": self.crossover_cold,
                "crossover_kept_tokens": self.crossover_kept,
            },
            "curve": list(self.curve),
            "contexts": [each.as_dict() for each in self.contexts],
            "attention": [asdict(each) for each in self.attention],
            "tiers": [each.as_dict() for each in self.tiers],
            "sizes": None if self.sizes is None else asdict(self.sizes) | {"keeps": list(self.sizes.keeps)},
            "knowledge": [each.as_dict() for each in self.knowledge],
            "modules": [each.as_dict() for each in self.modules],
            "notes": list(self.notes),
        }  # fmt: skip

    def as_records(self) -> list[dict[str, Any]]:
        """One row per stage."""
        return [stage.as_dict() for stage in self.total.stages]

    def _table(self) -> Table:
        rows = self.as_records()
        return Table(tuple(rows[0]), [[cell(value) for value in row.values()] for row in rows])


def answer_plan(facts: Facts, plan: CascadePlan, basis: str, told: Told = lambda text: None) -> CascadeAnswer:
    """Price a plan. told: called with lines of progress.

    InfeasiblePlan if a stage cannot bear the traffic, or no sizes reach the recall; what is priced beside the cascade
    is left out where it is not feasible, with a note.
    """
    traffic, stages = traffic_of(facts, plan), priced_stages(facts, plan, basis)
    total, notes = cascade_total(stages, plan.items), list(_notes(plan, stages))
    told("attending to everything")
    everything = Everything(stages=stages, traffic=traffic)
    all_cold, all_kept = (_all(everything, plan, kept, notes) for kept in (False, True))
    told("where they cross")
    cold, kept = (crossover_items(everything, plan.items, kept) for kept in (False, True))
    curve = [
        {
            "tokens": size * plan.item_tokens,
            "cascade_usd": cascade_usd(stages, size),
            "cold_usd": everything.usd(size, False),
            "kept_usd": everything.usd(size, True),
        }
        for size in corpora(plan.items)
    ]
    contexts, attention = contexts_of(facts, plan, basis, notes, told)
    told("tiers of the index")
    tiers = [tier for each in stages if each.scan for tier in _tiers(facts, each, total, traffic)]
    sizes = None
    if plan.recall is not None:
        told("sizes of the stages")
        sizes = sizes_of(stages, plan.items, plan.recall)
    return CascadeAnswer(
        plan=plan,
        traffic=traffic,
        total=total,
        all_cold=all_cold,
        all_kept=all_kept,
        crossover_cold=None if cold is None else cold * plan.item_tokens,
        crossover_kept=None if kept is None else kept * plan.item_tokens,
        curve=tuple(curve),
        contexts=tuple(contexts),
        attention=tuple(attention),
        tiers=tuple(tiers),
        sizes=sizes,
        knowledge=tuple(_knowledge(facts, plan, total, basis, notes)),
        modules=tuple(module_costs(facts, plan.modules, basis)),
        notes=tuple(dict.fromkeys(notes)),
    )


def sizes_of(stages: tuple[Priced, ...], items: float, least: float) -> Sizes:
    """The cheapest items to keep in every stage but the last, for a recall of at least `least`."""

    def cost_of(stage: Priced) -> Callable[[float, float], float]:
        # What a stage costs hardly depends on how many items it keeps; it is priced for those that it gets.
        return lambda given, kept: stage.cost(given, min(stage.stage.keep or kept, given)).usd

    def found(stage: Priced) -> Callable[[float, float], float]:
        return lambda kept, given: float(stage.recall.of(kept, given))

    best = cheapest_sizes([cost_of(each) for each in stages], [found(each) for each in stages[:-1]], items, least)
    return replace(best, usd=cascade_total(stages, items, best.keeps).usd)


def _all(everything: Everything, plan: CascadePlan, kept: bool, notes: list[str]) -> StageCost | None:
    try:
        return everything.cost(plan.items, kept)
    except InfeasiblePlan as error:
        notes.append(f"attending to everything{', kept in memory' if kept else ''}: {error}")
        return None


def _knowledge(facts: Facts, plan: CascadePlan, total: Total, basis: str, notes: list[str]) -> list[Stored]:
    last = plan.stages[-1]
    precision = last.precision or None
    try:
        return stored_or_retrieved(
            facts, total, last.model, last.chip, precision, plan.corpus_tokens, plan.item_tokens, basis
        )
    except InfeasiblePlan as error:
        notes.append(f"parameters that would hold the corpus: {error}")
        return []


def _tiers(facts: Facts, priced: Priced, total: Total, traffic: Traffic) -> list[TierOfIndex]:
    assert priced.scan is not None
    cost = next(stage for stage in total.stages if stage.name == priced.stage.name)
    return index_tiers(
        priced.scan,
        stores_of(facts, priced.scan.rent.chip),
        cost.items_in,
        priced.stage.keep or cost.items_out,
        traffic,
    )


def _notes(plan: CascadePlan, stages: tuple[Priced, ...]) -> list[str]:
    notes = [note for each in stages for note in each.notes]
    laws = [each.stage.name for each in stages[:-1] if not each.stage.recall]
    if laws:
        notes.append(
            f"recall of {', '.join(laws)} follows the law of the fact rows recall-scan and recall-read, guesses"
        )
    for each in stages:
        if each.stage.visited_ratio < 1.0:
            notes.append(
                f"{each.stage.name} looks at {each.stage.visited_ratio:.2%} of the vectors, and finds"
                f" {each.stage.found_ratio:.1%} of what all of them would, as the plan says"
            )
    last = stages[-1].reader
    if last is not None:
        reads = min(plan.items, *(each.stage.keep or plan.items for each in stages)) * last.tokens
        if reads > last.setup.model.context:
            notes.append(
                f"{last.setup.model.name} was made for {last.setup.model.context:,} tokens of context, and reads"
                f" {reads:,.0f}"
            )
    return notes
