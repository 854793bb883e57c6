"""Elasticities of a chip's counts: the best deployments with a larger domain of links, or one more axis of a torus.

A count changes only the seconds in which chips exchange data, of configurations with more chips than `noticed_above`.
So a configuration can only become the best if it would be without any of these seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.codesign.parameters import COUNT, Parameter, with_axes
from flashstill.codesign.pool import Pool
from flashstill.codesign.questions import Places, StackedEntries, stack_entries
from flashstill.codesign.rows import OBJECTIVES, Rows, Values, price
from flashstill.codesign.scaled import scaled
from flashstill.codesign.subjects import Entry
from flashstill.cost import Conditions

Bests = Sequence[Sequence[tuple[float, int]]]
"""by subject and objective: the least cost and its row"""
Case = tuple[int, Parameter]
"""a subject and one of its counts"""
Mask = npt.NDArray[np.bool_]
WORSE = 1.05
"""cost over today's up to which a count may make the best ones dearer without a second look"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """The best of a subject with one count at its next value, by objective: costs, and whether they are of other
    configurations than today's."""

    costs: tuple[float, ...]
    jumps: tuple[bool, ...]


def counted(pool: Pool, bests: Bests) -> dict[tuple[int, str], Counted]:
    """By subject and parameter, what the next value of each count makes of the least costs."""
    chips = np.asarray(pool.stacked.question.chosen.layout.chips).reshape(-1)[pool.rows.layout]
    cases = [(place, one) for place, subject in enumerate(pool.stacked.subjects) for one in subject.parameters]
    noticing = {
        case: chips > noticed_above(case[1])
        for case in cases
        if case[1].kind == COUNT and case[1].next_value is not None
    }
    found = {(place, one.name): _unchanged(bests[place]) for place, one in noticing}
    used = [case for case, mask in noticing.items() if bool(mask[pool.of(case[0])].any())]
    if not used:
        return found
    entries, place_of = _changed(pool.stacked, used)
    varied = stack_entries(pool.stacked.question, pool.stacked.subjects, entries)
    wanted = {case: _contenders(pool, case, noticing[case], bests[case[0]], _worst(case[1])) for case in used}
    costs = _priced(pool, varied, place_of, wanted)
    worse = [case for case in used if not _covered(pool, case, noticing[case], bests[case[0]], costs[case])]
    if worse:  # the best of today lose so much that others than those that contend may be the best then
        wanted |= {case: _contenders(pool, case, noticing[case], bests[case[0]], np.inf) for case in worse}
        costs |= _priced(pool, varied, place_of, {case: wanted[case] for case in worse})
    for case in used:
        kept = _unnoticing(pool, case, noticing[case])
        found[case[0], case[1].name] = _best(pool, kept, bests[case[0]], wanted[case], costs[case])
    return found


def noticed_above(parameter: Parameter) -> float:
    """The number of chips up to which a count makes no difference."""
    assert parameter.value is not None
    return parameter.value if parameter.name == "link_domain_chips" else 1.0


def _unchanged(bests: Sequence[tuple[float, int]]) -> Counted:
    return Counted(costs=tuple(cost for cost, _ in bests), jumps=(False,) * len(bests))


def _changed(stacked: StackedEntries, cases: Sequence[Case]) -> tuple[list[Entry], dict[tuple[int, str], int]]:
    """The entries of each case with its count at the next value, and their places by entry and parameter."""
    found: list[Entry] = []
    places: dict[tuple[int, str], int] = {}
    for subject, one in cases:
        for place, entry in enumerate(stacked.entries):
            if entry.subject == subject:
                places[place, one.name] = len(found)
                key = None if entry.key is None else (entry.key, one.name)
                changed = _next(entry, one, stacked.question.stacks)
                found.append(replace(entry, conditions=changed, key=key))
    return found, places


