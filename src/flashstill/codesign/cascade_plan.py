"""What a cascade plan says: the corpus, the traffic, the stages in order, and what else to price beside them.

Read from TOML or from plain tables; every mistake is one sentence that names its key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from flashstill.bounded import check_regular
from flashstill.checked import between, built, one_of, sized, toml_tree
from flashstill.codesign.tiers import TIERS
from flashstill.errors import BadInput, shortened

SCAN, READ, ANSWER = "scan", "read", "answer"
KINDS = (SCAN, READ, ANSWER)
Text: TypeAlias = Annotated[str, sized(0, 200)]
Named: TypeAlias = Annotated[str, sized(1, 200)]
Tokens: TypeAlias = Annotated[float, between(1, 1e15)]
Items: TypeAlias = Annotated[float, between(1, 1e15)]
Short: TypeAlias = Annotated[float, between(1, 1e6)]
Rate: TypeAlias = Annotated[float, between(1e-12, 1e6)]
Seconds: TypeAlias = Annotated[float, between(0, 1e9, open_low=True)]
Ratio: TypeAlias = Annotated[float, between(0, 1, open_low=True)]
Share: TypeAlias = Annotated[float, between(1e-9, 1)]
Count: TypeAlias = Annotated[int, between(1, 10**6)]
Point: TypeAlias = tuple[Items, Ratio]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage: "scan" (embeddings), "read" (a model reads item by item), "answer" (the last: all in one context).

    keep: items that go on; of every stage but the last.  item_tokens: tokens that it reads of an item; default: the
    plan's.  max_s: bound on its seconds.  recall: a table of (items kept, recall) in place of the law.
    scan: tier, dimensions, precision of the vectors, together (questions of a pass at the most; 1: each alone),
    visited_ratio (of an approximate index) and found_ratio (of what an exact one finds).
    read, answer: model and precision (default: as published).
    """

    name: Named
    kind: Annotated[str, one_of(KINDS)]
    chip: Named
    keep: Items | None = None
    model: Text = ""
    precision: Text = ""
    tier: Annotated[str, one_of(("", *TIERS))] = ""
    dimensions: Annotated[int, between(0, 10**6)] = 0
    visited_ratio: Share = 1.0
    found_ratio: Ratio = 1.0
    together: Annotated[int, between(1, 2**20)] | None = None
    item_tokens: Tokens | None = None
    recall: Annotated[tuple[Point, ...], sized(0, 1000)] = ()
    max_s: Seconds | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    """A module of weights that is used now and then: of a model, or of so many bytes; kept on a chip, or in `tier`."""

    name: Named
    chip: Named
    tier: Annotated[str, one_of(TIERS)]
    uses_per_s: Rate
    model: Text = ""
    bytes: Annotated[float, between(1, 1e18)] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadePlan:
    """A corpus, questions, and stages.

    load: share of its rate at which a stage is loaded; default: the fact row cascade.load_ratio.  replicas: of every
    stage, at the least.  recall: that the cheapest sizes of the stages must reach.
    contexts, models, chips: lengths of context that are read by attending to all of them, by which models (default: the
    last stage's) on which chips (default: its chip), contexts_s: within so many seconds (default: as cheap as can be);
    bound_s, fleet_chips: where that ends.
    """

    corpus_tokens: Tokens
    item_tokens: Tokens = 1000.0
    question_tokens: Short = 64.0
    answer_tokens: Short = 500.0
    questions_per_s: Rate = 1.0
    load: Share | None = None
    replicas: Count = 1
    recall: Ratio | None = None
    stages: Annotated[tuple[Stage, ...], sized(1, 20)]
    contexts: Annotated[tuple[Tokens, ...], sized(0, 100)] = (1e6, 1e7, 1e12)
    models: Annotated[tuple[Named, ...], sized(0, 100)] = ()
    chips: Annotated[tuple[Named, ...], sized(0, 20)] = ()
    contexts_s: Seconds | None = None
    bound_s: Seconds = 60.0
    fleet_chips: Annotated[int, between(1, 2**24)] = 1024
    modules: Annotated[tuple[Module, ...], sized(0, 100)] = ()

    @property
    def items(self) -> float:
        """Items of the corpus."""
        return self.corpus_tokens / self.item_tokens


