"""Chips of each kind that may be planned with in each step, and what an hour of one costs.

    there     count + purchases that have arrived
    serviced  maintenance_share of them, and maintenance windows
    usable    the q-quantile of a binomial number of groups (hosts) that work, q = 10^-nines:
              with that many nines of probability at least so many chips work.  Groups fail independently.

A kind that does not fail keeps all that are not serviced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

import numpy as np

from flashstill.capacity.curves import Values, edges, step_means
from flashstill.capacity.plan import CapacityPlan, ChipKind
from flashstill.economics import check_basis, hourly_price
from flashstill.economics.tco import owned_chip, owned_hour, terms_of
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import Facts

GIVEN = "given in the plan"


@dataclass(frozen=True, kw_only=True, slots=True)
class Supply:
    """Chips [K, T] that may be planned with; what one more chip of a kind adds to them, and one more nine takes.

    usd_per_hour [K]: of a chip that works an hour (0 where it is paid always).  fixed_usd [K]: paid in any case.
    price_usd [K]: of an hour of a chip either way.  basis: of each price, in words.
    """

    available: Values
    one_more: Values
    nine_takes: Values
    usd_per_hour: Values
    price_usd: Values
    fixed_usd: Values
    basis: tuple[str, ...]


def supply_of(facts: Facts, plan: CapacityPlan, price: str) -> Supply:
    """The chips and prices of a plan; BadInput names the key of a price that is not known."""
    check_basis(price)
    bounds = edges(plan)
    rows = [_kind(plan, kind, bounds) for kind in plan.chips]
    prices, fixed, bases = [], [], []
    for place, (kind, (_, _, _, paid_hours)) in enumerate(zip(plan.chips, rows, strict=True)):
        usd, basis = _price(facts, kind, price, f"chips[{place}]")
        arrived = [(plan.horizon_hours - each.at) * each.count * (_own_price(kind, place, each.usd_per_hour, usd) - usd)
                   for each in kind.purchases]  # fmt: skip
        prices.append(usd)
        fixed.append(paid_hours * usd + sum(arrived) if kind.paid == "always" else 0.0)
        bases.append(basis)
    used = np.array([kind.paid == "used" for kind in plan.chips])
    return Supply(
        available=np.array([row[0] for row in rows]),
        one_more=np.array([row[1] for row in rows]),
        nine_takes=np.array([row[2] for row in rows]),
        usd_per_hour=np.where(used, prices, 0.0),
        price_usd=np.array(prices),
        fixed_usd=np.array(fixed),
        basis=tuple(bases),
    )


def _own_price(kind: ChipKind, place: int, own: float | None, usd: float) -> float:
    if own is not None and kind.paid == "used":
        raise BadInput(
            f"chips[{place}].purchases: usd_per_hour is of chips that are paid always; make these a kind of their own"
        )
    return usd if own is None else own


def added_by(plan: CapacityPlan, place: int, more: float) -> Values:
    """Usable chips [T] that each of so many more chips of a kind adds: below 1 where some are serviced or spares."""
    starts, there, usable = _usable(plan.chips[place])
    added: Values = step_means(starts, usable(there + more, plan.nines) - usable(there, plan.nines), edges(plan))
    return added / more


def _usable(kind: ChipKind) -> tuple[Values, Values, Callable[[Values, float], Values]]:
    """Hours of changes, chips that are there from each on, and those of so many that can be used with so many nines."""
    arrivals = [(each.at, each.count) for each in kind.purchases]
    starts = np.array(sorted({0.0, *(hour for hour, _ in arrivals), *(hour for hour, _ in _in_windows(kind, "chips"))}))
    there: Values = kind.count + _sums(starts, arrivals)
    out = _sums(starts, _in_windows(kind, "chips"))
    share = _sums(starts, [(0.0, kind.maintenance_share), *_in_windows(kind, "share")])

    def usable(count: Values, nines: float) -> Values:
        working: Values = count - (out + share * count)
        if (working < 0.0).any():
            hour = starts[int(np.argmax(working < 0.0))]
            raise BadInput(f"chips {kind.name!r}: maintenance takes more than all of its chips at hour {hour:g}")
        if not kind.failure_share:
            return working
        groups = count / kind.fails_together
        found: Values = working - count + kind.fails_together * _quantile(groups, kind.failure_share, nines)
        return found

    return starts, there, usable


def _in_windows(kind: ChipKind, field: str) -> list[tuple[float, float]]:
    """The hours at which maintenance windows begin and end, with what each adds to a field and takes back."""
    amounts = [(each, getattr(each, field)) for each in kind.maintenance]
    return [change for each, amount in amounts for change in ((each.start, amount), (each.end, -amount))]


def _sums(starts: Values, changes: Sequence[tuple[float, float]]) -> Values:
    """Sum at each of the sorted hours of the (hour, amount) up to it; exact, so that a window leaves nothing behind."""
    at_hour: dict[float, Fraction] = {}
    for hour, amount in changes:
        at_hour[hour] = at_hour.get(hour, Fraction()) + Fraction(amount)
    return np.array([float(total) for total in accumulate(at_hour.get(hour, Fraction()) for hour in starts.tolist())])


def _kind(plan: CapacityPlan, kind: ChipKind, bounds: Values) -> tuple[Values, Values, Values, float]:
    """Usable chips by step, what one more chip adds, what one more nine takes, and all chip-hours that are there."""
    starts, there, usable = _usable(kind)
    base = usable(there, plan.nines)
    rows = (base, usable(there + 1.0, plan.nines) - base, base - usable(there, plan.nines + 1.0))
    means = [step_means(starts, row, bounds) for row in rows]
    if (means[0] < 0.0).any():
        raise BadInput(f"chips {kind.name!r}: fewer than no chips are left after maintenance and failures")
    hours = float(np.sum(step_means(starts, there, bounds)) * plan.step_hours)
    return means[0], means[1], means[2], hours


def _quantile(groups: Values, failure_share: float, nines: float) -> Values:
    """The number of groups of which at least so many work with probability 1 - 10^-nines; between whole groups, linear.

    P(fewer than k of n work) = I_f(n - k + 1, k), the regularised incomplete beta function (NIST DLMF 8.17.5).
    """
    low = _whole_quantile(np.floor(groups), failure_share, nines)
    high = _whole_quantile(np.floor(groups) + 1.0, failure_share, nines)
    found: Values = low + (groups - np.floor(groups)) * (high - low)
    return found


def _whole_quantile(groups: Values, failure_share: float, nines: float) -> Values:
    from scipy.special import betainc

    least, most = np.zeros_like(groups), groups.copy()  # at least `least` work surely enough
    allowed = 10.0**-nines
    for _ in range(int(np.log2(max(float(groups.max()), 1.0))) + 2):
        middle = np.ceil((least + most) / 2.0)
        inside = np.maximum(middle, 1.0)
        missed = np.where(middle > 0.0, betainc(groups - inside + 1.0, inside, failure_share), 0.0)
        surely = missed <= allowed
        least, most = np.where(surely, middle, least), np.where(surely, most, np.maximum(middle - 1.0, least))
    return least


def _price(facts: Facts, kind: ChipKind, basis: str, key: str) -> tuple[float, str]:
    try:
        name = facts.machine(kind.chip).name if kind.chip else kind.name
    except MissingFact as error:
        raise BadInput(f"{key}.chip: {error}") from error
    if kind.usd_per_hour is not None:
        return kind.usd_per_hour, GIVEN
    try:
        if kind.usd_purchase is not None:
            return _owned(facts, name, kind.usd_purchase), f"owned at ${kind.usd_purchase:,.0f}, every hour of its life"
        if kind.paid == "always" and basis == "owned" and (chip := owned_chip(facts, name)) is not None:
            return _owned(facts, name, None), f"owned at ${chip.purchase_usd:,.0f}, every hour of its life"
        found = hourly_price(facts, name, basis)
    except MissingFact as error:
        raise BadInput(f"{key}.usd_per_hour is missing, and the fact tables know no price: {error}") from error
    if found.usd_per_hour is None:
        raise BadInput(f"{key}.usd_per_hour is missing, and no price of {name!r} is known; give it or usd_purchase")
    return found.usd_per_hour, found.basis


def _owned(facts: Facts, name: str, usd_purchase: float | None) -> float:
    """Dollars of an hour by the clock of an owned chip that draws its limit."""
    chip = owned_chip(facts, name)
    if chip is None:
        raise MissingFact(f"no purchase price of {name!r} is known; give usd_per_hour")
    if usd_purchase is not None:
        chip = replace(chip, purchase_usd=usd_purchase)
    return float(owned_hour(terms_of(facts, utilisation_ratio=1.0), chip, chip.limit_w).usd)
