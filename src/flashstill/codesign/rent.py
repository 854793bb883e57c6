"""What a question costs on machines that stand there for a traffic of questions: dollars, joules at the wall.

    dollars   chips x price of a chip-second / questions a second
    joules    (joules of the work + idle watts x chip-seconds without work) x server power ratio x PUE

A chip that is not owned costs its rent whether it works or waits.
"""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.economics import RENTED, HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.hardware import Chip
from flashstill.units import TOKENS_PER_MILLION
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Rent:
    """A chip with its price, and the factor from its joules to those at the wall."""

    chip: Chip
    price: HourlyPrice
    wall_ratio: float


def rent_of(facts: Facts, chip: Chip, basis: str) -> Rent:
    """The price of a chip on a basis; BadInput where none is known, or where it is 0: ratios of dollars are told."""
    price = hourly_price(facts, chip.name, basis)
    if price.usd_per_hour is None:
        raise BadInput(
            f"no price is known of {chip.name}; give one with --set {chip.name}.usd_per_hour=2, or --facts DIR"
        )
    if basis == RENTED and not price.usd_per_hour:
        raise BadInput(
            f"{chip.name} costs nothing an hour, and a cascade compares dollars; give a price with"
            f" --set {chip.name}.usd_per_hour=2, or --price owned"
        )
    return Rent(
        chip=chip, price=price, wall_ratio=chip.system.server_power_ratio * facts.value("facility", "pue_ratio")
    )


def question_joules(rent: Rent, chips: Quantity, per_s: Quantity, joules: Quantity, busy: Quantity) -> Quantity:
    """Joules of the chips for one question, of which they get `per_s`, busy for a share of the time."""
    return joules + rent.chip.idle_w * chips / per_s * (1.0 - busy)


def question_usd(rent: Rent, chips: Quantity, per_s: Quantity, joules: Quantity) -> Quantity:
    """Dollars of one question, on chips that answer `per_s` questions with `joules` each, idle time included."""
    usd = usd_per_million_tokens(rent.price, 1.0, chips, per_s, joules * per_s / chips)
    assert usd is not None  # rent_of has refused a chip without a price
    return usd / TOKENS_PER_MILLION


def busy_usd(rent: Rent, chips: Quantity, seconds: Quantity, joules: Quantity) -> Quantity:
    """Dollars of `chips` for the seconds in which they work, and no others."""
    return question_usd(rent, chips, 1.0 / seconds, joules)