def _next(entry: Entry, one: Parameter, known: dict[Any, Any]) -> Conditions:
    """The conditions with a count at its next value. known: those made before, for models in the same formats."""
    key = None if entry.key is None else ("count", entry.key, one.name)
    if key is not None and key in known:
        made: Conditions = known[key]
        return made
    assert one.value is not None
    assert one.next_value is not None
    if one.name == "link_domain_chips":
        changed = scaled(entry.conditions, {"domain": one.next_value / one.value})
    else:
        changed = _with_axes(entry.conditions, int(one.next_value))
    if key is not None:
        known[key] = changed
    return changed


def _with_axes(conditions: Conditions, axes: int) -> Conditions:
    chip = conditions.chip
    return replace(conditions, chip=replace(chip, topology=replace(chip.topology, **with_axes(chip.topology, axes))))


def _unnoticing(pool: Pool, case: Case, noticing: Mask) -> Places:
    """Rows of the subject whose cost the count leaves as it is."""
    mine = pool.of(case[0])
    return mine[~noticing[mine]]


def _contenders(pool: Pool, case: Case, noticing: Mask, bests: Sequence[tuple[float, int]], worse: float) -> Places:
    """Rows that would cost at most `worse` times the least of today if their chips exchanged data in no time."""
    mine = pool.of(case[0])
    least = np.array([cost for cost, _ in bests]) * worse
    bound = pool.prices.bare[:, mine] * (1.0 - pool.prices.links[mine])
    close: Mask = noticing[mine] & np.any(bound <= least[:, None], axis=0)
    if not pool.stacked.question.is_bound:  # what breaks a bound today may keep it with a faster exchange
        close &= pool.prices.feasible[mine]
    contenders: Places = mine[close]
    return contenders


def _worst(parameter: Parameter) -> float:
    """A larger domain makes nothing dearer; one more axis may."""
    return 1.0 + 1e-9 if parameter.name == "link_domain_chips" else WORSE


def _covered(pool: Pool, case: Case, noticing: Mask, bests: Sequence[tuple[float, int]], costs: Values) -> bool:
    """Whether the best with the changed count are surely among the contenders."""
    kept = _unnoticing(pool, case, noticing)
    least = [min(pool.best(kept, which)[0], float(one.min(initial=np.inf))) for which, one in enumerate(costs)]
    return all(now <= cost * _worst(case[1]) for now, (cost, row) in zip(least, bests, strict=True) if row >= 0)


def _priced(
    pool: Pool, varied: StackedEntries, place_of: Mapping[tuple[int, str], int], wanted: Mapping[Case, Places]
) -> dict[Case, Values]:
    """Costs of rows of the pool with a count changed, (objectives, rows), by case; all in one call."""
    which = np.concatenate(list(wanted.values()))
    together = pool.rows.at(which)
    names = [one.name for (_, one), rows in wanted.items() for _ in rows]
    places = [place_of[int(entry), name] for entry, name in zip(together.entry, names, strict=True)]
    rows = Rows(entry=np.array(places, dtype=np.intp), layout=together.layout, batch=together.batch)
    costs = (
        price(varied, rows, done=pool.prices.done[..., which]).costs if len(rows) else np.zeros((len(OBJECTIVES), 0))
    )
    ends = np.cumsum([len(part) for part in wanted.values()])
    return dict(zip(wanted, np.split(costs, ends[:-1], axis=1), strict=True))


def _best(pool: Pool, kept: Places, bests: Sequence[tuple[float, int]], rows: Places, after: Values) -> Counted:
    """The least of the rows `kept`, which stay as they are, and of `rows`, which cost `after` now."""
    least, jumps = [], []
    for which, (_, today) in enumerate(bests):
        cost, row = pool.best(kept, which)
        if after.shape[1] and float(after[which].min()) < cost:
            at = int(np.argmin(after[which]))
            cost, row = float(after[which, at]), int(rows[at])
        least.append(cost)
        jumps.append(row != today)
    return Counted(costs=tuple(least), jumps=tuple(jumps))
