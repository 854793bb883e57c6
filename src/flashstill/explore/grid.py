"""Which states a saved page holds: for each view a rectangle over some of its controls, around the state it starts at.

Every other control stays as it is at the start, which the page says beside it. The values come from what `/states` says
of a control: a slider's stops around the present one, a short list whole, and of a long list (models, chips) those
that the control of several of the same things has.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import urlencode

OFFSETS = (0, 2, -2, 4, -4, 6, 8)
"""stops of a slider, from the present one, in the order of their worth"""
BOUNDS = 5
"""values of a bound beside none, evenly over its stops"""
SHORT = 4
"""choices up to which a list is taken whole"""
Value = str | int | float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A control with the values that a saved page has of it, the present one first."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The states of a view: every combination of the values of its axes."""

    view: str
    axes: tuple[Axis, ...]

    @property
    def count(self) -> int:
        """Number of states."""
        return math.prod(len(axis.values) for axis in self.axes)

    def queries(self, base: Mapping[str, Any]) -> Iterator[str]:
        """The query of each state, the last axis changing fastest; base: the state that it starts at."""
        for values in product(*(axis.values for axis in self.axes)):
            yield query_of(self.view, {**base, **dict(zip((axis.name for axis in self.axes), values, strict=True))})


def query_of(view: str, state: Mapping[str, Any]) -> str:
    """A state of the protocol as a query."""
    pairs: list[tuple[str, Any]] = [("view", view)]
    for name, value in state.items():
        if name == "view":
            continue
        if name == "set":
            pairs += [(name, edit) for edit in value]
        else:
            pairs.append((name, "" if value is None else ",".join(value) if isinstance(value, list) else value))
    return urlencode(pairs)


def grid_of(
    view: str, heard: Collection[str], told: Sequence[Mapping[str, Any]], state: Mapping[str, Any], most: int
) -> Grid:
    """At most `most` states of a view: its axes grow in turns, those of models, chips and sliders before the others.

    heard: the controls that the view listens to, of all those that are told.
    """
    several = {_listed(each): state.get(each["name"]) for each in told if each["kind"] == "choices"}
    controls = [each for each in told if each["name"] in heard]
    worth = [_candidates(each, state.get(each["name"]), several.get(_listed(each))) for each in controls]
    first = [(each["name"], values) for each, (rank, values) in zip(controls, worth, strict=True) if rank == 0]
    second = [(each["name"], values) for each, (rank, values) in zip(controls, worth, strict=True) if rank == 1]
    sizes = {name: 1 for name, _ in (*first, *second)}
    for group in (first, second):
        growing = True
        while growing:
            growing = False
            for name, values in group:
                more = math.prod(sizes.values()) // sizes[name] * (sizes[name] + 1)
                if sizes[name] < len(values) and more <= most:
                    sizes[name] += 1
                    growing = True
    chosen = {name: _in_order(values[: sizes[name]]) for name, values in (*first, *second) if sizes[name] > 1}
    named = [each["name"] for each in controls if each["name"] in chosen]
    return Grid(view=view, axes=tuple(Axis(name=name, values=chosen[name]) for name in named))


def _candidates(control: Mapping[str, Any], now: Any, siblings: Any) -> tuple[int, tuple[Value, ...]]:
    """(0 for what is varied first, 1 for the rest; values with the present one first, by their worth)."""
    if control["kind"] == "number":
        stops = list(control.get("stops") or ())
        if now is None:
            if control.get("whole") or not stops:
                return 1, (None,)
            pace = max(len(stops) // BOUNDS, 1)
            return 0, (None, *stops[pace // 2 :: pace][:BOUNDS])
        if now not in stops:
            stops = sorted({*stops, now})
        place = stops.index(now)
        return 0, tuple(stops[place + off] for off in OFFSETS if 0 <= place + off < len(stops))
    if control["kind"] != "choice":
        return 1, (now,)
    listed = [each["value"] or None for each in control["choices"]]
    if siblings:
        return 0, (now, *(name for name in siblings if name != now))
    if len(listed) <= SHORT:
        return 1, (now, *(name for name in listed if name != now))
    return 1, (now,)


def _listed(control: Mapping[str, Any]) -> tuple[str, ...]:
    """What a control offers, by which controls of the same things know each other."""
    return tuple(each["value"] for each in control.get("choices") or () if each["value"])


def _in_order(values: Sequence[Value]) -> tuple[Value, ...]:
    """Numbers from small to large after "not set"; names as they come."""
    if all(value is None or isinstance(value, int | float) for value in values):
        return tuple(sorted(values, key=lambda value: (value is not None, value or 0.0)))
    return tuple(values)
