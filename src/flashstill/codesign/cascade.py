"""A cascade of stages over a corpus of any size: seconds, joules and dollars of a question, stage by stage and in all.

    corpus -> scan of embeddings -> small reader -> ... -> answer by the best model, which reads what is left

The total is the sum of the stages, which run one after another; its recall is their product.  A stage that is given
fewer items than it may keep keeps all.  The same question by attending to the whole corpus is a cascade of one stage
that reads everything.  Both have the same traffic, so that they cross where their dollars are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from flashstill.codesign.cascade_plan import ANSWER, READ, SCAN, CascadePlan, Stage
from flashstill.codesign.reading import Reader, answer_cost, pass_of, read_cost, setup_of
from flashstill.codesign.recall import EVERYTHING, Recall, recall_law
from flashstill.codesign.rent import rent_of
from flashstill.codesign.scanning import Scan, scan_cost
from flashstill.codesign.stage import StageCost, Traffic
from flashstill.codesign.tiers import store_of
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.deployment import known_precision
from flashstill.plan.hardwired import is_hardwired

PRECISE = 1e-5
"""relative width at which a crossing is found"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Priced:
    """A stage that can be priced for any number of items: cost(items in, items kept), its recall and its notes."""

    stage: Stage
    recall: Recall
    cost: Callable[[float, float], StageCost]
    scan: Scan | None = None
    reader: Reader | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """Stages and their sums for one question; recall: their product."""

    stages: tuple[StageCost, ...]

    @property
    def seconds(self) -> float:
        """Seconds of a question through all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def joules(self) -> float:
        """Joules at the wall."""
        return sum(stage.joules for stage in self.stages)

    @property
    def usd(self) -> float:
        """Dollars of a question."""
        return sum(stage.usd for stage in self.stages)

    @property
    def recall(self) -> float:
        """Share of what matters that reaches the last stage."""
        return math.prod(stage.recall for stage in self.stages)

    @property
    def chips(self) -> int:
        """Chips of all stages."""
        return sum(stage.chips for stage in self.stages)


def traffic_of(facts: Facts, plan: CascadePlan) -> Traffic:
    """The traffic that every stage bears."""
    load = facts.value("cascade", "load_ratio") if plan.load is None else plan.load
    return Traffic(per_s=plan.questions_per_s, load_ratio=load, replicas=plan.replicas)


def priced_stages(facts: Facts, plan: CascadePlan, basis: str) -> tuple[Priced, ...]:
    """The stages, names looked up. BadInput or MissingFact for what the tables do not know."""
    traffic = traffic_of(facts, plan)
    return tuple(_priced(facts, plan, stage, traffic, basis) for stage in plan.stages)


def _priced(facts: Facts, plan: CascadePlan, stage: Stage, traffic: Traffic, basis: str) -> Priced:
    if is_hardwired(facts, stage.chip):
        raise BadInput(f"the stage {stage.name!r} cannot run on {stage.chip}, which is hard-wired for one model")
    chip = chip_from_facts(facts, stage.chip)
    rent = rent_of(facts, chip, basis)
    law = EVERYTHING if stage.kind == ANSWER else recall_law(facts, stage.kind, stage.found_ratio)
    recall = Recall(scale=law.scale, tail=law.tail, points=stage.recall, factor=law.factor) if stage.recall else law
    if stage.kind == SCAN:
        store = store_of(facts, chip, stage.tier)
        scan = Scan(
            name=stage.name,
            dimensions=stage.dimensions,
            precision=known_precision(stage.precision or "int8"),
            store=store,
            rent=rent,
            visited_ratio=stage.visited_ratio,
            together=stage.together,
            max_s=stage.max_s,
        )
        return Priced(
            stage=stage,
            recall=recall,
            scan=scan,
            cost=cache(lambda items, kept: scan_cost(scan, items, kept, float(recall.of(kept, items)), traffic)),
            notes=(store.note,) if store.note else (),
        )
    precision = stage.precision or None
    setup = setup_of(facts, stage.model, stage.chip, precision)
    reader = Reader(
        name=stage.name,
        setup=setup,
        rent=rent,
        tokens=stage.item_tokens or plan.item_tokens,
        question=plan.question_tokens,
        answer=plan.answer_tokens,
        max_s=stage.max_s,
    )
    if stage.kind == READ:
        run = pass_of(facts, reader, precision)
        return Priced(
            stage=stage,
            recall=recall,
            reader=reader,
            cost=cache(lambda items, kept: read_cost(reader, run, items, kept, float(recall.of(kept, items)), traffic)),
            notes=run.layout.notes,
        )
    return Priced(
        stage=stage,
        recall=recall,
        reader=reader,
        cost=cache(lambda items, kept: answer_cost(reader, items, traffic)),
        notes=setup.notes,
    )


def cascade_total(stages: Sequence[Priced], items: float, keeps: Sequence[float] | None = None) -> Total:
    """A question through all stages over a corpus of `items`. keeps: of all stages but the last; None: the plan's."""
    kept = [each.stage.keep or math.inf for each in stages[:-1]] if keeps is None else list(keeps)
    costs = []
    for each, most in zip(stages, [*kept, math.inf], strict=True):
        out = min(most, items)
        costs.append(each.cost(items, out))
        items = out
    return Total(stages=tuple(costs))


