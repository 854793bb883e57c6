"""Rows whose parts are alike: operations, experts and exchanges are priced once for all rows that share them.

A change of a chip's peak leaves all exchanges as they are, a change of its links all operations; a pipeline's stages
change neither the operations of one stage nor those of its experts.  So each part of a step has a shorter list of rows
(cost/parts.py), and only what adds the parts up runs over all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from flashstill.codesign.parameters import COLLECTIVE_FLOORS, KERNEL_FLOORS, UNIT_LOADS
from flashstill.codesign.scaled import scaled, taken
from flashstill.cost import Conditions
from flashstill.cost.parts import Part, Parts, from_table
from flashstill.distinct import distinct_integers
from flashstill.hardware.stacked import AXES, along

Values = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.intp]
MOST = 0.9
"""share of distinct rows among all, above which a part is priced for all of them"""
MOST_COMBINATIONS = 2**62
"""of ratios that one integer tells apart"""
_OF_EXCHANGES = ("link", "hop", "domain", "scale_out", "scale_out_hop", COLLECTIVE_FLOORS)
_OF_OPERATIONS = ("on_chip", "vectors", KERNEL_FLOORS, UNIT_LOADS)


def bears_on_exchanges(place: str) -> bool:
    """Whether a place of the conditions bears on the seconds in which chips exchange data."""
    return place in _OF_EXCHANGES


def bears_on_operations(place: str) -> bool:
    """Whether a place of the conditions bears on the work of a chip's operations: peaks, bandwidths, kernel floors."""
    return place in _OF_OPERATIONS or place.startswith("flops.") or place.endswith(".rate")


def rows_of(stack: Conditions, place: Places, ratios: Mapping[str, Values]) -> Conditions:
    """Conditions of rows. place: of each row's chip in the stack; ratios: by place of the conditions, (rows,)."""
    acting = {name: along(values) for name, values in ratios.items() if np.any(values != 1.0)}
    conditions = taken(stack, place)
    return scaled(conditions, acting, len(place)) if acting else conditions


def parts_of(
    stack: Conditions,
    place: Places,
    ratios: Mapping[str, Values],
    degrees: Values,
    counts: tuple[Values, ...],
    routed: bool,
    done: Values | None = None,
) -> Parts:
    """The distinct rows of each part.

    degrees: of each row's layout, (5, rows).  counts: all else that the work depends on, each (rows,): sequences and
    prompts of a tensor-parallel group.  routed: whether the model has experts.  done: the work of the operations, if it
    is known (`as_table`).
    """
    tp, _, ep, dp, redundant = degrees.astype(np.int64)
    same = _numbered(place.astype(np.int64), *(_number(values) for values in counts), tp)
    work = _numbered(same, _changed(ratios, bears_on_operations))
    spread = (ep, dp, redundant)
    sent = _numbered(same, *spread, degrees[1].astype(np.int64), _changed(ratios, bears_on_exchanges))

    def part(key: Integers, bears: Callable[[str], bool]) -> Part | None:
        many = int(key.max()) + 1
        if many > MOST * len(key):
            return None
        first = np.empty(many, dtype=np.intp)
        first[key[::-1]] = np.arange(len(key))[::-1]
        own = {name: values[first] for name, values in ratios.items() if bears(name)}
        return Part(conditions=rows_of(stack, place[first], own), first=first, at=key)

    exchanges = part(sent, bears_on_exchanges)
    if done is not None:
        ready = iter(from_table(done, AXES + 1))
        return Parts(operations=None, experts=None, exchanges=exchanges, ready=ready)
    return Parts(
        operations=part(work, bears_on_operations),
        experts=part(_numbered(work, *spread), bears_on_operations) if routed else None,
        exchanges=exchanges,
        kept=[],
    )


def _numbered(*keys: Integers) -> Integers:
    """The number of each distinct combination of the keys."""
    _, place = distinct_integers(*keys)
    return place.astype(np.int64)


def _number(values: Values) -> Integers:
    """A number from 0 for each distinct value."""
    return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.int64)


def _changed(ratios: Mapping[str, Values], bears: Callable[[str], bool]) -> Integers:
    """A number for each distinct combination of the ratios that bear on a part; 0 where all are 1."""
    number: Integers = np.zeros((), dtype=np.int64)
    combinations = 1
    for name, values in ratios.items():
        at = np.flatnonzero(values != 1.0) if bears(name) else ()
        if not len(at):
            continue
        few, which = np.unique(values[at], return_inverse=True)
        if combinations > MOST_COMBINATIONS // (len(few) + 1):
            number = _numbered(number)
            combinations = int(number.max()) + 1
        own = np.zeros(len(values), dtype=np.int64)
        own[at] = 1 + which.reshape(-1)
        number = number * (len(few) + 1) + own
        combinations *= len(few) + 1
    return _numbered(number)
