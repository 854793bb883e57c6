"""Configurations priced as rows: each with its own chip, layout and batch, all of one structure in one call.

    room      sequences that fit, of every entry and layout, from the footprint alone
    price     dollars, joules and seconds of any rows; the numbers of a row's chip may be multiplied

Unlike a grid of every layout with every batch, rows can be only those that matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.codesign.parts import parts_of, rows_of
from flashstill.codesign.questions import Places, Question, StackedEntries
from flashstill.codesign.row_prices import Prices, with_steps
from flashstill.codesign.scaled import scaled
from flashstill.codesign.subjects import hours_of
from flashstill.cost import Conditions, Load, serve
from flashstill.cost.admission import capacity, running_requests
from flashstill.cost.load import prompts_together
from flashstill.cost.parts import as_table
from flashstill.economics import usd_per_million_tokens
from flashstill.hardware.stacked import AXES, along
from flashstill.plan.feasible import refusals
from flashstill.plan.layouts import layout_of

OBJECTIVES = ("usd", "joules", "seconds")
"""dollars per million output tokens, joules per output token, seconds per output token (after the first)"""
ROWS = 6000
"""rows of one call, at the most: arrays that fit in a core's cache"""
PRICED = ("rent", "purchase", "limit", "idle")
"""places of the conditions that the price of an hour depends on"""
Values = npt.NDArray[np.float64]


def rooms_of(stacked: StackedEntries, step: float = 0.0) -> Values:
    """(entries, layouts): sequences that fit at the same time. step: with every memory larger by so much."""
    question, chosen = stacked.question, stacked.question.chosen
    rooms = np.zeros((len(stacked.entries), chosen.shape[0]))
    for number, conditions in enumerate(stacked.stacks):
        if step:
            tiers = {one.name for one in (*conditions.chip.tiers, conditions.weights, conditions.cache)}
            conditions = scaled(conditions, {f"{name}.bytes": 1.0 + step for name in tiers})
        mine = stacked.group == number
        alone, fitting = capacity(
            question.model, conditions, chosen.layout, question.load_at(chosen.batches), question.speculation
        )
        room = np.where(np.asarray(alone) >= 1.0, fitting, 0.0)
        whole = (conditions.chip.stacked, *(1,) * (AXES - 2), chosen.shape[0], 1)
        rooms[mine] = np.broadcast_to(room, whole).reshape(-1, chosen.shape[0])[stacked.place[mine]]
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


