"""Configurations near the best, priced again for chips with one number changed: one row for each, all in one call.

A row is one configuration on one chip with one change.  Unlike a grid, rows share nothing but the structure of their
chips, so that the conditions of all rows are one stack and their layouts are arrays of the same length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.codesign.grids import Grid, Question, Values, objectives_of
from flashstill.codesign.parameters import COUNT, Parameter
from flashstill.codesign.scaled import scaled
from flashstill.codesign.subjects import Subject, hours_of
from flashstill.cost import Conditions, serve
from flashstill.cost.serving import capacity
from flashstill.cost.stacks import stacked_alike
from flashstill.hardware import Chip
from flashstill.hardware.stacked import along
from flashstill.plan.feasible import refusals
from flashstill.plan.layouts import layout_of

ROWS = 20_000
"""rows of one call, at the most"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What is done to a subject's numbers: nothing first, then each parameter up and down.

    parameters: those that are scaled, in order.  places: of the conditions, columns of `ratios`.
    ratios: (1 + 2 parameters, places).
    """

    parameters: tuple[Parameter, ...]
    places: tuple[str, ...]
    ratios: Values


def changes_of(subject: Subject, factor: float) -> Changes:
    """Each number that is no count, multiplied and divided by `factor`."""
    scaled_ones = tuple(one for one in subject.parameters if one.kind != COUNT)
    places = tuple(dict.fromkeys(place for one in scaled_ones for place in one.acts_on))
    ratios = np.ones((1 + 2 * len(scaled_ones), len(places)))
    for number, one in enumerate(scaled_ones):
        for place in one.acts_on:
            ratios[1 + 2 * number, places.index(place)] = factor
            ratios[2 + 2 * number, places.index(place)] = 1.0 / factor
    return Changes(parameters=scaled_ones, places=places, ratios=ratios)


def priced_nearby(
    question: Question,
    subjects: Sequence[Subject],
    grids: Sequence[Grid],
    configurations: Sequence[tuple[int, int, int]],
    changes: Sequence[Changes],
) -> list[Values]:
    """For each configuration (grid, layout, batch): (objectives, changes of its subject), infinite where infeasible."""
    found: list[Values | None] = [None] * len(configurations)
    used = sorted({grid for grid, _, _ in configurations})
    for places, conditions in stacked_alike([grids[grid].entry.conditions for grid in used], len(used)):
        at = {used[place]: number for number, place in enumerate(places)}
        mine = [number for number, (grid, _, _) in enumerate(configurations) if grid in at]
        for part in _parts(mine, [len(changes[grids[configurations[one][0]].entry.subject].ratios) for one in mine]):
            chosen = [configurations[one] for one in part]
            rows = _rows(question, subjects, grids, chosen, changes, conditions, [at[grid] for grid, _, _ in chosen])
            for one, values in zip(part, rows, strict=True):
                found[one] = values
    return [values for values in found if values is not None]


def _parts(mine: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Configurations in parts of at most ROWS rows."""
    parts: list[list[int]] = []
    rows = ROWS
    for one, length in zip(mine, lengths, strict=True):
        if rows + length > ROWS:
            parts.append([])
            rows = 0
        parts[-1].append(one)
        rows += length
    return parts


def _rows(
    question: Question,
    subjects: Sequence[Subject],
    grids: Sequence[Grid],
    configurations: Sequence[tuple[int, int, int]],
    changes: Sequence[Changes],
    conditions: Conditions,
    chips: Sequence[int],
) -> list[Values]:
    """The costs of each configuration. chips: its place in the stack `conditions`."""
    chosen, entries = question.chosen, [grids[grid].entry for grid, _, _ in configurations]
    lengths = np.array([len(changes[entry.subject].ratios) for entry in entries])
    places = tuple(dict.fromkeys(place for entry in entries for place in changes[entry.subject].places))
    table = np.ones((int(lengths.sum()), len(places)))
    ends = np.cumsum(lengths)
    for entry, end, length in zip(entries, ends, lengths, strict=True):
        one = changes[entry.subject]
        table[end - length : end, [places.index(place) for place in one.places]] = one.ratios
    ratios = dict(zip(places, table.T, strict=True))
    which = np.repeat(np.arange(len(configurations)), lengths)
    many = int(lengths.sum())
    stack = scaled(
        taken(conditions, np.asarray(chips)[which]), {name: along(column) for name, column in ratios.items()}, many
    )
    degrees = chosen.degrees[:, [layout for _, layout, _ in configurations], 0]
    layout = layout_of(along(row[which]) for row in degrees)
    batch = along(chosen.batches[0, [batch for _, _, batch in configurations]][which])
    load = question.load_at(batch)
    pace = serve(question.model, stack, layout, load, question.speculation)
    alone, fitting = capacity(question.model, stack, layout, load, question.speculation)
    room = np.where(np.asarray(alone) >= 1.0, fitting, 0.0)
    refused = refusals(
        question.scenario, entries[0].conditions.chip, layout, batch, entries[0].overlap, room,
        pace.ttft_s, pace.tpot_s, pace.output_tokens_per_s,
    )  # fmt: skip
    feasible = np.ones(many, dtype=bool)
    for mask in refused.values():
        feasible &= ~np.broadcast_to(mask, batch.shape).reshape(-1)
    owners = np.array([entry.subject for entry in entries])[which]
    own = {name: np.array([one.ratios.get(name, 1.0) for one in subjects])[owners] for name in _PRICED}
    price = hours_of(subjects, owners, {name: own[name] * ratios.get(name, 1.0) for name in _PRICED})
    costs = objectives_of(price, _flat(layout.chips, many), _Rates(pace, many))
    costs = np.where(feasible, costs, np.inf)
    return np.split(costs, ends[:-1], axis=1)


_PRICED = ("rent", "purchase", "limit", "idle")


class _Rates:
    """The rates of a pace, as flat arrays."""

    def __init__(self, pace: Any, many: int) -> None:
        self.tpot_s, self.joules_per_output_token, self.output_tokens_per_s, self.watts_per_chip = (
            _flat(getattr(pace, name), many)
            for name in ("tpot_s", "joules_per_output_token", "output_tokens_per_s", "watts_per_chip")
        )


def _flat(value: Any, many: int) -> Values:
    return np.broadcast_to(value, along(np.ones(many)).shape).reshape(-1)


def taken(value: Any, places: npt.NDArray[np.intp]) -> Any:
    """A stack with its chips taken at these places, which may repeat."""
    return _taken(value, places, {})


def _taken(value: Any, places: npt.NDArray[np.intp], made: dict[int, Any]) -> Any:
    """As `taken`; the same object for the same object, and the object itself if it holds no array."""
    if isinstance(value, np.ndarray):
        return value[places]
    if isinstance(value, dict):
        parts = {key: _taken(one, places, made) for key, one in value.items()}
        return parts if any(parts[key] is not value[key] for key in parts) else value
    if isinstance(value, tuple):
        items = tuple(_taken(one, places, made) for one in value)
        return items if any(one is not other for one, other in zip(items, value, strict=True)) else value
    if not is_dataclass(value) or isinstance(value, type):
        return value
    if id(value) not in made:
        changed = {
            each.name: after
            for each in fields(value)
            if each.init and (after := _taken(before := getattr(value, each.name), places, made)) is not before
        }
        if isinstance(value, Chip) and value.stacked:
            changed["stacked"] = len(places)
        made[id(value)] = replace(value, **changed) if changed else value
    return made[id(value)]
