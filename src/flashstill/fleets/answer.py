"""The answer of fleet sizing: the fleet, what proves it, and what other bounds and more traffic would cost."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from flashstill.fleets.copies import layout_name
from flashstill.plan.deployment import Deployment
from flashstill.tables import Displayed, Table, cell

CO_LOCATED, DISAGGREGATED = "co-located", "disaggregated"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """Equal replicas of one deployment. replicas: in the busiest window; replicas_by_window: in each (one number if the
    trace fits into one window).

    Where prefill has replicas of its own, the others only decode, and `deployment` has the layouts of both; or, where
    these are on another kind of chip, `prefill_deployment` is one of them.
    """

    deployment: Deployment
    replicas: int
    replicas_by_window: tuple[int, ...]
    usd_per_hour_of_a_replica: float
    prefill_replicas: int = 0
    prefill_replicas_by_window: tuple[int, ...] = ()
    usd_per_hour_of_a_prefill_replica: float | None = None
    prefill_deployment: Deployment | None = None

    @property
    def kind(self) -> str:
        """co-located or disaggregated."""
        return DISAGGREGATED if self.prefill_replicas else CO_LOCATED

    @property
    def chips(self) -> int:
        """Chips in the busiest window."""
        assert self.deployment.chips is not None, "filled in when the layout was resolved"
        each = (self.prefill.chips or 0) if self.prefill_replicas else 0
        return self.replicas * self.deployment.chips + self.prefill_replicas * each

    @property
    def prefill(self) -> Deployment:
        """One prefill replica, where there are any."""
        return self.prefill_deployment or self.deployment.of_prefill

    @property
    def design(self) -> tuple[Deployment, Deployment | None]:
        """What its replicas are, whatever their number."""
        return self.deployment, self.prefill_deployment

    @property
    def name(self) -> str:
        """For people: 2 x 4 x h100-sxm (tp4); or prefill 1 x 4 x h100-sxm (tp4), decode 2 x ..."""
        decode = f"{self.replicas} x {layout_name(self.deployment)}"
        if not self.prefill_replicas:
            return decode
        return f"prefill {self.prefill_replicas} x {layout_name(self.prefill)}, decode {decode}"

    @property
    def keywords(self) -> dict[str, Any] | None:
        """What `flashstill.simulate` takes to serve requests with it, in the busiest window; None where the pools hold
        the weights in two formats, which it does not take."""
        used, other = self.deployment, self.prefill_deployment
        if other is not None:
            if other.precision != used.precision:
                return None
            used = used.with_prefill(other)
        copies: dict[str, Any] = {"replicas": self.replicas, "prefill_replicas": self.prefill_replicas or None}
        copies["prefill_chip"] = None if other is None else other.chip
        return used.told | {name: value for name, value in copies.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {"kind": self.kind, "chips": self.chips, "name": self.name}


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """What simulation shows. seeds: those in which the fleet keeps all bounds; worst: the largest value of each
    percentile over them, in seconds.  fewer_...: one replica fewer (in the busiest window) breaks this bound, with this
    many seconds, under this seed; None for a single replica.  busy: share of the time in which replicas work.
    prefill_busy, fewer_prefills_...: the same of replicas that only prefill; None without them."""

    seeds: int
    worst: dict[str, float]
    busy: float
    preemptions: int
    fewer_breaks: str | None
    fewer_seconds: float | None
    fewer_seed: int | None
    prefill_busy: float | None = None
    fewer_prefills_breaks: str | None = None
    fewer_prefills_seconds: float | None = None
    fewer_prefills_seed: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Binds:
    """What keeps the fleet from being cheaper. bound: that one replica fewer breaks; batch: what ends the number of
    sequences that decode at a time by the closed form (tpot, memory, ...), at `batch_sequences`; whole_replicas:
    replicas over those that the mean load would keep busy at that batch."""

    bound: str | None
    batch: str
    batch_sequences: float
    whole_replicas: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """The cheapest fleet of another question, or the reasons against all. times: its dollars over those of the asked
    one (for scales: per request).  seeds: how many it was proved with; seconds: of the trace that was simulated."""

    question: str
    fleet: Fleet | None
    usd_per_hour: float | None
    times: float | None
    lower_bound_usd_per_hour: float | None
    seeds: int
    seconds: float
    infeasible: dict[str, int]

    @property
    def gap(self) -> float | None:
        """Dollars above the lower bound, over it."""
        return _gap(self.usd_per_hour, self.lower_bound_usd_per_hour)


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetPlan(Displayed):
    """The cheapest fleet found, its proof, its distance from the lower bound, and variants of the question.

    usd_per_hour: mean over the trace, of replicas by window.  flips: scales at which another design is the cheapest.
    considered: layouts that were looked at by the closed form; simulated: runs.  co_located_usd_per_hour: of the best
    fleet without a prefill pool in the busiest window; None if none keeps the bounds.  pairs: of pools that might have
    been cheaper than it; None where fleets with a prefill pool are left out.  price_basis: source of the dollars per
    hour; prefill_price_basis: of those of a prefill pool on another kind of chip.
    """

    model: str
    slo: tuple[str, ...]
    requests: int
    span_s: float
    fleet: Fleet
    usd_per_hour: float
    usd_per_million_output_tokens: float
    lower_bound_usd_per_hour: float
    price_basis: str
    proof: Proof
    binds: Binds
    price_of_a_nine: Variant
    price_of_halving: dict[str, Variant]
    scales: tuple[Variant, ...]
    flips: tuple[str, ...]
    considered: int
    simulated: int
    infeasible: dict[str, int]
    window_s: float
    notes: tuple[str, ...]
    co_located_usd_per_hour: float | None = None
    pairs: int | None = None
    prefill_price_basis: str | None = None

    @property
    def gap(self) -> float:
        """Dollars above the lower bound, over it."""
        return _gap(self.usd_per_hour, self.lower_bound_usd_per_hour) or 0.0

    def as_dict(self) -> dict[str, Any]:
        """The document that `plan --trace --json` prints."""
        values = asdict(self)
        values["gap"] = self.gap
        values["fleet"] = self.fleet.as_dict()
        variants = [
            (self.price_of_a_nine, values["price_of_a_nine"]),
            *((each, values["price_of_halving"][name]) for name, each in self.price_of_halving.items()),
            *zip(self.scales, values["scales"], strict=True),
        ]
        for variant, plain in variants:
            plain["gap"] = variant.gap
            if variant.fleet is not None:
                plain["fleet"] = variant.fleet.as_dict()
        return values

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row for the fleet and each variant."""
        rows = [
            {
                "question": "as asked",
                "fleet": self.fleet.name,
                "usd_per_hour": self.usd_per_hour,
                "times": 1.0,
                "lower_bound_usd_per_hour": self.lower_bound_usd_per_hour,
                "gap": self.gap,
            }
        ]
        for each in (self.price_of_a_nine, *self.price_of_halving.values(), *self.scales):
            rows.append(
                {
                    "question": each.question,
                    "fleet": each.fleet.name if each.fleet else "none: " + ", ".join(each.infeasible),
                    "usd_per_hour": each.usd_per_hour,
                    "times": each.times,
                    "lower_bound_usd_per_hour": each.lower_bound_usd_per_hour,
                    "gap": each.gap,
                }
            )
        return rows

    def by_window(self) -> list[dict[str, Any]]:
        """One flat row for each window of the trace: where it begins, replicas that run in it, and dollars an hour of
        these; without what a cold start pays for before."""
        fleet = self.fleet
        prefill = fleet.prefill_replicas_by_window or (0,) * len(fleet.replicas_by_window)
        return [
            {
                "start_s": at * self.window_s,
                "replicas": count,
                "prefill_replicas": before,
                "usd_per_hour": count * fleet.usd_per_hour_of_a_replica
                + before * (fleet.usd_per_hour_of_a_prefill_replica or 0.0),
            }
            for at, (count, before) in enumerate(zip(fleet.replicas_by_window, prefill, strict=True))
        ]

    def _table(self) -> Table:
        names = ("question", "fleet", "usd_per_hour", "times", "lower_bound_usd_per_hour", "gap")
        return Table(names, [[cell(row[name]) for name in names] for row in self.as_records()], self.fleet.name)


def _gap(cost: float | None, bound: float | None) -> float | None:
    if cost is None or bound is None or not math.isfinite(bound) or bound <= 0.0:
        return None
    gap = cost / bound - 1.0
    return 0.0 if abs(gap) < 1e-6 else gap
