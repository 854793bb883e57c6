"""Price of a chip-hour, and of a million tokens.

    rented   market price of an hour on demand; the list price if no other is known
    list     list price of a large cloud
    owned    purchase with server, network and building, over their lives at interest, and power (tco.py)

All chips of a question are priced on one basis.  A chip without a row for that basis gets the best available estimate,
labelled as such; a chip without any price gets no dollar figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import overload

from flashstill.economics.tco import owned_chip, owned_hour, terms_of, usd_per_watt_hour
from flashstill.errors import BadInput, unknown
from flashstill.facts import Fact, Facts
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION
from flashstill.workload import Quantity

BASES = ("rented", "owned", "list")
RENTED = BASES[0]
NO_PRICE = "no price is known"
_LIST, _ACCOUNTING = "list", "accounting"
AT_THE_LIMIT, AS_PREDICTED = "power at the limit", "power as predicted"


@dataclass(frozen=True, kw_only=True, slots=True)
class HourlyPrice:
    """Dollars per chip-hour, or None if no price is known. basis: rented, owned or list, with its source.

    limit_w, usd_per_watt_hour: of an owned chip, the watts that usd_per_hour pays for, and dollars for one more.
    """

    usd_per_hour: float | None
    basis: str
    limit_w: float = 0.0
    usd_per_watt_hour: float = 0.0

    def at(self, watts: float) -> HourlyPrice:
        """The price of an hour in which the chip draws `watts`, as predicted; the same for a chip that is not owned."""
        if self.usd_per_hour is None or not self.usd_per_watt_hour:
            return self
        dollars = self.usd_per_hour + (watts - self.limit_w) * self.usd_per_watt_hour
        return replace(self, usd_per_hour=dollars, basis=self.basis.replace(AT_THE_LIMIT, AS_PREDICTED), limit_w=watts)


def check_basis(basis: str) -> None:
    """BadInput for a price basis that is none."""
    if basis not in BASES:
        raise BadInput(unknown("price basis", basis, BASES))


def hourly_price(facts: Facts, name: str, basis: str = RENTED) -> HourlyPrice:
    """Price per hour of chip `name` on a basis, or a labelled estimate; BadInput for an unknown basis."""
    check_basis(basis)
    machine = facts.machine(name).name
    return facts.derived(("price", machine, basis), lambda: _hourly_price(facts, machine, basis))


def _hourly_price(facts: Facts, name: str, basis: str) -> HourlyPrice:
    rows = [row for row in facts.rows.get((name, "usd_per_hour"), ()) if _ACCOUNTING not in row.condition]
    listed = next((row for row in rows if _LIST in row.condition), None)
    market = next((row for row in rows if _LIST not in row.condition), None)
    bought = facts.find(name, "usd_purchase")
    owned = None if bought is None else _owned(facts, name, bought)
    rented = None if market is None else HourlyPrice(usd_per_hour=market.value, basis=_label("rented", market))
    at_list = None if listed is None else HourlyPrice(usd_per_hour=listed.value, basis=_label("list price", listed))
    if basis == "rented" and rented is None and listed is not None:
        return HourlyPrice(usd_per_hour=listed.value, basis=_label("rented at the list price", listed))
    order = {"rented": (rented, owned), "list": (at_list, rented, owned), "owned": (owned, rented, at_list)}[basis]
    best = next((price for price in order if price is not None), None)
    if best is None:
        return HourlyPrice(usd_per_hour=None, basis=NO_PRICE)
    if best is order[0]:
        return best
    lacking = {"rented": "no rent is known", "list": "no list price is known", "owned": "no purchase price is known"}
    kind, source = best.basis.split(":", 1)
    return replace(best, basis=f"{kind}, as {lacking[basis]}:{source}")


def _owned(facts: Facts, name: str, bought: Fact) -> HourlyPrice:
    chip, terms = owned_chip(facts, name), terms_of(facts)
    assert chip is not None  # bought is its purchase price
    return HourlyPrice(
        usd_per_hour=float(owned_hour(terms, chip, chip.limit_w).usd),
        basis=f"{_label('owned', bought)}, over {terms.lifetime_years:g} years at {terms.interest_ratio:.3g} interest,"
        f" {AT_THE_LIMIT}",
        limit_w=float(chip.limit_w),
        usd_per_watt_hour=float(usd_per_watt_hour(terms, chip)),
    )


def earned_hour(
    facts: Facts, name: str, basis: str, watts: float, utilisation_ratio: float | None = None
) -> HourlyPrice:
    """Price of an hour in which chip `name` earns, drawing `watts`, with the hours in which it does not.

    utilisation_ratio: share of hours that earn; None: of rented chips all, of owned ones the fact row's, which the
    price of an owned hour holds already.
    """
    price = hourly_price(facts, name, basis).at(watts)
    if utilisation_ratio is None or price.usd_per_hour is None:
        return price
    chip = owned_chip(facts, name) if price.usd_per_watt_hour else None
    if chip is None:
        return replace(price, usd_per_hour=price.usd_per_hour / utilisation_ratio)
    terms = terms_of(facts, utilisation_ratio=utilisation_ratio)
    return replace(price, usd_per_hour=float(owned_hour(terms, chip, watts).usd))


def _label(kind: str, row: Fact) -> str:
    """Label of a price: its kind, source and date."""
    guess = ", an estimate" if row.kind == "estimate" and "estimate" not in row.source else ""
    return f"{kind}: {row.source}, {row.as_of}{guess}"


@overload
def usd_per_million_tokens(
    price: HourlyPrice, seconds: float, chips: float, tokens: float, watts: float | None = None
) -> float | None: ...
@overload
def usd_per_million_tokens(
    price: HourlyPrice, seconds: Quantity, chips: Quantity, tokens: Quantity, watts: Quantity | None = None
) -> Quantity | None: ...
def usd_per_million_tokens(
    price: HourlyPrice, seconds: Quantity, chips: Quantity, tokens: Quantity, watts: Quantity | None = None
) -> Quantity | None:
    """Dollars per million tokens if `chips` produce `tokens` in `seconds`; None if no price is known.

    watts: predicted for a chip meanwhile, which an owned chip's hour pays for; None: its limit.
    """
    if price.usd_per_hour is None:
        return None
    hour: Quantity = price.usd_per_hour
    if watts is not None:
        hour = hour + (watts - price.limit_w) * price.usd_per_watt_hour
    return hour * chips * seconds / SECONDS_PER_HOUR / tokens * TOKENS_PER_MILLION