def price(
    stacked: StackedEntries,
    rows: Rows,
    ratios: Mapping[str, Values] | None = None,
    step: float = 0.0,
    done: Values | None = None,
) -> Prices:
    """Price rows. ratios: by place of the conditions, what the number of each row's chip is multiplied by.

    step: relative change for which `nearly`, `gain` and `risk` are wanted; gain is the factor, at most 1, that a little
    more memory can bring the costs down by, as more of the requests in flight run at once, and risk the factor that a
    little less can bring them up by: infinite where the row might then not be feasible.
    done: work of the operations of these rows, as found before, of chips that differ in links only.
    """
    many = len(rows)
    bare, feasible, nearly = np.zeros((len(OBJECTIVES), many)), np.ones(many, bool), np.ones(many, bool)
    gain, risk, watts, links = np.ones(many), np.ones(many), np.zeros(many), np.zeros(many)
    refused: dict[str, npt.NDArray[np.bool_]] = {}
    works: Values | None = done
    of = stacked.group[rows.entry]
    for group in range(len(stacked.stacks)):
        mine = np.flatnonzero(of == group)
        parts = max(1, -(-len(mine) // ROWS))
        for part in np.array_split(mine, parts) if len(mine) else ():
            some = None if ratios is None else {name: values[part] for name, values in ratios.items()}
            found = _price(stacked, rows.at(part), group, some, step, None if done is None else done[..., part])
            bare[:, part], feasible[part], nearly[part] = found.bare, found.feasible, found.nearly
            gain[part], risk[part] = found.gain, found.risk
            watts[part], links[part] = found.watts, found.links
            if done is None and ratios is None:
                works = with_steps(works, found.done, many)
                works[: len(found.done), ..., part] = found.done
            for why, mask in found.refused.items():
                refused.setdefault(why, np.zeros(many, bool))[part] = mask
    return Prices(
        bare=bare, feasible=feasible, nearly=nearly, gain=gain, risk=risk, watts=watts, links=links, refused=refused,
        done=np.zeros((0, 0, 0, many)) if works is None else works,
    )  # fmt: skip


def _price(
    stacked: StackedEntries,
    rows: Rows,
    group: int,
    ratios: Mapping[str, Values] | None,
    step: float,
    done: Values | None,
) -> Prices:
    """Rows of one stack."""
    question, chosen, many = stacked.question, stacked.question.chosen, len(rows)
    stack, place, degrees = stacked.stacks[group], stacked.place[rows.entry], chosen.degrees[:, rows.layout, 0]
    conditions = rows_of(stack, place, ratios or {})
    layout = layout_of(along(degree) for degree in degrees)
    batch = along(chosen.batches[0, rows.batch])
    load = question.load_at(batch)
    alone, fitting = capacity(question.model, conditions, layout, load, question.speculation)
    room = np.where(np.asarray(alone) >= 1.0, fitting, 0.0)
    local = layout.local_batch(np.minimum(batch, np.maximum(fitting, 1.0)))
    counts = (_flat(local, many), _flat(prompts_together(conditions, load, local), many))
    parts = parts_of(stack, place, ratios or {}, degrees, counts, question.model.routed, done)
    pace = serve(question.model, replace(conditions, parts=parts), layout, load, question.speculation)
    asked = (question.scenario, conditions.chip, layout, batch, stacked.entries[int(rows.entry[0])].overlap)
    refused = refusals(*asked, room, pace.ttft_s, pace.tpot_s, pace.output_tokens_per_s)
    masks = {why: np.broadcast_to(mask, batch.shape).reshape(-1) for why, mask in refused.items()}
    feasible = ~np.logical_or.reduce(list(masks.values()))
    nearly, gain, risk = feasible, np.ones(many), np.ones(many)
    if step:
        tiers = {one.name for one in (*conditions.chip.tiers, conditions.weights, conditions.cache)}
        running, ease = running_requests(conditions, load, room), 1.0 + 10.0 * step

        def beside(factor: float, eased: float) -> tuple[npt.NDArray[np.bool_], Values]:
            """Whether rows are feasible with so much memory and bounds eased, and their running requests over now's."""
            other = scaled(conditions, {f"{name}.bytes": factor for name in tiers}, many)
            then = _room(question, other, layout, load)
            why = refusals(*asked, then, pace.ttft_s / eased, pace.tpot_s / eased, pace.output_tokens_per_s * eased)
            fits = ~np.logical_or.reduce([np.broadcast_to(mask, batch.shape).reshape(-1) for mask in why.values()])
            return fits, _flat(running_requests(conditions, load, then) / running, many)

        nearly, more = beside(1.0 + step, ease)
        stays, fewer = beside(1.0 / (1.0 + step), 1.0 / ease)
        gain = 1.0 / more
        risk = np.where(stays, 1.0 / np.maximum(fewer, 1e-12), np.inf)
    owners = np.array([entry.subject for entry in stacked.entries])[rows.entry]
    bare = _objectives(stacked, owners, ratios or {}, _flat(layout.chips, many), pace)
    shares = (_flat(step.shares_s["links"] / step.seconds, many) for step in (pace.decode, pace.prefill))
    links = np.maximum(*shares)
    watts = _flat(pace.watts_per_chip, many)
    return Prices(
        bare=bare, feasible=feasible, nearly=nearly, gain=gain, risk=risk, watts=watts, links=links, refused=masks,
        done=as_table(parts.kept, many) if parts.kept and ratios is None else np.zeros((0, 0, 0, many)),
    )  # fmt: skip


def _room(question: Question, conditions: Conditions, layout: Any, load: Load) -> Any:
    alone, fitting = capacity(question.model, conditions, layout, load, question.speculation)
    return np.where(np.asarray(alone) >= 1.0, fitting, 0.0)


def _objectives(
    stacked: StackedEntries, owners: Places, ratios: Mapping[str, Values], chips: Values, pace: Any
) -> Values:
    """The three objectives; infinite dollars without a price."""
    many, subjects = len(owners), stacked.subjects
    own = {name: np.array([one.ratios.get(name, 1.0) for one in subjects])[owners] for name in PRICED}
    hours = hours_of(subjects, owners, {name: own[name] * ratios.get(name, 1.0) for name in PRICED})
    rate, watts = _flat(pace.output_tokens_per_s, many), _flat(pace.watts_per_chip, many)
    dollars = usd_per_million_tokens(hours, 1.0, chips, rate, watts)
    assert dollars is not None
    dollars = np.where(np.isnan(dollars), np.inf, dollars)
    return np.stack([dollars, _flat(pace.joules_per_output_token, many), _flat(pace.tpot_s, many)])


def _flat(value: Any, many: int) -> Values:
    return np.broadcast_to(value, (many, *(1,) * AXES)).reshape(-1)
