"""The best chips that can be rented or bought for the same model: what a chip of one's own must beat.

Every chip with a market price takes part, except those that are hard-wired, and those that their makers keep for
themselves (condition "not sold" of a purchase row).  A rented chip-hour is paid by the hour of the clock, of which the
share `rented.utilisation_ratio` serves; an owned one by the hours that earn (economics/tco.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.economics.tco import owned_chip, owned_hour, terms_of
from flashstill.errors import BadInput, InfeasiblePlan, MissingFact
from flashstill.facts import Fact, Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.deployment import AS_PUBLISHED
from flashstill.plan.hardwired import is_hardwired
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import Configuration, SearchSpace
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION

RENTED, OWNED = "rented", "owned"
NOT_SOLD, _ACCOUNTING = "not sold", "accounting"
_MOST_CHIPS = (16, 128, 1024)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """A configuration of chips that can be had. row: the price that it is paid by. usd_per_million: output tokens."""

    basis: str
    row: Fact
    configuration: Configuration
    usd_per_million: float

    @property
    def rented(self) -> bool:
        """Whether it is paid by the hour."""
        return self.basis == RENTED

    @property
    def chip(self) -> str:
        """Name of the chip."""
        return self.configuration.chip

    @property
    def tokens_per_s_per_chip(self) -> float:
        """Output tokens a second of a chip."""
        return self.configuration.tokens_per_s_per_chip

    @property
    def watts_per_chip(self) -> float:
        """Watts that a chip draws while it serves."""
        return self.configuration.watts_per_chip

    def as_dict(self) -> dict[str, Any]:
        """What is rented or bought, and at which price."""
        names = ("chip", "chips", "tp", "pp", "ep", "dp", "batch", "precision", "kv_precision", "weights_in", "kv_in",
                 "tpot_s", "ttft_s", "tokens_per_s_per_chip", "joules_per_output_token")  # fmt: skip
        return {
            "basis": self.basis,
            **{name: getattr(self.configuration, name) for name in names},
            "usd_per_million_tokens": self.usd_per_million,
            "price": {"quantity": self.row.quantity, "value": self.row.value, "source": self.row.source},
        }


def rent_of(facts: Facts, name: str) -> Fact | None:
    """The row by which an hour of a chip is rented: the market's, or the list's; None if nobody rents it."""
    rows = [row for row in facts.rows.get((name, "usd_per_hour"), ()) if _ACCOUNTING not in row.condition]
    return min(rows, key=lambda row: "list" in row.condition, default=None)


def purchase_of(facts: Facts, name: str) -> Fact | None:
    """The row by which a chip is bought; None if it is not sold."""
    row = facts.find(name, "usd_purchase")
    return None if row is None or NOT_SOLD in row.condition else row


def options(
    facts: Facts,
    scenario: Scenario,
    names: Sequence[str] = (),
    bases: Sequence[str] = (RENTED, OWNED),
    precision: str | None = None,
    kv_precision: str | None = None,
) -> tuple[Alternative, ...]:
    """Configurations that keep the scenario's bounds, the cheapest first.

    names: chips to choose from; () for all that can be rented or bought.  bases: how they are paid.
    precision, kv_precision: formats that may be used beside the published ones.
    Raises BadInput for a chip that cannot be had, and InfeasiblePlan with the reasons counted if none keeps the bounds.
    """
    found: list[Alternative] = []
    refused: Counter[str] = Counter()
    for most in _MOST_CHIPS:
        for basis in bases:
            rows = {
                name: row for name in possible_chips(facts, names) if (row := _price(facts, name, basis)) is not None
            }
            if not rows:
                continue
            space = SearchSpace(
                chips=tuple(rows),
                max_chips=most,
                precisions=(AS_PUBLISHED,) if precision is None else (AS_PUBLISHED, precision),
                kv_precisions=(None,) if kv_precision is None else (None, kv_precision),
            )
            try:
                front = search(facts, scenario, space, basis).front
            except InfeasiblePlan as error:
                refused.update(error.reasons)
                continue
            found += [_alternative(facts, basis, rows[point.chip], point) for point in front]
        if found:
            return tuple(sorted(found, key=lambda one: one.usd_per_million))
    if not refused:
        raise InfeasiblePlan("none of these chips can be rented or bought", {"no price is known": len(names)})
    raise InfeasiblePlan(f"nothing that can be rented or bought serves {scenario.model_name}", dict(refused))


def within(found: Sequence[Alternative], tpot_s: float | None = None) -> tuple[Alternative, ...]:
    """Of each basis the cheapest that takes at most `tpot_s` seconds per output token."""
    quick = [one for one in found if tpot_s is None or (one.configuration.tpot_s or 0.0) <= tpot_s]
    first = {one.basis: one for one in reversed(quick)}  # the cheapest is the last to be put in
    return tuple(first.values())


def possible_chips(facts: Facts, names: Sequence[str] = ()) -> list[str]:
    """The chips that may take part; BadInput for one that is asked for and cannot be an alternative."""
    for name in (facts.machine(name).name for name in names):
        if is_hardwired(facts, name):
            raise BadInput(f"{name} is hard-wired for one model, so that it is no alternative to a chip of one's own")
        if rent_of(facts, name) is None and purchase_of(facts, name) is None:
            raise BadInput(f"{name} can be neither rented nor bought; give it a price with --set {name}.usd_per_hour=…")
    asked = dict.fromkeys(facts.machine(name).name for name in names) if names else dict.fromkeys(facts.machines)
    return [name for name in asked if not is_hardwired(facts, name) and (names or _has_numbers(facts, name))]


def _has_numbers(facts: Facts, name: str) -> bool:
    try:
        chip_from_facts(facts, name)
    except MissingFact:
        return False
    return facts.machine(name).chip_class != "cpu"


def _price(facts: Facts, name: str, basis: str) -> Fact | None:
    return rent_of(facts, name) if basis == RENTED else purchase_of(facts, name)


def _alternative(facts: Facts, basis: str, row: Fact, point: Configuration) -> Alternative:
    """A point of the front, priced by the hours that earn."""
    if basis == RENTED:
        hour = row.value / facts.value("rented", "utilisation_ratio")
    else:
        chip = owned_chip(facts, point.chip)
        assert chip is not None  # its purchase row is `row`
        hour = float(owned_hour(terms_of(facts), chip, point.watts_per_chip).usd)
    usd = hour / SECONDS_PER_HOUR / point.tokens_per_s_per_chip * TOKENS_PER_MILLION
    return Alternative(basis=basis, row=row, configuration=point, usd_per_million=usd)
