"""The search space of deployments, and the result of a search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from flashstill.arch import Architecture
from flashstill.economics import HourlyPrice
from flashstill.errors import BadInput, check_counts, unknown
from flashstill.facts import Facts
from flashstill.plan.deployment import APART, AS_PUBLISHED, known_engine, known_overlap, known_precision
from flashstill.plan.scenario import MOST_BATCH, Scenario, check_bounds, check_scenario
from flashstill.plan.worth_lines import worth_lines
from flashstill.tables import Displayed, Table, records_table

TIERS = ("memory", "sram", "host")
MOST_CHIPS, MOST_BATCHES, MOST_REDUNDANT = 2**20, 1000, 100
MOST_CONFIGURATIONS, MOST_AT_ONCE = 20_000_000, 1_000_000
"""limits: of a whole search, and of one combination of chip, precision, placement and draft (priced in memory at
once)"""
NO_PRECISION, NO_TIER = "the chip lacks the precision", "the chip has none of the memory tiers"
"""reasons for which all configurations of a chip are left out"""
OBJECTIVES = ("tpot_s", "tokens_per_s_per_chip", "joules_per_output_token", "usd_per_million_output_tokens")
BATCHES = tuple(2**power for power in range(13))


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """The choices of a search; every combination of them is tried.

    chips: names.  max_chips: the most chips of one configuration.  batches: requests in flight.
    precisions: "published" or formats; kv_precisions: None for the format that goes with the weights.
    tiers: memory tiers for weights and cache, chosen independently.  engine: None for the default of each chip.
    redundant_experts: numbers of them to try; None for the fewest that let ep divide.  overlaps: "none", "two-batch".
    disaggregated: also try prefill and decoding on pools of their own.
    draft_tokens: numbers of drafted tokens to try if the scenario has a draft; no drafting is always tried too.
    """

    chips: tuple[str, ...]
    max_chips: int
    batches: tuple[int, ...] = BATCHES
    precisions: tuple[str, ...] = (AS_PUBLISHED,)
    kv_precisions: tuple[str | None, ...] = (None,)
    tiers: tuple[str, ...] = ("memory", "sram")
    engine: str | None = None
    draft_tokens: tuple[int, ...] = (1, 3, 5)
    redundant_experts: tuple[int | None, ...] = (None,)
    overlaps: tuple[str, ...] = (APART,)
    disaggregated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """One configuration with its figures.

    chips: of all pools.  prefill_...: of each prefill instance, 0 if all chips prefill and decode; the other degrees
    are those of the decode pool.
    tpot_s: None if only one output token is asked for.  usd_...: None if no price of the chip is known.
    KIND_usd_...: of the dollars, what each kind of token causes (economics/token_kinds.py).
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
    cached_usd_per_million_tokens: float | None = None
    input_usd_per_million_tokens: float | None = None
    output_usd_per_million_tokens: float | None = None
    usd_per_chip_hour: float | None = None
    price_basis: str = ""
    redundant_experts: int = 0
    overlap: str = APART
    prefill_chips: int = 0
    prefill_tp: int = 0
    prefill_pp: int = 0
    prefill_ep: int = 0
    prefill_dp: int = 0
    prefill_redundant_experts: int = 0
    prefill_instances: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult(Displayed):
    """The front, sorted by time per token, and statistics of the search.

    priced: number of configurations priced in time, energy, dollars and fit; those that cannot run (no links, no room,
    fewer requests than groups) are told by their reason without a price.
    weights_dominate_below: for each chip, the batch below which moving weights from main memory takes most of the
    dynamic energy (plan/crossover.py); empty where it was not asked for.
    prices: for each chip, dollars an hour (None if no price is known: such a chip is never on the front by dollars) and
    the price basis.  drafting: the best value of each objective with the draft and without one; empty without a draft.
    note: parts of the model's config that were ignored or reinterpreted, in words.
    """

    evaluated: int
    priced: int
    feasible: int
    seconds: float
    infeasible: dict[str, int]
    weights_dominate_below: dict[str, int | None] = field(default_factory=dict)
    front: tuple[Configuration, ...]
    prices: dict[str, HourlyPrice] = field(default_factory=dict)
    note: str = ""
    drafting: dict[str, dict[str, float | None]] = field(default_factory=dict)

    @property
    def worth_lines(self) -> list[str]:
        """What the draft is worth, in words: one line, none without a draft."""
        return worth_lines(self.drafting)

    def as_dict(self) -> dict[str, Any]:
        """The document that `plan --json` prints."""
        return asdict(self)

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per configuration of the front."""
        return [asdict(configuration) for configuration in self.front]

    def _table(self) -> Table:
        shown = ("chip", "chips", "tp", "pp", "ep", "dp", "batch", "precision", "weights_in", *OBJECTIVES)
        title = f"{self.evaluated:,} evaluated, {self.feasible:,} feasible, {len(self.front)} on the Pareto front"
        return records_table(self.as_records(), shown, title)


def normalised(facts: Facts, space: SearchSpace) -> SearchSpace:
    """The space with canonical names and without duplicates; BadInput or MissingFact for unknown names."""
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
        redundant_experts=_once(space.redundant_experts),
        disaggregated=space.disaggregated,
        overlaps=_once(known_overlap(name) for name in space.overlaps),
    )


def _once(choices: Iterable[Any]) -> tuple[Any, ...]:
    """Choices without duplicates, in the given order."""
    return tuple(dict.fromkeys(choices))


def check_search(scenario: Scenario, model: Architecture, space: SearchSpace) -> None:
    """Raise BadInput for an invalid search."""
    check_counts({"max chips": space.max_chips})
    if scenario.context is not None:
        raise BadInput("a search is for serving requests: give isl and osl, not the context of one step")
    if space.max_chips > MOST_CHIPS:
        raise BadInput(f"max chips is {space.max_chips:,}; a search looks at up to {MOST_CHIPS:,}")
    if len(space.batches) > MOST_BATCHES:
        raise BadInput(f"batch has {len(space.batches):,} entries; a search takes up to {MOST_BATCHES:,}")
    if not all(1 <= batch <= MOST_BATCH for batch in space.batches):
        raise BadInput(f"batch must lie between 1 and {MOST_BATCH:,}, not reach {max(space.batches):,}")
    if len(space.redundant_experts) > MOST_REDUNDANT:
        raise BadInput(
            f"redundant experts has {len(space.redundant_experts):,} entries; a search takes up to {MOST_REDUNDANT}"
        )
    if fewest := [number for number in space.redundant_experts if number is not None and number < 0]:
        raise BadInput(f"redundant experts are at least 0, not {fewest[0]}")
    if space.disaggregated and scenario.osl == 1:
        raise BadInput("with one output token nothing is decoded; leave disaggregated out, or raise osl")
    check_bounds(scenario)
    check_scenario(scenario, model)


def check_size(layouts: int, batches: int, tables: int) -> None:
    """Raise BadInput, before allocating memory, for a search that would take too long or too much memory.

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
