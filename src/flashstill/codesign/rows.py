"""Configurations priced as rows: each with its own chip, layout and batch, all of one structure in one call.

    room      sequences that fit, of every entry and layout, from the footprint alone
    price     dollars, joules and seconds of any rows; the numbers of a row's chip may be multiplied

Unlike a grid of every layout with every batch, rows can be only those that matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.codesign.scaled import scaled, taken
from flashstill.codesign.subjects import Entry, Subject, hours_of
from flashstill.cost import Conditions, Load, Speculation, serve
from flashstill.cost.serving import capacity, running_requests
from flashstill.cost.stacks import stacked_alike
from flashstill.economics import usd_per_million_tokens
from flashstill.hardware.stacked import AXES, along
from flashstill.plan.feasible import refusals
from flashstill.plan.layouts import layout_of
from flashstill.plan.scenario import Scenario
from flashstill.plan.tables import Candidates

OBJECTIVES = ("usd", "joules", "seconds")
"""dollars per million output tokens, joules per output token, seconds per output token (after the first)"""
ROWS = 6_000
"""rows of one call, at the most: arrays that fit in a core's cache"""
PRICED = ("rent", "purchase", "limit", "idle")
"""places of the conditions that the price of an hour depends on"""
Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Model, load and bounds; the configurations tried are every layout with every batch of `chosen`.

    stacks: stacks of conditions that were made before, for models in the same formats.
    """

    model: Architecture
    scenario: Scenario
    chosen: Candidates
    speculation: Speculation | None = None
    stacks: dict[Any, Any] = field(default_factory=dict)

    def load_at(self, batch: Any) -> Load:
        """The load at a number of requests in flight."""
        asked = self.scenario
        return Load(
            isl=float(asked.isl), osl=float(asked.osl), concurrency=batch, batching_steps=asked.batching_steps,
            burst_share=asked.burst_share, cohort=asked.cohort, cached=float(asked.cached_tokens),
        )  # fmt: skip

    @property
    def is_bound(self) -> bool:
        """Whether the question has bounds, which only a price can tell to be kept."""
        asked = self.scenario
        return any(bound is not None for bound in (asked.max_ttft_s, asked.max_tpot_s, asked.min_tokens_per_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """A question with the entries of its subjects, stacked by structure.

    group, place: of each entry, the stack that has it, and where.
    """

    question: Question
    subjects: Sequence[Subject]
    entries: Sequence[Entry]
    stacks: tuple[Conditions, ...]
    group: Places
    place: Places


def ground_of(question: Question, subjects: Sequence[Subject], entries: Sequence[Entry]) -> Ground:
    """The entries stacked; the same stacks again for a question about another model in the same formats."""
    keys = tuple(entry.key for entry in entries)
    known = all(key is not None for key in keys)
    if not known or keys not in question.stacks:
        group, place = np.zeros(len(entries), np.intp), np.zeros(len(entries), np.intp)
        stacks: list[Conditions] = []
        for places, conditions in stacked_alike([entry.conditions for entry in entries], len(entries) or 1):
            group[places], place[places] = len(stacks), np.arange(len(places))
            stacks.append(conditions)
        made = (tuple(stacks), group, place)
        if not known:
            return _ground(question, subjects, entries, made)
        question.stacks[keys] = made
    return _ground(question, subjects, entries, question.stacks[keys])


def _ground(question: Question, subjects: Sequence[Subject], entries: Sequence[Entry], made: Any) -> Ground:
    stacks, group, place = made
    return Ground(question=question, subjects=subjects, entries=entries, stacks=stacks, group=group, place=place)


def rooms_of(ground: Ground, step: float = 0.0) -> Values:
    """(entries, layouts): sequences that fit at the same time. step: with every memory larger by so much."""
    question, chosen = ground.question, ground.question.chosen
    rooms = np.zeros((len(ground.entries), chosen.shape[0]))
    for number, conditions in enumerate(ground.stacks):
        if step:
            tiers = {one.name for one in (*conditions.chip.tiers, conditions.weights, conditions.cache)}
            conditions = scaled(conditions, {f"{name}.bytes": 1.0 + step for name in tiers})
        mine = ground.group == number
        alone, fitting = capacity(
            question.model, conditions, chosen.layout, question.load_at(chosen.batches), question.speculation
        )
        room = np.where(np.asarray(alone) >= 1.0, fitting, 0.0)
        whole = (conditions.chip.stacked, *(1,) * (AXES - 2), chosen.shape[0], 1)
        rooms[mine] = np.broadcast_to(room, whole).reshape(-1, chosen.shape[0])[ground.place[mine]]
    return rooms


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Configurations: the entry, layout and batch of each, as places in their lists."""

    entry: Places
    layout: Places
    batch: Places

    def __len__(self) -> int:
        return len(self.entry)

    def at(self, which: Any) -> Rows:
        """The rows at these places."""
        return Rows(entry=self.entry[which], layout=self.layout[which], batch=self.batch[which])

    def and_(self, other: Rows) -> Rows:
        """These rows, then the others."""
        parts = ((getattr(self, name), getattr(other, name)) for name in ("entry", "layout", "batch"))
        entry, layout, batch = (np.concatenate(part) for part in parts)
        return Rows(entry=entry, layout=layout, batch=batch)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Costs of rows, (objectives, rows): `bare` whether feasible or not, `costs` infinite where not.

    nearly: whether a small change could make the row feasible.  gain: see `price`.
    watts: of a chip.  links: share of the seconds in which chips exchange data, of decode or of prefill steps, the
    larger one.
    refused: masks of rows by reason.
    """

    bare: Values
    feasible: npt.NDArray[np.bool_]
    nearly: npt.NDArray[np.bool_]
    gain: Values
    watts: Values
    links: Values
    refused: dict[str, npt.NDArray[np.bool_]]

    @property
    def costs(self) -> Values:
        """Infinite where not feasible."""
        return np.where(self.feasible, self.bare, np.inf)

    def and_(self, other: Prices) -> Prices:
        """The prices of these rows, then of the others."""
        masks = {**dict.fromkeys(self.refused, False), **dict.fromkeys(other.refused, False)}
        return Prices(
            bare=np.concatenate((self.bare, other.bare), axis=1),
            feasible=np.concatenate((self.feasible, other.feasible)),
            nearly=np.concatenate((self.nearly, other.nearly)),
            gain=np.concatenate((self.gain, other.gain)),
            watts=np.concatenate((self.watts, other.watts)),
            links=np.concatenate((self.links, other.links)),
            refused={why: np.concatenate((self.refused[why], other.refused[why])) for why in masks},
        )


def price(ground: Ground, rows: Rows, ratios: Mapping[str, Values] | None = None, step: float = 0.0) -> Prices:
    """Price rows. ratios: by place of the conditions, what the number of each row's chip is multiplied by.

    step: relative change for which `nearly` and `gain` are wanted; gain is the factor, at most 1, that a little more
    memory can bring the costs down by, as more of the requests in flight run at once.
    """
    many = len(rows)
    bare, feasible, nearly = np.zeros((len(OBJECTIVES), many)), np.ones(many, bool), np.ones(many, bool)
    gain, watts, links = np.ones(many), np.zeros(many), np.zeros(many)
    refused: dict[str, npt.NDArray[np.bool_]] = {}
    of = ground.group[rows.entry]
    for group in range(len(ground.stacks)):
        mine = np.flatnonzero(of == group)
        parts = max(1, -(-len(mine) // ROWS))
        for part in np.array_split(mine, parts) if len(mine) else ():
            some = None if ratios is None else {name: values[part] for name, values in ratios.items()}
            found = _price(ground, rows.at(part), group, some, step)
            bare[:, part], feasible[part], nearly[part] = found.bare, found.feasible, found.nearly
            gain[part], watts[part], links[part] = found.gain, found.watts, found.links
            for why, mask in found.refused.items():
                refused.setdefault(why, np.zeros(many, bool))[part] = mask
    return Prices(bare=bare, feasible=feasible, nearly=nearly, gain=gain, watts=watts, links=links, refused=refused)


def _price(ground: Ground, rows: Rows, group: int, ratios: Mapping[str, Values] | None, step: float) -> Prices:
    """Rows of one stack."""
    question, chosen, many = ground.question, ground.question.chosen, len(rows)
    conditions = taken(ground.stacks[group], ground.place[rows.entry])
    if ratios:
        acting = {name: along(values) for name, values in ratios.items() if np.any(values != 1.0)}
        conditions = scaled(conditions, acting, many)
    layout = layout_of(along(degree) for degree in chosen.degrees[:, rows.layout, 0])
    batch = along(chosen.batches[0, rows.batch])
    load = question.load_at(batch)
    pace = serve(question.model, conditions, layout, load, question.speculation)
    room = _room(question, conditions, layout, load)
    asked = (question.scenario, conditions.chip, layout, batch, ground.entries[int(rows.entry[0])].overlap)
    refused = refusals(*asked, room, pace.ttft_s, pace.tpot_s, pace.output_tokens_per_s)
    masks = {why: np.broadcast_to(mask, batch.shape).reshape(-1) for why, mask in refused.items()}
    feasible = ~np.logical_or.reduce(list(masks.values()))
    nearly, gain = feasible, np.ones(many)
    if step:
        tiers = {one.name for one in (*conditions.chip.tiers, conditions.weights, conditions.cache)}
        larger = scaled(conditions, {f"{name}.bytes": 1.0 + step for name in tiers}, many)
        then, eased = _room(question, larger, layout, load), 1.0 + 10.0 * step
        near = refusals(*asked, then, pace.ttft_s / eased, pace.tpot_s / eased, pace.output_tokens_per_s * eased)
        nearly = ~np.logical_or.reduce([np.broadcast_to(mask, batch.shape).reshape(-1) for mask in near.values()])
        gain = _flat(running_requests(conditions, load, room) / running_requests(conditions, load, then), many)
    owners = np.array([entry.subject for entry in ground.entries])[rows.entry]
    bare = _objectives(ground, owners, ratios or {}, _flat(layout.chips, many), pace)
    shares = (_flat(step.shares_s["links"] / step.seconds, many) for step in (pace.decode, pace.prefill))
    links = np.maximum(*shares)
    watts = _flat(pace.watts_per_chip, many)
    return Prices(bare=bare, feasible=feasible, nearly=nearly, gain=gain, watts=watts, links=links, refused=masks)


def _room(question: Question, conditions: Conditions, layout: Any, load: Load) -> Any:
    alone, fitting = capacity(question.model, conditions, layout, load, question.speculation)
    return np.where(np.asarray(alone) >= 1.0, fitting, 0.0)


def _objectives(ground: Ground, owners: Places, ratios: Mapping[str, Values], chips: Values, pace: Any) -> Values:
    """The three objectives; infinite dollars without a price."""
    many, subjects = len(owners), ground.subjects
    own = {name: np.array([one.ratios.get(name, 1.0) for one in subjects])[owners] for name in PRICED}
    hours = hours_of(subjects, owners, {name: own[name] * ratios.get(name, 1.0) for name in PRICED})
    rate, watts = _flat(pace.output_tokens_per_s, many), _flat(pace.watts_per_chip, many)
    dollars = usd_per_million_tokens(hours, 1.0, chips, rate, watts)
    assert dollars is not None
    dollars = np.where(np.isnan(dollars), np.inf, dollars)
    return np.stack([dollars, _flat(pace.joules_per_output_token, many), _flat(pace.tpot_s, many)])


def _flat(value: Any, many: int) -> Values:
    return np.broadcast_to(value, (many, *(1,) * AXES)).reshape(-1)
