"""What a capacity plan says: chip kinds, products with their demand, training runs, the horizon and the objective.

Hours count from the beginning of the plan.  In the file an hour may also be written as a date ("2026-03-01", or
"2026-03-01T06:00"), where the plan has a `start`, in whose time zone dates without one are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypeAlias

from flashstill.checked import Amount, between, one_of, shaped, sized
from flashstill.units import HOURS_PER_DAY

MOST_HOURS, MOST_CHIPS = 500_000.0, 100_000_000
OBJECTIVES = ("served", "cost", "training")
PAID = ("always", "used")
SHAPES = ("flat", "day")
THROUGHPUTS = ("plan", "simulate")


def _unlike_a_name(text: str) -> str:
    if not 0 < len(text) <= 64:
        return "have 1 to 64 characters"
    return "" if text.isprintable() and text.strip() == text else "be one printable word or more"


Name: TypeAlias = Annotated[str, shaped(_unlike_a_name)]
Text: TypeAlias = Annotated[str, sized(1, 4096)]
Hour: TypeAlias = Annotated[float, between(0, MOST_HOURS)]
Span: TypeAlias = Annotated[float, between(0, MOST_HOURS, open_low=True)]
Chips: TypeAlias = Annotated[int, between(0, MOST_CHIPS)]
Share: TypeAlias = Annotated[float, between(0, 1, open_high=True)]
Ratio: TypeAlias = Annotated[float, between(0, 1)]
Factor: TypeAlias = Annotated[float, between(0, 1e6, open_low=True)]
Count: TypeAlias = Annotated[int, between(1, 10**9)]
Tokens: TypeAlias = Annotated[int, between(1, 10**16)]
Seconds: TypeAlias = Annotated[float, between(0, 1e6, open_low=True)]
Named: TypeAlias = Annotated[str, sized(0, 4096)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Purchase:
    """Chips that arrive at an hour and stay. usd_per_hour: of each; None: what the others of the kind cost."""

    at: Hour
    count: Annotated[int, between(1, MOST_CHIPS)]
    usd_per_hour: Amount | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Maintenance:
    """Chips out of service from `start` until `end`: a number of them, or a share of those that are there."""

    start: Hour
    end: Hour
    chips: Chips = 0
    share: Ratio = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ChipKind:
    """Chips of one kind.

    chip: its name in the fact tables, for prices and throughputs; empty: `name`.
    usd_per_hour: of a chip; or usd_purchase: what one costs to buy, from which an owned hour follows; neither: the
    price of the fact tables.  paid: always (owned or reserved chips), or used (by the hour: `count` is the most).
    maintenance_share: mean share of chips that are being serviced at any time.  failure_share: mean share that is
    broken, `fails_together` chips at a time (a host); the plan's `nines` say how sure the rest must be.
    """

    name: Name
    count: Chips
    chip: Named = ""
    usd_per_hour: Amount | None = None
    usd_purchase: Amount | None = None
    paid: Annotated[str, one_of(PAID)] = "always"
    maintenance_share: Share = 0.0
    maintenance: tuple[Maintenance, ...] = ()
    failure_share: Share = 0.0
    fails_together: Count = 8
    purchases: tuple[Purchase, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """A new generation of a product's model: from hour `at` on, requests ask for so many times the tokens of the first
    generation, and there are so many times as many."""

    at: Hour
    input_tokens_factor: Factor = 1.0
    output_tokens_factor: Factor = 1.0
    requests_factor: Factor = 1.0
    model: Named = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """Requests that are owed an answer by a model, which may be left out where tokens_per_s_per_chip is given.

    peak_requests_per_s x shape: "flat", "day" (a cosine between trough_ratio and 1, highest at peak_hour), or 24 or 168
    numbers relative to the peak, which repeat; or demand_csv: a file with the columns hour and requests_per_s.  Where
    the plan has a start, peak_hour and 24 numbers go by its clock and 168 begin on Monday; else by the plan's hours.
    growth_per_year: factor of demand after a year, compounding by the hour.
    tokens_per_s_per_chip: output tokens a second of one chip of each kind; kinds left out are found by a search of
    `plan` under the latency bounds, with up to max_chips a replica, and with throughput = "simulate" by the knee of
    such a replica.  Where it is given, only its kinds serve the product.
    usd_per_million_tokens: what an output token earns; with the objective "cost" one that earns less than it costs may
    stay unserved.
    """

    name: Name
    model: Named = ""
    input_tokens: Count
    output_tokens: Count
    peak_requests_per_s: Amount | None = None
    shape: str | tuple[float, ...] = "flat"
    trough_ratio: Ratio = 0.3
    peak_hour: Annotated[float, between(0, 24)] = 15.0
    demand_csv: Named = ""
    growth_per_year: Factor = 1.0
    generations: tuple[Generation, ...] = ()
    tokens_per_s_per_chip: dict[str, Amount] | None = None
    throughput: Annotated[str, one_of(THROUGHPUTS)] = "plan"
    kinds: tuple[str, ...] = ()
    max_ttft_s: Seconds | None = None
    max_tpot_s: Seconds | None = None
    max_chips: Annotated[int, between(1, 2**16)] = 16
    precision: Text = "published"
    usd_per_million_tokens: Amount | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A training run.

    chip_hours: what all of it takes on each kind that it may use; or model and tokens, from which they follow: by
    `mfu`, or else predicted for `batch` sequences of `length` tokens a step.
    gang: fewest and most chips at a time of each kind (none: any number); a gang is of one kind at a time.
    restart_hours: hours of the whole gang that are lost whenever it starts, changes its size or moves.
    value_usd_per_hour: what finishing an hour earlier is worth.  teacher: the run that must have finished before.
    """

    name: Name
    deadline: Hour
    start: Hour = 0.0
    chip_hours: dict[str, Amount] | None = None
    model: Named = ""
    tokens: Tokens | None = None
    mfu: Annotated[float, between(0, 1, open_low=True)] | None = None
    batch: Count | None = None
    length: Count = 4096
    kinds: tuple[str, ...] = ()
    gang: dict[str, tuple[int, ...]] | None = None
    restart_hours: Amount = 0.0
    value_usd_per_hour: Amount = 0.0
    teacher: Named = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CapacityPlan:
    """The whole plan. objective: "served" (all demand and all deadlines, at the least cost), "cost" (the same, but
    demand with a price may stay unserved), or "training" (all demand; then runs as early as possible).

    nines: how sure it must be that enough chips work, in nines of probability per hour (3: 99.9 %).
    """

    horizon_hours: Span
    chips: Annotated[tuple[ChipKind, ...], sized(1, 64)]
    products: Annotated[tuple[Product, ...], sized(0, 256)] = ()
    runs: Annotated[tuple[Run, ...], sized(0, 64)] = ()
    distillations: Annotated[tuple[Run, ...], sized(0, 64)] = ()
    step_hours: Span = 1.0
    start: Named = ""
    objective: Annotated[str, one_of(OBJECTIVES)] = "served"
    nines: Annotated[float, between(0, 12)] = 0.0

    @property
    def trainings(self) -> tuple[Run, ...]:
        """All runs, frontier runs first."""
        return (*self.runs, *self.distillations)

    @property
    def periods(self) -> int:
        """Number of steps."""
        return round(self.horizon_hours / self.step_hours)

    @property
    def clock_hours(self) -> float:
        """Hours from Monday, 0:00, until the beginning of the plan; 0 without a start."""
        if not self.start:
            return 0.0
        begin = datetime.fromisoformat(self.start)
        return begin.weekday() * HOURS_PER_DAY + begin.hour + begin.minute / 60.0 + begin.second / 3600.0
