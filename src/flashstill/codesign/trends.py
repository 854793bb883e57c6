"""The trends of chips, memories, processes and models, fitted from dated rows.

    chips       accelerators with HBM; of each maker and year the largest value, so that variants of one die do not
                count as many
    memories    stacks of HBM, by the year of first volume
    quotes      prices, packages and lanes by the year that they speak of (dated.py)

What a chip is made of decides which rows count, not its name: a user's chip of machines.csv joins the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from flashstill.codesign.dated import quotes
from flashstill.codesign.regression import Point, Trend, fitted
from flashstill.facts import Facts

STACKED = "hbm"
"""beginning of the names of stacked memories"""
WIDE = ("bf16", "fp16")
"""formats of the trend of 16 bits: the first that a chip has"""
Measure = Callable[[Facts, str], float | None]


def band_of(facts: Facts) -> float:
    """The probability of the bands around trends: a fact row."""
    return facts.value("roadmap", "band_ratio")


def _row(quantity: str) -> Measure:
    def measure(facts: Facts, name: str) -> float | None:
        row = facts.find(name, quantity)
        return None if row is None else row.value

    return measure


def rate(precisions: tuple[str, ...]) -> Measure:
    """Dense FLOP/s in the first of the formats that a chip multiplies in."""

    def measure(facts: Facts, name: str) -> float | None:
        rates = {row.condition.split()[0]: row.value for row in facts.rows.get((name, "flops_per_s"), ())}
        return next((rates[precision] for precision in precisions if precision in rates), None)

    return measure


def over(measure: Measure, other: Measure) -> Measure:
    """The quotient of two measures of a chip."""

    def quotient(facts: Facts, name: str) -> float | None:
        upper, lower = measure(facts, name), other(facts, name)
        return None if upper is None or not lower else upper / lower

    return quotient


def _stacks(facts: Facts, name: str) -> float | None:
    """Stacks beside a chip: its bandwidth over that of a stack of its memory."""
    memory, row = facts.find(name, "memory_bytes"), facts.find(name, "memory_bytes_per_s")
    stack = facts.find(memory.condition.lower(), "stack_bytes_per_s") if memory else None
    return row.value / stack.value if row is not None and stack is not None else None


CHIPS: Mapping[str, tuple[str, str, Measure]] = MappingProxyType(
    {
        "flops_per_s.16 bits": ("16-bit FLOP/s of a chip", "FLOP/s", rate(WIDE)),
        "flops_per_s.fp8": ("fp8 FLOP/s of a chip", "FLOP/s", rate(("fp8",))),
        "flops_per_s.fp4": ("fp4 FLOP/s of a chip", "FLOP/s", rate(("fp4",))),
        "memory_bytes": ("memory of a chip", "B", _row("memory_bytes")),
        "memory_bytes_per_s": ("memory bandwidth of a chip", "B/s", _row("memory_bytes_per_s")),
        "power_limit_w": ("power limit of a chip", "W", _row("power_limit_w")),
        "link_bytes_per_s": ("link rate of a chip", "B/s", _row("link_bytes_per_s")),
        "die_mm2": ("silicon of a package", "mm2", _row("die_mm2")),
        "usd_purchase": ("price of a chip", "USD", _row("usd_purchase")),
        "flops_per_s_per_mm2.16 bits": ("16-bit FLOP/s per mm2", "FLOP/s", over(rate(WIDE), _row("die_mm2"))),
        "flops_per_s_per_mm2.fp8": ("fp8 FLOP/s per mm2", "FLOP/s", over(rate(("fp8",)), _row("die_mm2"))),
        "flops_per_s_per_mm2.fp4": ("fp4 FLOP/s per mm2", "FLOP/s", over(rate(("fp4",)), _row("die_mm2"))),
        "flops_per_s_per_w.16 bits": ("16-bit FLOP/s per watt", "FLOP/s", over(rate(WIDE), _row("power_limit_w"))),
        "stacks": ("stacks of HBM of a chip", "1", _stacks),
    }
)
"""name -> (words, unit, how a chip is measured)"""


def chip_points(facts: Facts, measure: Measure) -> tuple[Point, ...]:
    """Of each maker and year the largest value among its chips with HBM."""
    best: dict[tuple[str, int], Point] = {}
    for name, machine in facts.machines.items():
        memory = facts.find(name, "memory_bytes")
        if memory is None or not memory.condition.lower().startswith(STACKED):
            continue
        value = measure(facts, name)
        key = (machine.maker, machine.year)
        if value and (key not in best or value > best[key].value):
            best[key] = Point(name=name, year=float(machine.year), value=value)
    return tuple(sorted(best.values(), key=lambda point: (point.year, point.name)))


def chip_trend(facts: Facts, key: str) -> Trend:
    """The line of one of `CHIPS`; MissingFact with fewer than three points."""
    what, unit, measure = CHIPS[key]
    return fitted(what, unit, chip_points(facts, measure), band_of(facts))


def limit_trend(facts: Facts, key: str) -> Trend:
    """The line through the largest value of each year over all makers: of what bounds every chip, as cooling does."""
    what, unit, measure = CHIPS[key]
    largest: dict[float, Point] = {}
    for point in chip_points(facts, measure):
        if point.year not in largest or point.value > largest[point.year].value:
            largest[point.year] = point
    return fitted(f"largest {what}", unit, tuple(largest.values()), band_of(facts))


def generations(facts: Facts, until: float) -> tuple[tuple[str, float], ...]:
    """Generations of HBM with the year of their first volume, oldest first; those after `until` are left out."""
    years = [
        (name, rows[0].value)
        for (name, quantity), rows in facts.rows.items()
        if quantity == "volume_year" and name.startswith(STACKED) and rows[0].value <= until
    ]
    return tuple(sorted(years, key=lambda pair: pair[1]))


def stack_trend(facts: Facts, quantity: str, until: float) -> Trend:
    """The line of stack_bytes, stack_bytes_per_s or pj_per_bit over the generations of HBM in volume by `until`."""
    rows = [(name, year, facts.find(name, quantity)) for name, year in generations(facts, until)]
    points = [Point(name=name, year=year, value=row.value) for name, year, row in rows if row is not None]
    unit = next(row.unit for _, _, row in rows if row is not None)
    words = {"stack_bytes": "bytes of a stack of HBM", "stack_bytes_per_s": "bandwidth of a stack of HBM"}
    return fitted(words.get(quantity, f"{quantity} of HBM"), unit, points, band_of(facts))


def quote_trend(facts: Facts, what: str, quantity: str, owners: Iterable[str] | None = None) -> Trend:
    """The line of the dated rows of one quantity, of some owners or of all that have it."""
    names = owners or dict.fromkeys(name for name, known in facts.rows if known == quantity)
    found = [(name, quote) for name in names for quote in quotes(facts, name, quantity)]
    unit = found[0][1].row.unit if found else "1"
    points = [Point(name=name, year=quote.true, value=quote.row.value) for name, quote in found]
    return fitted(what, unit, points, band_of(facts))


def wafer_trend(facts: Facts) -> Trend:
    """Dollars of a wafer by the year of its process's first volume, the latest quote of each process."""
    points = []
    for (name, quantity), rows in facts.rows.items():
        last = quotes(facts, name, "usd_per_wafer_quoted") if quantity == "volume_year" else ()
        if last:
            newest = max(last, key=lambda quote: quote.known)
            points.append(Point(name=name, year=rows[0].value, value=newest.row.value))
    return fitted("dollars of a wafer", "USD", points, band_of(facts))
