"""Choose among sized chips: what each costs per output token, found by the cost arm, one coordinate at a time.

dollars a token = hour of a machine / (tokens a second x 3600)
hour            = owned cost of its packages with board and host (unit.py), at the watts predicted (economics/tco.py)
limit           a share of the watts that cooling removes: board and building are paid by the watt, and what is left for
                peaks that the load never has is not the cheapest
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from flashstill.asic.design import HBM, ChipDesign
from flashstill.asic.givens import Choice, Givens
from flashstill.asic.rows import deployment_of, with_design
from flashstill.asic.sizing import NO_SPLIT, pipelines, size_holding
from flashstill.asic.unit import owned_package
from flashstill.economics.tco import Terms, owned_hour, terms_of
from flashstill.facts import Facts
from flashstill.plan.case import Case
from flashstill.plan.predict import outcomes
from flashstill.plan.prediction import Prediction
from flashstill.plan.scenario import Scenario, broken_bounds
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION

DIES = (1, 2, 4, 8)
INTENSITIES = tuple(2.0**power for power in range(-2, 12))
MORE_STACKS = (1, 2, 3, 4, 6, 8)
LANES = (8, 16, 32, 64, 128)
LIMITS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.06, 0.03)
"""shares of the watts beyond those of idling that a package may draw"""
NO_ROOM = "the load does not fit the memory it was sized for"
_ROUNDS, _WORSE = 4, 2
_STARTS = (LIMITS[0], LIMITS[3])
"""shares of the watts from which a search begins: at few watts other choices are the best"""
Sized = dict[Choice, ChipDesign]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The load that designs are judged with, and the terms of owning them. terms, priced: filled in once."""

    facts: Facts
    scenario: Scenario
    terms: Terms
    priced: dict[Choice, float] = field(default_factory=dict)


def asked_of(facts: Facts, scenario: Scenario) -> Asked:
    """The load, with the terms of the fact rows."""
    return Asked(facts=facts, scenario=scenario, terms=terms_of(facts))


def answer_of(asked: Asked, design: ChipDesign) -> Prediction:
    """What the cost arm predicts for one machine of a design; the errors of `predict`."""
    case = Case(asked.scenario, deployment_of(design))
    outcome = outcomes(with_design(asked.facts, design), [case])[0]
    if outcome.error is not None:
        raise outcome.error
    return outcome.prediction


def usd_per_million(asked: Asked, design: ChipDesign, answer: Prediction) -> float:
    """Owned dollars per million output tokens of a machine, its packages with their boards and hosts."""
    chip = owned_package(asked.facts, design, asked.facts)
    hour = owned_hour(asked.terms, chip, answer.watts_per_chip or design.idle_w).usd
    rate = answer.output_tokens_per_s or 0.0
    return float(hour * design.chips / (rate * SECONDS_PER_HOUR) * TOKENS_PER_MILLION) if rate else inf


def choices(variant: str, chips: int, stages: int, least: bool = False) -> Iterator[Choice]:
    """Every choice for a machine of so many packages in so many stages; with `least` those of the least silicon."""
    more = MORE_STACKS if variant == HBM else (1,)
    lanes = LANES if chips > 1 else (0,)
    grid = (INTENSITIES[:1], more[:1], lanes[:1]) if least else (INTENSITIES, more, lanes)
    for dies, intensity, stacks, lane in itertools.product(DIES, *grid):
        yield Choice(chips=chips, dies=dies, intensity=intensity, stages=stages, more=stacks, lanes=lane)


def machines(givens: Givens, max_chips: int, reasons: Counter[str], least: bool = False) -> Iterator[Sized]:
    """For 1, 2, 4, ... packages: every choice that can be built, with its chip; the others are counted in `reasons`.

    Numbers of packages for which nothing can be built are left out.  least: only choices of the least silicon.
    """
    for power in range(max_chips.bit_length()):
        split = pipelines(givens, 2**power)
        if not split:
            reasons[NO_SPLIT] += 1
        found: Sized = {}
        for stages, held in split.items():
            for choice in choices(givens.wanted.variant, 2**power, stages, least):
                chip = size_holding(givens, choice, *held)
                if isinstance(chip, str):
                    reasons[chip] += 1
                else:
                    found[choice] = chip
        if found:
            yield found


