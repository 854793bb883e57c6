"""What is asked of hosting a model, and what was found: a corner of the ranges, and all of them."""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.arch import Architecture
from flashstill.economics import RENTED, HourlyPrice
from flashstill.economics.prices import earned_hour
from flashstill.economics.self_hosting import BreakEven, Replica
from flashstill.economics.tco import HourCost, OwnedChip, Terms
from flashstill.economics.token_kinds import KINDS, per_million
from flashstill.economics.token_prices import TokenPrice, Tokens
from flashstill.facts import Facts
from flashstill.plan.deployment import APART
from flashstill.plan.space import Configuration

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosting:
    """The question.

    chips: names to choose from; empty: all that have a price of that basis of their own.  max_chips: of a replica.
    isl, osl: prompt tokens, and tokens of an answer without thinking.  cached_ratio, thinking_ratio: (low, high):
    share of a prompt found in a cache, thinking tokens per token of an answer.
    requests_per_day: None: only prices and break-even are asked for.  utilisation_ratio: mean load over the day, of a
    replica's full rate; None: the fact row of servers.  least_replicas: that stand whatever comes.
    overlaps, redundant_experts, disaggregated: also tried, as in `SearchSpace`.
    """

    model: str | Architecture
    chips: tuple[str, ...] = ()
    max_chips: int | None = None
    isl: int = 1024
    osl: int = 1024
    cached_ratio: Range = (0.0, 0.0)
    thinking_ratio: Range = (0.0, 0.0)
    requests_per_day: float | None = None
    utilisation_ratio: float | None = None
    least_replicas: int = 1
    max_ttft_s: float | None = None
    max_tpot_s: float | None = None
    precision: str = "published"
    engine: str | None = None
    overlaps: tuple[str, ...] = (APART,)
    redundant_experts: tuple[int | None, ...] = (None,)
    disaggregated: bool = False
    price: str = RENTED


@dataclass(frozen=True, kw_only=True, slots=True)
class Corner:
    """One point of the ranges, the configuration chosen for it, and its replica.

    parts: shares of the dollars that cached, input and output tokens cause.  api_usd: of a request; None without API.
    replicas: None where no volume is asked about.
    """

    cached_ratio: float
    thinking_ratio: float
    tokens: Tokens
    configuration: Configuration
    replica: Replica
    parts: dict[str, float]
    api_usd: float | None
    break_even: BreakEven | None
    replicas: int | None

    def usd_per_request(self, requests: float | None, utilisation_ratio: float) -> float:
        """Dollars of a request: of so many a day, or at that mean load of a replica."""
        if requests is None or self.replicas is None:
            requests, replicas = self.replica.requests_per_day * utilisation_ratio, 1
        else:
            replicas = self.replicas
        return self.replica.usd(requests, replicas) / requests

    def usd_per_million(self, requests: float | None, utilisation_ratio: float) -> dict[str, float | None]:
        """Dollars per million cached, input and output tokens; they add up to what a request costs."""
        tokens = {kind: getattr(self.tokens, kind) for kind in KINDS}
        return per_million(self.usd_per_request(requests, utilisation_ratio), self.parts, tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hosted:
    """The answer. corners: the middle of both ranges, then the ends. hour: of an owned chip that works; else None."""

    facts: Facts
    asked: Hosting
    model: Architecture
    chip: str
    price: HourlyPrice
    utilisation_ratio: float
    owned: tuple[Terms, OwnedChip] | None
    hour: HourCost | None
    api: TokenPrice | None
    corners: tuple[Corner, ...]

    @property
    def chip_hour(self) -> HourlyPrice:
        """Price of an hour in which a chip works at the middle of the ranges; an owned one's at the load told."""
        watts, told = self.middle.configuration.watts_per_chip, self.asked.utilisation_ratio
        if self.owned is None:
            return self.price.at(watts)
        return earned_hour(self.facts, self.chip, self.asked.price, watts, told)

    @property
    def middle(self) -> Corner:
        """The corner at the middle of the ranges."""
        return self.corners[0]
