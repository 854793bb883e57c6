"""All deployments of a model on many chips, priced together: the cheapest, the leanest and the fastest of each chip.

Chips of one structure are priced in one call (cost/stacks.py).  For each chip and objective the result is the best
feasible configuration, and those so close to it that another could be the best after a small change of a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.codesign.scaled import scaled
from flashstill.codesign.subjects import Entry, Subject, hours_of
from flashstill.cost import Conditions, Load, Speculation
from flashstill.cost.serving import capacity, running_requests
from flashstill.cost.stacks import stacked_alike
from flashstill.economics import usd_per_million_tokens
from flashstill.hardware.stacked import AXES
from flashstill.plan.feasible import refusals
from flashstill.plan.layouts import Degrees
from flashstill.plan.scenario import Scenario
from flashstill.plan.tables import Candidates, Priced, priced

OBJECTIVES = ("usd", "joules", "seconds")
"""dollars per million output tokens, joules per output token, seconds per output token (after the first)"""
CELLS = 60_000
"""configurations of one call, about: arrays that fit in a core's cache"""
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Model, load and bounds; the configurations tried are every layout with every batch of `chosen`."""

    model: Architecture
    scenario: Scenario
    chosen: Candidates
    speculation: Speculation | None = None

    @property
    def load(self) -> Load:
        """The load at every batch."""
        return self.load_at(self.chosen.batches)

    def load_at(self, batch: Any) -> Load:
        """The load at a number of requests in flight."""
        asked = self.scenario
        return Load(
            isl=float(asked.isl), osl=float(asked.osl), concurrency=batch, batching_steps=asked.batching_steps,
            burst_share=asked.burst_share, cohort=asked.cohort, cached=float(asked.cached_tokens),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """One entry, priced. costs: (objectives, layouts, batches), infinite where not feasible.

    bare: the same whether feasible or not.  nearly: what a small change could make feasible.
    gain: factor, at most 1, that a little more memory can bring the costs down by, beside what it does to steps.
    """

    entry: Entry
    costs: Values
    bare: Values
    nearly: npt.NDArray[np.bool_]
    gain: Values


def grids_of(
    question: Question,
    subjects: Sequence[Subject],
    entries: Sequence[Entry],
    reasons: Sequence[Counter[str]],
    step: float = 0.0,
) -> list[Grid]:
    """Every entry priced with every layout and batch. step: relative change for which `nearly` is wanted."""
    found: list[Grid | None] = [None] * len(entries)
    most = max(1, CELLS // max(question.chosen.shape[0] * question.chosen.shape[1], 1))
    for places, conditions in stacked_alike([entry.conditions for entry in entries], most):
        grids = _priced(question, subjects, [entries[place] for place in places], conditions, reasons, step)
        for place, grid in zip(places, grids, strict=True):
            found[place] = grid
    return [grid for grid in found if grid is not None]


def _priced(
    question: Question,
    subjects: Sequence[Subject],
    entries: Sequence[Entry],
    conditions: Conditions,
    reasons: Sequence[Counter[str]],
    step: float,
) -> list[Grid]:
    chosen = question.chosen
    figures = figures_of(question, conditions)
    ones = np.array([entry.subject for entry in entries])
    bare = costs_of(question, subjects, ones[:, None, None], figures)
    grids = []
    more_room, gain = _with_more_memory(question, conditions, figures.room, step) if step else (figures.room, None)
    for place, entry in enumerate(entries):
        timed = (
            _at(value, place) for value in (figures.pace.ttft_s, figures.pace.tpot_s, figures.pace.output_tokens_per_s)
        )
        ttft, tpot, rate = timed
        args = (question.scenario, entry.conditions.chip, chosen.layout, chosen.batches, entry.overlap)
        refused = refusals(*args, figures.room[place], ttft, tpot, rate)
        feasible = np.ones(chosen.shape, dtype=bool)
        for reason, mask in refused.items():
            if mask.any():
                if not entry.varied:
                    reasons[entry.subject][reason] += int(np.count_nonzero(feasible & mask))
                feasible &= ~mask
        nearly = feasible
        if step:
            eased = 10.0 * step
            near = refusals(*args, more_room[place], ttft / (1.0 + eased), tpot / (1.0 + eased), rate * (1.0 + eased))
            nearly = np.ones(chosen.shape, dtype=bool)
            for mask in near.values():
                nearly &= ~mask
        grids.append(
            Grid(
                entry=entry,
                costs=np.where(feasible, bare[:, place], np.inf),
                bare=bare[:, place],
                nearly=nearly,
                gain=np.ones(chosen.shape) if gain is None else gain[place],
            )
        )
    return grids


def figures_of(question: Question, conditions: Conditions) -> Priced:
    """Time and energy of every configuration; conditions are a stack."""
    asked = question.scenario
    return priced(
        question.model, conditions, question.chosen, float(asked.isl), float(asked.osl), question.speculation,
        batching_steps=asked.batching_steps, burst_share=asked.burst_share, cohort=asked.cohort,
        cached=float(asked.cached_tokens),
    )  # fmt: skip


def costs_of(question: Question, subjects: Sequence[Subject], places: Any, figures: Priced) -> Values:
    """(objectives, chips, layouts, batches) of figures of a stack. places: the subject of each chip."""
    pace = figures.pace
    ratios = {name: np.array([one.ratios.get(name, 1.0) for one in subjects])[places] for name in _PRICED}
    chips = np.asarray(question.chosen.layout.chips)
    return objectives_of(hours_of(subjects, places, ratios), chips, pace)


_PRICED = ("rent", "purchase", "limit", "idle")


def objectives_of(price: Any, chips: Any, pace: Any) -> Values:
    """The three objectives of these rates; infinite dollars without a price."""
    dollars = usd_per_million_tokens(price, 1.0, chips, pace.output_tokens_per_s, pace.watts_per_chip)
    both = np.broadcast_arrays(dollars, pace.joules_per_output_token, pace.tpot_s)
    costs: Values = np.stack(both)
    costs[0] = np.where(np.isnan(costs[0]), np.inf, costs[0])
    return costs


def _with_more_memory(question: Question, conditions: Conditions, room: Values, step: float) -> tuple[Values, Values]:
    """Sequences that fit with every memory larger by `step`, and running requests now over those then."""
    tiers = {one.name for one in (*conditions.chip.tiers, conditions.weights, conditions.cache)}
    larger = scaled(conditions, {f"{name}.bytes": 1.0 + step for name in tiers})
    layout, load = question.chosen.layout, question.load
    alone, fitting = capacity(question.model, larger, layout, load, question.speculation)
    whole = (room.shape[0], *(1,) * (AXES - 2), *room.shape[1:])
    now, then = room.reshape(whole), np.broadcast_to(np.where(np.asarray(alone) >= 1.0, fitting, 0.0), whole)
    gain = running_requests(conditions, load, now) / running_requests(conditions, load, then)
    return then.reshape(room.shape), np.broadcast_to(gain, whole).reshape(room.shape)


def _at(value: Any, place: int) -> Any:
    return value[place] if np.ndim(value) == 3 else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best configuration of a subject for one objective; cost infinite if there is none."""

    cost: float
    grid: int = -1
    layout: int = -1
    batch: int = -1

    @property
    def at(self) -> tuple[int, int, int]:
        """Its place: grid, layout, batch."""
        return self.grid, self.layout, self.batch


def best_of(grids: Sequence[Grid], places: Sequence[int], objective: int) -> Best:
    """The best of several grids, given by their places in the list."""
    best = Best(cost=float("inf"))
    for place in places:
        costs = grids[place].costs[objective]
        at = int(np.argmin(costs))
        cost = float(costs.reshape(-1)[at])
        if cost < best.cost:
            layout, batch = divmod(at, costs.shape[1])
            best = Best(cost=cost, grid=place, layout=layout, batch=batch)
    return best


def near_best(grids: Sequence[Grid], places: Sequence[int], objective: int, limit: float) -> list[tuple[int, int, int]]:
    """Configurations (grid, layout, batch) whose cost could fall below `limit`."""
    found = []
    for place in places:
        grid = grids[place]
        close = grid.nearly & (grid.bare[objective] * grid.gain <= limit)
        found += [(place, int(layout), int(batch)) for layout, batch in zip(*np.nonzero(close), strict=True)]
    return found


def degrees_at(chosen: Candidates, layout: int) -> Degrees:
    """The layout at this place of the candidates."""
    return Degrees(*(int(value) for value in chosen.degrees[:, layout, 0]))