def smallest(designs: Iterable[Sized]) -> ChipDesign | None:
    """The design with the least silicon of a machine; None without one."""
    built = (chip for found in designs for chip in found.values())
    return min(built, key=lambda chip: chip.machine_mm2, default=None)


def cheapest(asked: Asked, designs: Iterable[Sized], reasons: Counter[str]) -> ChipDesign | None:
    """The design with the least dollars a token among those that keep the bounds; None without one.

    From the fewest packages on, until `_WORSE` numbers of packages in a row are no better than the best.
    """
    best, least, worse = None, inf, 0
    for mine in designs:
        choice, dollars = _descend(asked, mine, reasons)
        if dollars < least:
            best, least, worse = _at(mine, choice), dollars, 0
        elif best is not None:
            worse += 1
        if worse >= _WORSE:
            break
    return best


def _descend(asked: Asked, designs: Sized, reasons: Counter[str]) -> tuple[Choice, float]:
    """The best choice of one number of packages that changing any one coordinate does not improve, from two starts."""
    order = sorted(designs, key=lambda choice: (choice.dies, choice.more, choice.lanes, choice.intensity))
    fewest = [choice for choice in order if (choice.dies, choice.more) == (order[0].dies, order[0].more)]
    middle = fewest[len(fewest) // 2]
    ends = [_descend_from(asked, designs, replace(middle, limited=limited), reasons) for limited in _STARTS]
    return min(ends, key=lambda end: end[1])


def _descend_from(asked: Asked, designs: Sized, at: Choice, reasons: Counter[str]) -> tuple[Choice, float]:
    least = _cost(asked, designs, at, reasons)
    for _ in range(_ROUNDS):
        before = at
        for coordinate in ("intensity", "lanes", "stages", "more", "dies", "limited"):
            for way in _along(designs, at, coordinate):
                at, least = _walk(asked, designs, (at, least), way, reasons)
        if at == before:
            break
    return at, least


def _along(designs: Sized, at: Choice, coordinate: str) -> tuple[list[Choice], list[Choice]]:
    """Choices that differ in one coordinate and can be built: those above, and those below, the nearest first."""
    here = getattr(at, coordinate)
    values = sorted(LIMITS if coordinate == "limited" else {getattr(choice, coordinate) for choice in designs})
    ways = [value for value in values if value > here], [value for value in reversed(values) if value < here]
    above, below = (
        [choice for value in way if _sized(choice := _with(at, coordinate, value)) in designs] for way in ways
    )
    return above, below


def _sized(choice: Choice) -> Choice:
    """The choice as it was sized: with all the watts that cooling removes."""
    return replace(choice, limited=LIMITS[0])


def _at(designs: Sized, choice: Choice) -> ChipDesign:
    """The design of a choice, at its share of the watts."""
    whole = designs[_sized(choice)]
    if choice.limited == LIMITS[0]:
        return whole
    return replace(whole, power_limit_w=whole.idle_w + choice.limited * (whole.power_limit_w - whole.idle_w))


def _with(choice: Choice, coordinate: str, value: Any) -> Choice:
    return replace(choice, **{coordinate: value})


def _walk(
    asked: Asked, designs: Sized, best: tuple[Choice, float], way: list[Choice], reasons: Counter[str]
) -> tuple[Choice, float]:
    """The best choice, `best` or one of a way that is left after `_WORSE` choices in a row that are no better."""
    worse = 0
    for choice in way:
        dollars = _cost(asked, designs, choice, reasons)
        best, worse = ((choice, dollars), 0) if dollars < best[1] else (best, worse + 1)
        if worse >= _WORSE and best[1] < inf:
            break
    return best


def _cost(asked: Asked, designs: Sized, choice: Choice, reasons: Counter[str]) -> float:
    """Dollars a token of a choice, infinite if it breaks a bound."""
    if choice in asked.priced:
        return asked.priced[choice]
    design = _at(designs, choice)
    answer = answer_of(asked, design)
    broken: list[str] = []
    if not answer.fits:
        broken = [NO_ROOM]
    else:
        bounds = broken_bounds(asked.scenario, answer.ttft_s, answer.tpot_s, answer.output_tokens_per_s)
        broken = [reason for reason, is_broken in bounds.items() if bool(is_broken)]
    reasons.update(broken[:1])
    asked.priced[choice] = inf if broken else usd_per_million(asked, design, answer)
    return asked.priced[choice]
