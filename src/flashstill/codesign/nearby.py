"""Configurations near the best, priced again for chips with one number changed: a row for each, all in few calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.codesign.parameters import COUNT, ENGINE_SECONDS, PRICE, UNIT_LOADS
from flashstill.codesign.pool import Pool
from flashstill.codesign.rows import PRICED, Values, price
from flashstill.codesign.scaled import has_engine_seconds
from flashstill.codesign.subjects import Entry, Subject, hours_of

_LINKS = ("link", "hop", "collective_floors", "scale_out", "scale_out_hop")
_BEYOND = ("scale_out", "scale_out_hop")
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What is done to the numbers of a configuration's chip: nothing first, then each that it uses up and down.

    places: of the conditions, columns of `ratios`, (changes, places).
    which: place of each change in the list of all of the subject: nothing, the first number up, down, the second ...
    many: length of that list.
    """

    places: tuple[str, ...]
    ratios: Values
    which: Places
    many: int


def changes_of(entry: Entry, subject: Subject, factor: float, chips: float) -> Changes:
    """Each number that a configuration of so many chips uses, counts and prices aside, multiplied and divided by
    `factor`."""
    parameters = [one for one in subject.parameters if one.kind != COUNT]
    acting = [
        (number, places)
        for number, one in enumerate(parameters)
        if one.kind != PRICE and (places := _used(entry, entry.places(one), chips))
    ]
    columns = tuple(dict.fromkeys(place for _, places in acting for place in places))
    at = {place: number for number, place in enumerate(columns)}
    ratios, which = np.ones((1 + 2 * len(acting), len(columns))), np.zeros(1 + 2 * len(acting), dtype=np.intp)
    for row, (number, places) in enumerate(acting):
        up, down = 1 + 2 * row, 2 + 2 * row
        which[up], which[down] = 1 + 2 * number, 2 + 2 * number
        for place in places:
            ratios[up, at[place]], ratios[down, at[place]] = factor, 1.0 / factor
    return Changes(places=columns, ratios=ratios, which=which, many=1 + 2 * len(parameters))


def _used(entry: Entry, places: Sequence[str], chips: float) -> tuple[str, ...]:
    """The places that a configuration of so many chips has any use for."""
    chip, unused = entry.conditions.chip, set[str]()
    if chips <= 1.0:
        unused |= set(_LINKS)
    elif chips <= chip.system.domain_chips:
        unused |= set(_BEYOND)
    if not chip.compute_units:
        unused.add(UNIT_LOADS)
    if not has_engine_seconds(entry.conditions.software):
        unused.add(ENGINE_SECONDS)
    return tuple(place for place in places if place not in unused)


def priced_nearby(pool: Pool, near: Places, factor: float) -> Values:
    """Costs of rows of the pool, (objectives, rows, changes), infinite where infeasible; those without any change also
    where a subject has fewer changes than another.

    A number that a configuration does not use leaves its cost exactly as it is.
    """
    own = _of_rows(pool, near, factor)
    lengths = np.array([len(one.ratios) for one in own])
    ends = np.cumsum(lengths)
    first = ends - lengths
    places = tuple(dict.fromkeys(place for one in {id(one): one for one in own}.values() for place in one.places))
    at = {place: number for number, place in enumerate(places)}
    spread = {id(one): [at[place] for place in one.places] for one in own}
    table = np.ones((int(ends[-1]), len(places)))
    for one, start, end in zip(own, first, ends, strict=True):
        table[start:end, spread[id(one)]] = one.ratios
    rows = pool.rows.at(np.repeat(near, lengths))
    prices = price(pool.stacked, rows, dict(zip(places, table.T, strict=True)))
    costs = prices.costs
    found = np.repeat(costs[:, first, None], max(one.many for one in own), axis=2)
    found[:, np.repeat(np.arange(len(own)), lengths), np.concatenate([one.which for one in own])] = costs
    _with_prices(pool, near, found, prices.watts[first], factor)
    return found


def _of_rows(pool: Pool, near: Places, factor: float) -> list[Changes]:
    """The changes of each row; the same object for rows of one entry that use the same links."""
    chips = np.asarray(pool.stacked.question.chosen.layout.chips).reshape(-1)[pool.rows.layout[near]]
    made: dict[tuple[int, int], Changes] = {}
    found = []
    for place, many in zip(pool.rows.entry[near].tolist(), chips.tolist(), strict=True):
        entry = pool.stacked.entries[place]
        key = (place, int(many > 1.0) + int(many > entry.conditions.chip.system.domain_chips))
        if key not in made:
            made[key] = _known_changes(pool, entry, factor, many, key[1])
        found.append(made[key])
    return found


def _known_changes(pool: Pool, entry: Entry, factor: float, chips: float, reach: int) -> Changes:
    """`changes_of`, once for all models in the same formats. reach: which links are in use."""
    subject, known = pool.stacked.subjects[entry.subject], pool.stacked.question.stacks
    if entry.key is None:
        return changes_of(entry, subject, factor, chips)
    key = ("changes", entry.key, reach, factor)
    if key not in known:
        known[key] = changes_of(entry, subject, factor, chips)
    found: Changes = known[key]
    return found


def _with_prices(pool: Pool, near: Places, found: Values, watts: Values, factor: float) -> None:
    """Write the dollars with each price changed: those of today times what the price makes of the chip's hour."""
    subjects = pool.stacked.subjects
    owners = np.array([entry.subject for entry in pool.stacked.entries], dtype=np.intp)[pool.rows.entry[near]]
    today = _hours(subjects, owners, watts, {})
    for place in ("rent", "purchase"):
        columns = np.array([_column(subject, place) for subject in subjects])[owners]
        for side, by in enumerate((factor, 1.0 / factor)):
            after = _hours(subjects, owners, watts, {place: by})
            changed = np.flatnonzero((after != today) & (columns >= 0))  # NaN, without a price, differs as well
            found[0, changed, columns[changed] + side] *= after[changed] / today[changed]


def _column(subject: Subject, place: str) -> int:
    """Where the changes of a price begin in the list of all of the subject; -1 without such a price."""
    parameters = [one for one in subject.parameters if one.kind != COUNT]
    mine = [number for number, one in enumerate(parameters) if one.kind == PRICE and place in one.acts_on]
    return 1 + 2 * mine[0] if mine else -1


def _hours(subjects: Sequence[Subject], owners: Places, watts: Values, changed: Mapping[str, float]) -> Values:
    """Dollars of an hour of each row's chip that draws so many watts."""
    own: dict[str, Any] = {
        name: np.array([one.ratios.get(name, 1.0) for one in subjects])[owners] * changed.get(name, 1.0)
        for name in PRICED
    }
    hours = hours_of(subjects, owners, own)
    dollars: Any = hours.usd_per_hour
    found: Values = dollars + (watts - hours.limit_w) * hours.usd_per_watt_hour
    return found
