"""Chips to choose from where the user names none: those with a price of their own that is not a mere guess."""

from __future__ import annotations

from flashstill.economics import hourly_price
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.plan.hardwired import is_hardwired

SPREAD = 3.0
"""of a price's range, from its low to its high end, up to which it is a price to choose by"""


def priced_chips(facts: Facts, basis: str) -> tuple[str, ...]:
    """Chips with a price of their own on this basis that is not a mere guess: a choice among what can be had."""
    names = [name for name in facts.machines if not is_hardwired(facts, name) and facts.find(name, "flops_per_s")]
    own = [name for name in names if _has_own_price(facts, name, basis)]
    if not own:
        raise BadInput(f"no chip has a price on the basis {basis}; name one with --chip, or add rows with --facts")
    return tuple(own)


def _has_own_price(facts: Facts, name: str, basis: str) -> bool:
    price = hourly_price(facts, name, basis)
    if price.usd_per_hour is None or ", as no " in price.basis or ": estimate" in price.basis:
        return False
    rows = facts.rows.get((name, "usd_purchase" if price.usd_per_watt_hour else "usd_per_hour"), ())
    return all(row.high <= SPREAD * row.low for row in rows if row.source in price.basis)
