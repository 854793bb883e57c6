"""What a search is asked and what it answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from flashstill.arch import Architecture
from flashstill.cost import Speculation
from flashstill.economics import RENTED, HourlyPrice
from flashstill.errors import BadInput

NOT_FITTING = "does not fit in memory"
TIERS = ("memory", "sram", "host")
MOST_CHIPS, MOST_BATCH, MOST_BATCHES = 2**20, 10**9, 1000
MOST_CONFIGURATIONS, MOST_AT_ONCE = 20_000_000, 1_000_000
"""of a whole search, and of one chip, precision, placement and draft, which are priced together in memory"""
OBJECTIVES = ("tpot_s", "tokens_per_s_per_chip", "joules_per_output_token", "usd_per_million_output_tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is searched for. Bounds are None where they do not matter; precisions: "published" or formats.

    kv_precisions: None for what goes with the weights.  tiers: where weights and cache may lie, each by itself.
    engine: None for the default of each chip.  price: the basis on which all chips are priced.
    """

    model: Architecture
    chips: tuple[str, ...]
    max_chips: int
    isl: int
    osl: int
    precisions: tuple[str, ...] = ("published",)
    kv_precisions: tuple[str | None, ...] = (None,)
    tiers: tuple[str, ...] = ("memory", "sram")
    engine: str | None = None
    speculations: tuple[Speculation | None, ...] = (None,)
    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    min_tokens_per_s: float | None = None
    batches: tuple[int, ...] = tuple(2**power for power in range(13))
    price: str = RENTED


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
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
class Found:
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
    front: tuple[Point, ...]
    prices: dict[str, HourlyPrice] = field(default_factory=dict)
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The document that `plan --json` prints."""
        return asdict(self)


def check(question: Question) -> None:
    """Raise BadInput for a question that makes no sense."""
    if question.max_chips < 1 or question.isl < 1 or question.osl < 1:
        raise BadInput("max chips, isl and osl must be at least 1")
    if question.max_chips > MOST_CHIPS:
        raise BadInput(f"max chips is {question.max_chips:,}; a search looks at up to {MOST_CHIPS:,}")
    if len(question.batches) > MOST_BATCHES:
        raise BadInput(f"batch has {len(question.batches):,} entries; a search takes up to {MOST_BATCHES:,}")
    if not all(1 <= batch <= MOST_BATCH for batch in question.batches):
        raise BadInput(f"batch must lie between 1 and {MOST_BATCH:,}, not reach {max(question.batches):,}")
    for name in ("max_ttft_s", "max_tpot_s", "min_tokens_per_s"):
        bound = getattr(question, name)
        if bound is not None and not bound > 0:
            raise BadInput(f"the bound {name} must be above 0, not {bound}")
    if question.max_tpot_s is not None and question.osl == 1:
        raise BadInput(
            "one output token has no time per token after the first; leave the bound on it out, or raise osl"
        )
    if question.isl + question.osl > question.model.context:
        raise BadInput(
            f"isl + osl = {question.isl + question.osl} is beyond the {question.model.context} tokens that"
            f" {question.model.name} was made for"
        )


def check_size(layouts: int, batches: int, tables: int) -> None:
    """Raise BadInput, before memory is taken, for a search that would not end or not fit.

    tables: combinations of chips, precisions, placements and drafts; each is priced with every layout and batch.
    """
    each = layouts * batches
    if each <= MOST_AT_ONCE and each * tables <= MOST_CONFIGURATIONS:
        return
    raise BadInput(
        f"{layouts:,} layouts x {batches:,} batches x {tables:,} combinations of chips, precisions, tiers and drafts"
        f" are {each * tables:,} configurations; a search prices up to {MOST_CONFIGURATIONS:,}, and {MOST_AT_ONCE:,}"
        " of one combination: lower --max-chips, or give fewer of --batch, --chips-from, --precision or --tiers"
    )
