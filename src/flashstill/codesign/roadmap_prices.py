"""Single numbers of a roadmap, as they were known at the end of a year: dollars, the reticle, the largest offered.

A row counts from the year of its as_of on; before that, dated quotes and trends take its place.
"""

from __future__ import annotations

from flashstill.codesign.dated import latest_quote, quotes
from flashstill.codesign.future import Spread
from flashstill.codesign.regression import FEWEST
from flashstill.codesign.trends import quote_trend, wafer_trend
from flashstill.errors import MissingFact
from flashstill.facts import Fact, Facts
from flashstill.facts.table import is_users_own


def spread_of(row: Fact) -> Spread:
    """The range of a fact row."""
    return Spread(value=row.value, low=row.low, high=row.high, unit=row.unit, basis=f"{row.source}, {row.as_of}")


def users_own(facts: Facts, name: str, quantity: str, last: int) -> Spread | None:
    """A user's own number as stated by the end of `last`, which no trend replaces; None where the package gives it."""
    row = facts.get(name, quantity)
    return spread_of(row) if is_users_own(facts, name, quantity) and _stated_by(row, last) else None


def _stated_by(row: Fact, last: int) -> bool:
    """Whether an undated row holds in a year: its as_of begins with that year or an earlier one."""
    return row.as_of[:4].isdecimal() and int(row.as_of[:4]) <= last


def wafer_usd(facts: Facts, name: str, last: int) -> Spread:
    """Dollars of a wafer, as told by the end of `last`."""
    row = facts.get(name, "usd_per_wafer")
    if _stated_by(row, last):
        return spread_of(row)
    quote = latest_quote(facts, name, "usd_per_wafer_quoted")
    if quote is not None:
        return spread_of(quote.row)
    return wafer_trend(facts).at(facts.value(name, "volume_year"))


def byte_usd(facts: Facts, name: str, last: int) -> Spread:
    """Dollars of a byte of memory, as `wafer_usd`; MissingFact without a quote of its kind by then."""
    row = facts.get(name, "usd_per_byte")
    if _stated_by(row, last):
        return spread_of(row)
    kind = name.rstrip("0123456789ex")
    alike = [owner for owner, what in facts.rows if what == "usd_per_byte_quoted" and owner.startswith(kind)]
    found = [latest_quote(facts, owner, "usd_per_byte_quoted") for owner in ([name] if name in alike else alike)]
    latest = max((quote for quote in found if quote), key=lambda quote: quote.known, default=None)
    if latest is None:
        raise MissingFact(f"no price of {kind} was quoted by {last}; add a row usd_per_byte_quoted with its year")
    return spread_of(latest.row)


def priced_memories(facts: Facts, last: int) -> list[str]:
    """Memories whose price was told by the end of `last`: the others are left out of a roadmap."""
    found = []
    for name in [owner for owner, what in facts.rows if what == "volume_year" and facts.find(owner, "usd_per_byte")]:
        try:
            byte_usd(facts, name, last)
        except MissingFact:
            continue
        found.append(name)
    return found


def reticle_mm2(facts: Facts) -> Spread:
    """Largest area of one exposure, which no year changes."""
    width, height = facts.get("reticle", "width_mm"), facts.get("reticle", "height_mm")
    area = width.value * height.value
    return Spread(value=area, low=area, high=area, unit="mm2", basis=width.source)


def largest_offered(facts: Facts, name: str, quantity: str, year: int) -> Spread:
    """The largest offered by `year`: a dated row of two years before or later, or the trend of all; with fewer than
    three rows the last one."""
    dated = [quote for quote in quotes(facts, name, quantity) if quote.true <= year]
    if dated and (dated[-1].true + 2 > year or len(quotes(facts, name, quantity)) < FEWEST):
        return spread_of(dated[-1].row)
    return quote_trend(facts, f"{quantity} of {name}", quantity, (name,)).at(year)
