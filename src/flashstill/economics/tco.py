"""Cost of an hour of an owned chip: what is bought, what money costs, and power.

    u          share of the hours of its life in which a chip earns (utilisation over the day and between days)
    chip       its purchase price, and its share of a design that its owner paid for
    server     chip x (server ratio - 1);  0 if the price holds the host
    network    (purchase + server) x s / (1 - s),  s: the network's share of what a cluster costs; a design needs none
    building   power limit x server power ratio x dollars per watt, over a life of its own
    A(i, n)    = i / (1 - (1 + i)^-n): payment at the end of each year for a loan of 1 over n years at interest i;
               1/n at i = 0.  Paid as the hours pass it is ln(1 + i) / i of it (paid_as_it_passes)
    capital    = A(i, n) (chip + server + network) + A(i, n_b) building,  a year
    hour       = capital / (8766 u) + (W + W_idle (1 - u)/u) x server power ratio x PUE x dollars per kWh
    W          watts that the chip draws in the hours that it earns: predicted where there is a prediction

The dollars of an earned hour.  With u = 1 they are those of an hour by the clock.  Everything may be an array.
Not included: staff, software, spare parts, taxes, and what a chip can still be sold for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from flashstill.economics.bill_of_materials import Rows
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.units import HOURS_PER_YEAR, JOULES_PER_KWH, SECONDS_PER_HOUR
from flashstill.workload import Quantity

TERM_ROWS = {
    "interest_ratio": ("capital", "interest_ratio"),
    "lifetime_years": ("server", "lifetime_years"),
    "utilisation_ratio": ("server", "utilisation_ratio"),
    "server_capital_ratio": ("server", "capital_ratio"),
    "network_share_ratio": ("network", "capital_share_ratio"),
    "building_usd_per_w": ("building", "usd_per_w"),
    "building_years": ("building", "lifetime_years"),
    "pue_ratio": ("facility", "pue_ratio"),
    "usd_per_kwh": ("facility", "usd_per_kwh"),
}
"""field of `Terms` -> (name, quantity) of the fact row that it comes from"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What owning depends on beside the chip. Ratios are shares of 1; interest per year."""

    interest_ratio: Quantity
    lifetime_years: Quantity
    utilisation_ratio: Quantity
    server_capital_ratio: Quantity
    network_share_ratio: Quantity
    building_usd_per_w: Quantity
    building_years: Quantity
    pue_ratio: Quantity
    usd_per_kwh: Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnedChip:
    """A chip as its owner sees it: dollars, and watts at its limit and idle; it need not exist.

    server_power_ratio: power of the server over that of its chips.  price_holds_server: purchase_usd buys the host too.
    design_usd: share of masks and engineering, if they are not in the price.
    """

    purchase_usd: Quantity
    limit_w: Quantity
    idle_w: Quantity
    server_power_ratio: Quantity
    price_holds_server: bool = False
    design_usd: Quantity = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HourCost:
    """Dollars of an earned chip-hour, by part. Capital parts without interest, which is a part of its own."""

    chip_usd: Quantity
    server_usd: Quantity
    network_usd: Quantity
    building_usd: Quantity
    interest_usd: Quantity
    power_usd: Quantity

    @property
    def usd(self) -> Quantity:
        """All of it."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, Quantity]:
        """Dollars by part: chip, server, network, building, interest, power."""
        return {name.removesuffix("_usd"): value for name, value in asdict(self).items()}


def terms_of(rows: Rows, **changes: Quantity) -> Terms:
    """The terms of the fact rows (`Facts`, or draws of them), with changes by field name."""
    given = {name: changes[name] if name in changes else rows.value(*row) for name, row in TERM_ROWS.items()}
    return check_terms(replace(Terms(**given), **changes))


def owned_chip(facts: Facts, name: str, rows: Rows | None = None) -> OwnedChip | None:
    """The chip `name` of the fact rows, or None if its purchase price is not known. rows: draws of the facts."""
    machine, rows = facts.machine(name), rows or facts
    bought = facts.find(machine.name, "usd_purchase")
    if bought is None:
        return None
    return OwnedChip(
        purchase_usd=rows.value(machine.name, "usd_purchase"),
        limit_w=rows.value(machine.name, "power_limit_w"),
        idle_w=rows.value(machine.name, "idle_w"),
        server_power_ratio=rows.value(machine.chip_class, "server_power_ratio"),
        price_holds_server=bought.condition.endswith("system"),
    )


def owned_hour(terms: Terms, chip: OwnedChip, watts: Quantity) -> HourCost:
    """Dollars of an earned hour of `chip` that draws `watts` while it earns; BadInput for impossible numbers."""
    check_chip(chip, watts)
    server = 0.0 if chip.price_holds_server else chip.purchase_usd * (terms.server_capital_ratio - 1.0)
    network = (chip.purchase_usd + server) * terms.network_share_ratio / (1.0 - terms.network_share_ratio)
    building = chip.limit_w * chip.server_power_ratio * terms.building_usd_per_w
    earned = HOURS_PER_YEAR * terms.utilisation_ratio  # hours a year
    per_hour, building_hour = 1.0 / (terms.lifetime_years * earned), 1.0 / (terms.building_years * earned)
    dearer = annuity(terms.interest_ratio, terms.lifetime_years) * terms.lifetime_years - 1.0
    building_dearer = annuity(terms.interest_ratio, terms.building_years) * terms.building_years - 1.0
    bought = (chip.purchase_usd + chip.design_usd + server + network) * per_hour
    return HourCost(
        chip_usd=(chip.purchase_usd + chip.design_usd) * per_hour,
        server_usd=server * per_hour,
        network_usd=network * per_hour,
        building_usd=building * building_hour,
        interest_usd=bought * dearer + building * building_hour * building_dearer,
        power_usd=(watts + idle_watts(terms, chip)) * usd_per_watt_hour(terms, chip),
    )


def idle_watts(terms: Terms, chip: OwnedChip) -> Quantity:
    """Watts of the hours in which a chip waits, spread over those in which it earns."""
    return chip.idle_w * (1.0 - terms.utilisation_ratio) / terms.utilisation_ratio


def usd_per_watt_hour(terms: Terms, chip: OwnedChip) -> Quantity:
    """Dollars for an hour of one watt at the chip, with its host and the facility."""
    return SECONDS_PER_HOUR / JOULES_PER_KWH * chip.server_power_ratio * terms.pue_ratio * terms.usd_per_kwh


def paid_as_it_passes(hour: HourCost, interest_ratio: Quantity) -> Quantity:
    """Dollars of an hour whose capital is paid as its hours pass, for present values that count every day by itself.

    The instalments of `owned_hour` are due at the end of each year.  1 paid evenly through a year has grown to
    (e^r - 1) / r = i / r by then, with r = ln(1 + i), so that ln(1 + i) / i buys the same.  Power is paid at once.
    """
    interest = np.asarray(interest_ratio, dtype=np.float64)
    charged = np.where(interest > 0.0, interest, 1.0)  # the other branch of a quotient 0 / 0
    through = np.where(interest > 0.0, np.log1p(charged) / charged, 1.0)
    dollars = (hour.usd - hour.power_usd) * through + hour.power_usd
    return dollars if np.ndim(dollars) else float(dollars)


def annuity(interest_ratio: Quantity, years: Quantity) -> Quantity:
    """Payment at each year's end that pays back a loan of 1 with its interest in `years`; 1 / years at no interest."""
    interest, life = np.asarray(interest_ratio, dtype=np.float64), np.asarray(years, dtype=np.float64)
    charged = np.where(interest > 0.0, interest, 1.0)  # the other branch of a quotient 0 / 0
    paid = np.where(interest > 0.0, charged / -np.expm1(-life * np.log1p(charged)), 1.0 / life)
    return paid if paid.ndim else float(paid)


