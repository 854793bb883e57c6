"""What twice a number buys, and at which multiple of it another number becomes the one that binds.

Twice a rate, a capacity or a count, half of a fixed time, of static watts or of a price: always the better side.  The
deployment is chosen anew from all configurations.  A number binds if no other improves the cost more, per cent for per
cent; prices aside, which are no property of the silicon.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flashstill.codesign.elasticities import Elasticity, Sensitivity, sensitivities
from flashstill.codesign.parameters import COUNT, PRICE, SHARE, Parameter
from flashstill.codesign.pool import pool_of
from flashstill.codesign.questions import Question, stack_entries
from flashstill.codesign.rows import OBJECTIVES
from flashstill.codesign.scaled import scaled
from flashstill.codesign.subjects import Entry, Subject

QUARTERS = 16
"""quarters of a doubling up to which the bound is followed: sixteen times the number"""
Gains = dict[str, dict[str, float | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Binding:
    """The number that binds one objective. gain: per cent of the cost saved by one per cent of improvement.

    moves_at: factor of the number from which another binds, `moves_to`; None if none does up to sixteen times.
    followed: whether that was looked for.
    """

    parameter: str
    gain: float
    moves_at: float | None = None
    moves_to: str | None = None
    followed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The binding number as a JSON document."""
        return {
            "parameter": self.parameter,
            "gain": self.gain,
            "moves_at": self.moves_at,
            "moves_to": self.moves_to,
            "followed": self.followed,
        }


def gain_of(parameter: Parameter, elasticity: Elasticity | float | None) -> float | None:
    """How many per cent of the cost one per cent of improvement of the number saves."""
    value = elasticity.value if isinstance(elasticity, Elasticity) else elasticity
    return None if value is None else -value if parameter.more_is_better else value


def binding_of(parameters: Sequence[Parameter], found: Mapping[str, Any], objective: str) -> Binding | None:
    """The number whose improvement saves most; None if none saves anything."""
    best: Binding | None = None
    for one in parameters:
        gain = gain_of(one, found.get(one.name, {}).get(objective)) if one.kind not in (PRICE, SHARE) else None
        if gain is not None and gain > 0.0 and (best is None or gain > best.gain):
            best = Binding(parameter=one.name, gain=gain)
    return best


def doubled(question: Question, subject: Subject, entries: Sequence[Entry], today: Sensitivity) -> Gains:
    """Cost over today's with each number doubled, or halved where less is better, by parameter and objective."""
    names = [one for one in subject.parameters if one.kind != COUNT or one.name == "link_domain_chips"]
    factors = [improved(one) for one in names]
    subjects = [
        replace(subject, ratios=times(subject.ratios, one, factor)) for one, factor in zip(names, factors, strict=True)
    ]
    costs = _bests(question, subjects, entries)
    return {
        one.name: {
            objective: ratio(costs[number][which], today.optima[objective].cost) if objective in today.optima else None
            for which, objective in enumerate(OBJECTIVES)
        }
        for number, one in enumerate(names)
    }


def ratio(after: float, before: float) -> float | None:
    """The cost after a change over that before it; None if nothing is feasible then, or if it was free before."""
    return after / before if math.isfinite(after) and before > 0.0 else None


def improved(parameter: Parameter, factor: float = 2.0) -> float:
    """The factor of a number that improves it."""
    return factor if parameter.more_is_better else 1.0 / factor


def times(ratios: Mapping[str, float], parameter: Parameter, factor: float) -> dict[str, float]:
    """Ratios with one number multiplied once more."""
    return {**ratios, **{place: ratios.get(place, 1.0) * factor for place in parameter.acts_on}}


def _bests(question: Question, subjects: Sequence[Subject], entries: Sequence[Entry]) -> list[list[float]]:
    """The best costs, by subject and objective. subjects: the same chip with other numbers."""
    stacked = stack_entries(question, subjects, _on_subjects(subjects, entries))
    pool = pool_of(stacked, [Counter[str]() for _ in subjects])
    mine = [pool.of(place) for place in range(len(subjects))]
    return [[pool.best(rows, which)[0] for which in range(len(OBJECTIVES))] for rows in mine]


def _on_subjects(subjects: Sequence[Subject], entries: Sequence[Entry]) -> list[Entry]:
    return [
        replace(entry, subject=place, key=None, conditions=scaled(entry.conditions, entry.local(subject.ratios)))
        for place, subject in enumerate(subjects)
        for entry in entries
    ]


def followed(
    question: Question, subject: Subject, entries: Sequence[Entry], bindings: Mapping[str, Binding]
) -> dict[str, Binding]:
    """The bindings, with the multiple of each number at which another one binds. bindings: by objective."""
    by_name = {one.name: one for one in subject.parameters}
    found = dict(bindings)
    steps = [2.0 ** (quarter / 4.0) for quarter in range(1, QUARTERS + 1)]
    for name in dict.fromkeys(one.parameter for one in bindings.values()):
        parameter = by_name[name]
        if parameter.kind == COUNT:
            continue
        factors = [improved(parameter, factor) for factor in steps]
        subjects = [replace(subject, ratios=times(subject.ratios, parameter, factor)) for factor in factors]
        along = sensitivities(question, subjects, _on_subjects(subjects, entries), [Counter[str]() for _ in subjects])
        for objective, one in bindings.items():
            if one.parameter == name:
                found[objective] = _moved(one, subject, objective, along, factors)
    return found


def _moved(
    binding: Binding, subject: Subject, objective: str, along: Sequence[Sensitivity], factors: Sequence[float]
) -> Binding:
    for then, factor in zip(along, factors, strict=True):
        other = binding_of(subject.parameters, then.elasticities, objective)
        if other is not None and other.parameter != binding.parameter:
            return replace(binding, moves_at=factor, moves_to=other.parameter, followed=True)
    return replace(binding, followed=True)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is known; None of nothing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