MOST_PAIRS, MOST_CONTEXTS = 32, 256
"""models times chips, and those times contexts, that are read by attending to all: seconds of processor time"""


def read_plan(path: Path) -> CascadePlan:
    """The plan of a TOML file; BadInput names the file and the key of a mistake."""
    check_regular(path)
    return plan_of(toml_tree(path), shortened(str(path), 200))


def plan_of(tree: Mapping[str, Any], where: str = "the plan") -> CascadePlan:
    """The plan of nested tables, such as a TOML file holds."""
    plan = built(CascadePlan, tree, where)
    for key, problem in _problems(plan):
        raise BadInput(f"{where}: {key} {problem}")
    return plan


def checked(plan: CascadePlan) -> CascadePlan:
    """A plan that was made in Python, checked as one from a file is."""
    return plan_of(json.loads(json.dumps(asdict(plan))))


def _problems(plan: CascadePlan) -> Iterator[tuple[str, str]]:
    if plan.item_tokens > plan.corpus_tokens:
        yield "item_tokens", f"is {plan.item_tokens:g}, more than the corpus of {plan.corpus_tokens:g} tokens"
    pairs = max(len(plan.models), 1) * max(len(plan.chips), 1)
    if pairs > MOST_PAIRS:
        yield "models", f"and chips make {pairs:,} pairs; at most {MOST_PAIRS} are priced at once"
    if pairs * len(plan.contexts) > MOST_CONTEXTS:
        yield (
            "contexts",
            f"times models and chips are {pairs * len(plan.contexts):,}; at most {MOST_CONTEXTS} are priced at once",
        )
    names = [stage.name for stage in plan.stages]
    items, last = plan.items, len(plan.stages) - 1
    for place, stage in enumerate(plan.stages):
        key = f"stages[{place}]"
        if names.count(stage.name) > 1:
            yield f"{key}.name", f"is {stage.name!r}, as another stage's; give each its own"
        if (stage.kind == ANSWER) != (place == last):
            yield f"{key}.kind", f"is {stage.kind!r}; the last stage, and only that, is {ANSWER!r}"
        yield from _kind_problems(stage, key)
        if stage.kind == ANSWER:
            continue
        if stage.keep is None:
            yield f"{key}.keep", "is missing: how many items go on to the next stage"
        elif stage.keep > items:
            yield f"{key}.keep", f"is {stage.keep:g} of the {items:g} items that it gets; a stage cannot add items"
        else:
            items = stage.keep
        yield from _table_problems(stage, key)
    for place, module in enumerate(plan.modules):
        if bool(module.model) == (module.bytes is not None):
            yield f"modules[{place}].bytes", "or model must be given, and not both"


def _kind_problems(stage: Stage, key: str) -> Iterator[tuple[str, str]]:
    scans = stage.kind == SCAN
    if scans and not stage.tier:
        yield f"{key}.tier", f"is missing: where the vectors are kept ({', '.join(TIERS)})"
    if scans and not stage.dimensions:
        yield f"{key}.dimensions", "is missing: the values of one vector"
    if not scans and not stage.model:
        yield f"{key}.model", "is missing: the model that reads"
    of_scans = ("tier", "dimensions", "together", "visited_ratio", "found_ratio")
    others = {"scan": ("model", "item_tokens"), "read": of_scans, "answer": ("keep", "recall", *of_scans)}
    for name in others[stage.kind]:
        if getattr(stage, name) != getattr(_BARE, name):
            yield f"{key}.{name}", f"has no meaning for a stage of kind {stage.kind!r}; leave it out"


def _table_problems(stage: Stage, key: str) -> Iterator[tuple[str, str]]:
    for (kept, found), (more, better) in zip(stage.recall, stage.recall[1:], strict=False):
        if more <= kept or better < found:
            yield f"{key}.recall", f"goes from ({kept:g}, {found:g}) to ({more:g}, {better:g}); both columns must grow"


_BARE = Stage(name="bare", kind=READ, chip="none")