_LIMITS: dict[str, tuple[float, float]] = {
    "interest_ratio": (0.0, 1.0),
    "network_share_ratio": (0.0, 0.95),
    "server_capital_ratio": (1.0, np.inf),
    "pue_ratio": (1.0, np.inf),
    "server_power_ratio": (1.0, np.inf),
}
_ABOVE_ZERO = ("lifetime_years", "building_years", "utilisation_ratio")


def check_terms(terms: Terms) -> Terms:
    """The terms; BadInput names the first that cannot be."""
    _check({field.name: getattr(terms, field.name) for field in fields(terms)})
    return terms


def check_chip(chip: OwnedChip, watts: Quantity) -> None:
    """BadInput names the first number of a chip that cannot be."""
    names = ("purchase_usd", "design_usd", "limit_w", "idle_w", "server_power_ratio")
    _check({**{name: getattr(chip, name) for name in names}, "watts": watts})


def _check(numbers: dict[str, Any]) -> None:
    for name, value in numbers.items():
        low, high = _LIMITS.get(name, (0.0, 1.0 if name == "utilisation_ratio" else np.inf))
        least, most = (float(np.min(value)), float(np.max(value))) if np.ndim(value) else (float(value), float(value))
        lawful = low <= least and most <= high and np.isfinite(most) and not (name in _ABOVE_ZERO and least <= 0.0)
        if not lawful:  # also for NaN
            end = "" if high == np.inf else f" and at most {high:g}"
            lowest = "above 0" if name in _ABOVE_ZERO else f"at least {low:g}"
            raise BadInput(f"{name} must be {lowest}{end}, not {least if least < low else most:g}")
