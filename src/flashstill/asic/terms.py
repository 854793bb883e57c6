"""From fact rows, a design and its alternative to the terms of the decision (money.py).

    hours      chip-hours a year of a token a day = 365.25 / (3600 x tokens/s of a chip)
    bought     (chip + server + network) of these hours
    running    power and building of these hours, a year;  all yearly sums are paid as the hours pass
    once       design, software and licences spread over the time to tape-out, masks at it, the rest until the lead
    fall       a rent falls every year; chips that are bought when ours would be keep the price of that time
    waiting    hard-wired, while the chips of a next model are made: the rent that other chips then ask, or bought ones
               that stand beside ours for all the time where none can be rented

The predicted tokens/s of both sides are rows here too, so that the band of the prediction is drawn like any range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.asic.alternative import Alternative
from flashstill.asic.design import HARDWIRED, ChipDesign
from flashstill.asic.money import Programme
from flashstill.asic.nre import Nre, nre_of, rewiring_usd
from flashstill.asic.schedule import Schedule, schedule_of
from flashstill.asic.unit import owned_package
from flashstill.economics.bill_of_materials import Rows
from flashstill.economics.tco import TERM_ROWS, OwnedChip, owned_chip, owned_hour, paid_as_it_passes, terms_of
from flashstill.economics.tco import Terms as Ownership
from flashstill.facts import Facts
from flashstill.units import DAYS_PER_YEAR, SECONDS_PER_HOUR
from flashstill.workload import Quantity

OURS, THEIRS = "asic-predicted", "alternative-predicted"
RATE = "tokens_per_s_ratio"


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """What one chip does while it serves: output tokens a second, and watts."""

    tokens_per_s: Quantity
    watts: Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A design at its operating point against an alternative. facts: with the design, its price rows and the bands.

    waiting: what is rented while the chips of a next model are made, where the alternative is bought; None for nothing.
    """

    facts: Facts
    design: ChipDesign
    serving: Serving
    alternative: Alternative
    waiting: Alternative | None = None

    def schedule(self, rows: Rows) -> Schedule:
        """Years until the chips serve, and of their lives."""
        return schedule_of(self.design, rows)

    def nre(self, rows: Rows) -> Nre:
        """Dollars spent once, not discounted."""
        return nre_of(self.design, rows)

    def programme(self, rows: Rows) -> Programme:
        """The terms of the decision, over draws where the rows are drawn."""
        schedule, nre, ownership = self.schedule(rows), self.nre(rows), terms_of(rows)
        interest = np.log1p(ownership.interest_ratio)
        hours = yearly_hours(self.serving.tokens_per_s * rows.value(OURS, RATE))
        bought, running = _split(ownership, owned_package(self.facts, self.design, rows), self.serving.watts)
        wired = self.design.variant == HARDWIRED
        price_fall = -np.log1p(-rows.value("alternative", "price_decline_ratio"))
        at_lead = np.exp(-interest * schedule.lead_years)
        theirs = self.alternative_usd(rows, ownership)
        rented = self.alternative.rented
        other = theirs if rented else theirs * np.exp(-price_fall * schedule.lead_years)
        waiting: Quantity = 0.0
        if wired and not rented:
            waiting = self._waiting_usd(rows, schedule, interest, price_fall, other)
        return Programme(
            once_usd=_once(nre, schedule, interest),
            alternative_usd=other,
            price_fall=price_fall if rented else 0.0,
            token_fall=-np.log(schedule.successor_ratio) / schedule.model_years,
            served_ratio=schedule.served_ratio,
            bought_usd=0.0 if wired else hours * bought * at_lead,
            replaced_usd=hours * bought * _yearly(interest, schedule.chip_years) + waiting if wired else 0.0,
            running_usd=hours * running,
            rewiring_usd=rewiring_usd(self.design, rows) * _yearly(interest, schedule.model_years),
            start_years=schedule.lead_years,
            service_years=schedule.service_years,
            interest=interest,
        )

    def waiting_usd(self, rows: Rows) -> Quantity:
        """Present value of a token a day on the alternative until the chip serves; what is bought keeps its price."""
        interest = np.log1p(rows.value(*TERM_ROWS["interest_ratio"]))
        fall = -np.log1p(-rows.value("alternative", "price_decline_ratio")) if self.alternative.rented else 0.0
        years = self.schedule(rows).lead_years
        return self.alternative_usd(rows, terms_of(rows)) * years * _spread(interest + fall, years)

    def _waiting_usd(
        self, rows: Rows, schedule: Schedule, interest: Quantity, price_fall: Quantity, owned_usd: Quantity
    ) -> Quantity:
        """Dollars a year beyond those of the alternative while it is asked for that share of the time only.

        A rent is the mean of the service, weighted by what its dollars are worth, at least what the alternative costs.
        """
        standing = schedule.served_ratio * owned_usd  # bought chips cost as much while they stand
        if self.waiting is None:
            return standing
        years = schedule.service_years
        fallen = np.exp(-price_fall * schedule.lead_years) * _spread(interest + price_fall, years)
        rent = self._usd_of(self.waiting, rows, terms_of(rows)) * fallen / _spread(interest, years)
        return np.minimum((1.0 - schedule.served_ratio) * np.maximum(rent - owned_usd, 0.0), standing)

    def alternative_usd(self, rows: Rows, ownership: Ownership) -> Quantity:
        """Dollars a year that a token a day costs on the alternative now."""
        return self._usd_of(self.alternative, rows, ownership)

    def _usd_of(self, theirs: Alternative, rows: Rows, ownership: Ownership) -> Quantity:
        """The same, of any chips that can be had; the band of their predicted rate is the alternative's."""
        hours = yearly_hours(theirs.tokens_per_s_per_chip * rows.value(THEIRS, RATE))
        if theirs.rented:
            rent: Quantity = hours * rows.value(theirs.chip, "usd_per_hour") / rows.value("rented", "utilisation_ratio")
            return rent
        chip = owned_chip(self.facts, theirs.chip, rows)
        assert chip is not None  # it was chosen among those with a purchase price
        return hours * paid_as_it_passes(owned_hour(ownership, chip, theirs.watts_per_chip), ownership.interest_ratio)