@dataclass(frozen=True, kw_only=True, slots=True)
class Everything:
    """The last stage's model over a whole corpus at the same traffic: cold, or with its cache kept in memory.

    Each size is priced once; None where nothing can.
    """

    stages: tuple[Priced, ...]
    traffic: Traffic
    known: dict[tuple[float, bool], StageCost | InfeasiblePlan] = field(default_factory=dict)

    def cost(self, items: float, kept: bool) -> StageCost:
        """Cost of a question over `items` items; InfeasiblePlan if nothing holds them or is fast enough."""
        if (items, kept) not in self.known:
            reader = self.stages[-1].reader
            assert reader is not None  # the last stage answers
            try:
                self.known[items, kept] = answer_cost(reader, items, self.traffic, kept_corpus=kept)
            except InfeasiblePlan as error:
                self.known[items, kept] = error
        found = self.known[items, kept]
        if isinstance(found, InfeasiblePlan):
            raise found
        return found

    def usd(self, items: float, kept: bool) -> float | None:
        """Dollars of a question, or None."""
        try:
            return self.cost(items, kept).usd
        except InfeasiblePlan:
            return None


def corpora(items: float) -> list[float]:
    """Sizes of corpora from one item to `items`, one a decade."""
    decades = math.log10(items)
    count = max(math.ceil(decades), 1)
    return [*(10.0 ** (decades * step / count) for step in range(count)), items]


def crossover_items(everything: Everything, items: float, kept: bool) -> float | None:
    """The least corpus, in items, from which the cascade costs less than attending to all of it; None: never.

    Looked for at one size a decade up to `items`, then halved on a logarithmic scale.
    """

    def cheaper(size: float) -> bool:
        mine = cascade_usd(everything.stages, size)
        theirs = everything.usd(size, kept)
        return mine is not None and (theirs is None or mine < theirs)

    sizes = corpora(items)
    first = next((place for place, size in enumerate(sizes) if cheaper(size)), None)
    if first is None or first == 0:
        return None if first is None else sizes[0]
    low, high = math.log(sizes[first - 1]), math.log(sizes[first])
    while high - low > PRECISE:
        middle = (low + high) / 2.0
        low, high = (low, middle) if cheaper(math.exp(middle)) else (middle, high)
    return math.exp(high)


def cascade_usd(stages: Sequence[Priced], items: float) -> float | None:
    """Dollars of a question to the cascade over a corpus of `items`; None where a stage cannot bear the traffic."""
    try:
        return cascade_total(stages, items).usd
    except InfeasiblePlan:
        return None
