"""The Python face of serving costs: dollars per token of a model, and whether to host it or pay an API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from flashstill.asking import Edits, FactsLike, facts_of
from flashstill.calls import plain_value, refuses_other_keywords
from flashstill.checked import LARGEST, Number, between, built
from flashstill.economics.footprint import GRID, carbon_row
from flashstill.economics.token_prices import TokenPrice, api_price, asked_price, price_of
from flashstill.errors import BadInput, check_counts, shown
from flashstill.facts import Facts
from flashstill.plan.hosted import Hosting
from flashstill.plan.hosting import MOST_PER_DAY, host
from flashstill.plan.hosting_answer import document_of
from flashstill.tables import Displayed, Table, flat, records_table

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["TokenCosts", "economics"]
Whole = Annotated[int, between(-(10**9), 10**9)]
TPOT_S, TTFT_S = 0.05, 5.0
"""bounds where the user names none: 20 tokens/s a user, as in DeepSeek's day (open-infra-index, day 6), and 5 s"""
SHOWN = (
    "cached_ratio",
    "thinking_ratio",
    "replicas",
    "cached_usd_per_million_tokens",
    "input_usd_per_million_tokens",
    "output_usd_per_million_tokens",
    "usd_per_request",
    "api_usd_per_request",
    "break_even_requests_per_day",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Keywords:
    """Types of the keywords; what their values may be is checked where they are used."""

    chip: tuple[str, ...]
    max_chips: Whole | None
    isl: Whole
    osl: Whole
    tokens_per_day: Number | None
    requests_per_day: Number | None
    grid: str
    utilisation: Number | None
    least_replicas: Whole
    max_ttft_s: Number | None
    max_tpot_s: Number | None
    precision: str
    engine: str | None
    overlaps: tuple[str, ...]
    redundant_experts: tuple[Whole | None, ...]
    disaggregated: bool
    price: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenCosts(Displayed):
    """The answer: `document` holds what `economics --json` prints."""

    document: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The document."""
        return self.document

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per corner of the ranges, the middle first."""
        return [flat({"model": self.document["model"], "chip": self.document["chip"], **row}) for row in self.corners]

    @property
    def corners(self) -> list[dict[str, Any]]:
        """The corners of the ranges, as in the document."""
        return list(self.document["corners"])

    def _table(self) -> Table:
        return records_table(self.corners, SHOWN, f"{self.document['model']} on {self.document['chip']}")


@refuses_other_keywords
def economics(
    *,
    model: str | Architecture,
    chip: str | Sequence[str] = (),
    max_chips: int | None = None,
    isl: int = 1024,
    osl: int = 1024,
    cached: float | tuple[float, float] = 0.0,
    thinking: float | tuple[float, float] = 0.0,
    tokens_per_day: float | None = None,
    requests_per_day: float | None = None,
    api_price: str | tuple[float, float, float] | None = None,
    grid: str = GRID,
    utilisation: float | None = None,
    least_replicas: int = 1,
    max_ttft_s: float | None = TTFT_S,
    max_tpot_s: float | None = TPOT_S,
    precision: str = "published",
    engine: str | None = None,
    overlaps: Sequence[str] = ("none",),
    redundant_experts: Sequence[int | None] = (None,),
    disaggregated: bool = False,
    price: str = "rented",
    facts: FactsLike = (),
    set: Edits | None = None,
) -> TokenCosts:
    """What a million cached, input and output tokens cost on chips rented or owned, and whether an API is cheaper.

    chip: a name, several to choose from, or () for all that have a price of the basis `price`: rented, owned or list.
    isl, osl: prompt tokens, and tokens of an answer without thinking.  cached: share of a prompt found in a prefix
    cache; thinking: thinking tokens per token of an answer; each a number or (low, high).
    tokens_per_day (prompts and answers, thinking left out) or requests_per_day: the volume.  utilisation: mean load
    over the day, of what the replicas could do [the fact row server.utilisation_ratio].
    api_price: (IN, CACHED, OUT) in dollars per million tokens, or a name with fact rows; None: the model's, if known.
    overlaps, redundant_experts, disaggregated: also tried, as by `search`.
    Raises BadInput for values that cannot be, MissingFact for unknown names, InfeasiblePlan if no configuration keeps
    the bounds.
    """
    chip = (chip,) if isinstance(chip, str) else chip
    told = {
        "chip": chip, "max_chips": max_chips, "isl": isl, "osl": osl, "tokens_per_day": tokens_per_day,
        "requests_per_day": requests_per_day, "grid": grid, "utilisation": utilisation,
        "least_replicas": least_replicas, "max_ttft_s": max_ttft_s, "max_tpot_s": max_tpot_s, "precision": precision,
        "engine": engine, "overlaps": overlaps, "redundant_experts": redundant_experts,
        "disaggregated": disaggregated, "price": price,
    }  # fmt: skip
    built(_Keywords, {name: _plain(value) for name, value in told.items()}, "economics")
    if not isinstance(model, str) and not hasattr(model, "name"):
        raise BadInput(f"model is {shown(model)}, not the name of a model, a path or an Architecture")
    table = facts_of(facts, set, chip)
    carbon_row(table, grid)
    check_counts({"isl": isl, "osl": osl})
    if tokens_per_day is not None and requests_per_day is not None:
        raise BadInput("give tokens_per_day or requests_per_day, not both")
    if tokens_per_day is not None:
        if not 0.0 < tokens_per_day <= MOST_PER_DAY:
            raise BadInput(f"tokens_per_day must be above 0 and at most {MOST_PER_DAY:g}, not {tokens_per_day:g}")
        requests_per_day = tokens_per_day / (isl + osl)
    asked = Hosting(
        model=model,
        chips=tuple(chip),
        max_chips=max_chips,
        isl=isl,
        osl=osl,
        cached_ratio=_range("cached", cached),
        thinking_ratio=_range("thinking", thinking),
        requests_per_day=requests_per_day,
        utilisation_ratio=utilisation,
        least_replicas=least_replicas,
        max_ttft_s=max_ttft_s,
        max_tpot_s=None if osl == 1 else max_tpot_s,
        precision=precision,
        engine=engine,
        overlaps=tuple(overlaps),
        redundant_experts=tuple(redundant_experts),
        disaggregated=disaggregated,
        price=price,
    )
    paid = _api(table, api_price, model if isinstance(model, str) else model.name)
    return TokenCosts(document=document_of(host(table, asked, paid), grid))


def _plain(value: Any) -> Any:
    return [plain_value(each) for each in value] if isinstance(value, list | tuple) else plain_value(value)


def _range(name: str, value: Any) -> tuple[float, float]:
    ends = value if isinstance(value, tuple | list) else (value, value)
    if len(ends) != 2 or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise BadInput(f"{name} is {shown(value)}, not a number or (low, high)")
    if any(abs(end) > LARGEST for end in ends):
        raise BadInput(f"{name} is {shown(value)}, beyond all that can be priced")
    return float(ends[0]), float(ends[1])


def _api(facts: Facts, price: str | tuple[float, float, float] | None, model: str) -> TokenPrice | None:
    if price is None:
        return api_price(facts, model)
    if isinstance(price, str):
        return asked_price(facts, price)
    if (
        not isinstance(price, tuple | list)
        or len(price) != 3
        or any(isinstance(each, bool) or not isinstance(each, int | float) for each in price)
    ):
        raise BadInput(f"api_price is {shown(price)}, not (IN, CACHED, OUT) in dollars per million tokens")
    return price_of(*price)