def yearly_hours(tokens_per_s: Quantity) -> Quantity:
    """Chip-hours a year that earn, for a token a day."""
    return DAYS_PER_YEAR / (SECONDS_PER_HOUR * tokens_per_s)


def _split(ownership: Ownership, chip: OwnedChip, watts: Quantity) -> tuple[Quantity, Quantity]:
    """Dollars of an earned chip-hour a year: equipment at its purchase; power and building, with its interest."""
    hour = owned_hour(ownership, chip, watts)
    years, interest = ownership.lifetime_years, ownership.interest_ratio
    equipment = (hour.chip_usd + hour.server_usd + hour.network_usd) * years
    return equipment, paid_as_it_passes(hour, interest) - equipment * _yearly(np.log1p(interest), years)


def _spread(interest: Quantity, years: Quantity) -> Quantity:
    """Present value of a dollar that is spent evenly over `years`."""
    shrunk = np.maximum(interest * years, 1e-300)
    return -np.expm1(-shrunk) / shrunk


def _yearly(interest: Quantity, years: Quantity) -> Quantity:
    """Dollars a year, paid continuously over `years`, that repay a dollar."""
    return 1.0 / (years * _spread(interest, years))


def _once(nre: Nre, schedule: Schedule, interest: Quantity) -> Quantity:
    """Present value of what is spent once."""
    tape_out = np.exp(-interest * schedule.tape_out_years)
    early = (nre.hardware_usd + nre.software_usd + nre.licences_usd) * _spread(interest, schedule.tape_out_years)
    late = (nre.respins_usd + nre.bring_up_usd) * _spread(interest, schedule.lead_years - schedule.tape_out_years)
    return early + tape_out * (nre.masks_usd + late)
