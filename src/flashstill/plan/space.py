"""Among which deployments a search chooses, and what it finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from flashstill.arch import Architecture
from flashstill.economics import HourlyPrice
from flashstill.errors import BadInput, check_counts, unknown
from flashstill.facts import Facts
from flashstill.plan.deployment import AS_PUBLISHED, known_engine, known_precision
from flashstill.plan.scenario import Scenario, check_bounds, check_scenario
from flashstill.tables import cell, html_table

TIERS = ("memory", "sram", "host")
MOST_CHIPS, MOST_BATCH, MOST_BATCHES = 2**20, 10**9, 1000
MOST_CONFIGURATIONS, MOST_AT_ONCE = 20_000_000, 1_000_000
"""of a whole search, and of one chip, precision, placement and draft, which are priced together in memory"""
OBJECTIVES = ("tpot_s", "tokens_per_s_per_chip", "joules_per_output_token", "usd_per_million_output_tokens")
SHOWN = 30
"""configurations that a notebook shows"""
BATCHES = tuple(2**power for power in range(13))


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """What may be chosen from. Of each kind every choice is tried with every choice of the others.

    chips: names.  max_chips: the most of one configuration.  batches: requests in flight.
    precisions: "published" or formats; kv_precisions: None for what goes with the weights.
    tiers: where weights and cache may lie, each by itself.  engine: None for the default of each chip.
    draft_tokens: how many tokens the scenario's draft runs ahead, where it has one; not to draft is always tried.
    """

    chips: tuple[str, ...]
    max_chips: int
    batches: tuple[int, ...] = BATCHES
    precisions: tuple[str, ...] = (AS_PUBLISHED,)
    kv_precisions: tuple[str | None, ...] = (None,)
    tiers: tuple[str, ...] = ("memory", "sram")
    engine: str | None = None
    draft_tokens: tuple[int, ...] = (1, 3, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """One configuration with its figures.

    tpot_s: None where one token is asked for.  usd_...: None where no price of the chip is known.
    """

    chip: str
    chips: int
    tp: int
    pp: int
    ep: int
    dp: int
    batch: int
    precision: str
    kv_precision: str
    weights_in: str
    kv_in: str
    speculated_tokens: int
    draft: str
    engine: str
    tpot_s: float | None
    ttft_s: float
    output_tokens_per_s: float
    tokens_per_s_per_chip: float
    joules_per_output_token: float
    usd_per_million_output_tokens: float | None
    watts_per_chip: float
    usd_per_chip_hour: float | None = None
    price_basis: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """The front, sorted by time per token, and how it was reached.

    priced: got time, energy, dollars and fit.  weights_dominate_below: for each chip, the batch below which it
    spends most of the energy of its work on moving weights from its main memory.  prices: of each chip, dollars an
    hour (None where no price is known: such a chip cannot win on dollars) and on what basis.  note: what of the model's
    config was left out or understood otherwise, in words.
    """

    evaluated: int
    priced: int
    feasible: int
    seconds: float
    infeasible: dict[str, int]
    weights_dominate_below: dict[str, int | None]
    front: tuple[Configuration, ...]
    prices: dict[str, HourlyPrice] = field(default_factory=dict)
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The document that `plan --json` prints."""
        return asdict(self)

    def as_records(self) -> list[dict[str, Any]]:
        """A flat row for each configuration of the front."""
        return [asdict(configuration) for configuration in self.front]

    def _repr_html_(self) -> str:
        shown = ("chip", "chips", "tp", "pp", "ep", "dp", "batch", "precision", "weights_in", *OBJECTIVES)
        rows = [[cell(record[name]) for name in shown] for record in self.as_records()[:SHOWN]]
        title = f"{self.evaluated:,} evaluated, {self.feasible:,} feasible, {len(self.front)} on the Pareto front"
        return html_table(shown, rows, title)


def normalised(facts: Facts, space: SearchSpace) -> SearchSpace:
    """The same with every name as we spell it and every choice once; BadInput or MissingFact for unknown ones."""
    for name in space.tiers:
        if name not in TIERS:
            raise BadInput(unknown("tier", name, TIERS))
    return SearchSpace(
        chips=_once(facts.machine(name).name for name in space.chips),
        max_chips=space.max_chips,
        batches=tuple(sorted(set(space.batches))),
        precisions=_once(name if name == AS_PUBLISHED else known_precision(name) for name in space.precisions),
        kv_precisions=_once(None if name is None else known_precision(name) for name in space.kv_precisions),
        tiers=_once(space.tiers),
        engine=None if space.engine is None else known_engine(space.engine),
        draft_tokens=_once(space.draft_tokens),
    )


def _once(choices: Iterable[Any]) -> tuple[Any, ...]:
    """Every choice once, in the order in which they are given."""
    return tuple(dict.fromkeys(choices))


def check_search(scenario: Scenario, model: Architecture, space: SearchSpace) -> None:
    """Raise BadInput for a search that makes no sense."""
    check_counts({"max chips": space.max_chips})
    if scenario.context is not None:
        raise BadInput("a search is for serving requests: give isl and osl, not the context of one step")
    if space.max_chips > MOST_CHIPS:
        raise BadInput(f"max chips is {space.max_chips:,}; a search looks at up to {MOST_CHIPS:,}")
    if len(space.batches) > MOST_BATCHES:
        raise BadInput(f"batch has {len(space.batches):,} entries; a search takes up to {MOST_BATCHES:,}")
    if not all(1 <= batch <= MOST_BATCH for batch in space.batches):
        raise BadInput(f"batch must lie between 1 and {MOST_BATCH:,}, not reach {max(space.batches):,}")
    check_bounds(scenario)
    check_scenario(scenario, model)


def check_size(layouts: int, batches: int, tables: int) -> None:
    """Raise BadInput, before memory is taken, for a search that would not end or not fit.

    tables: combinations of chips, precisions, placements and drafts; each is priced with every layout and batch.
    """
    per_combination = layouts * batches
    if per_combination <= MOST_AT_ONCE and per_combination * tables <= MOST_CONFIGURATIONS:
        return
    raise BadInput(
        f"{layouts:,} layouts x {batches:,} batches x {tables:,} combinations of chips, precisions, tiers and drafts"
        f" are {per_combination * tables:,} configurations; a search prices up to {MOST_CONFIGURATIONS:,}, and"
        f" {MOST_AT_ONCE:,} of one combination:"
        " lower --max-chips, or give fewer of --batch, --chips-from, --precision or --tiers"
    )
