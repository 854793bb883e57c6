"""The screen of a whole space: of every design whether it can be made, and a lower bound of its cost in every future.

Bounds of chip-seconds and joules depend on multipliers or SRAM, memory and links only (block_bounds.py); the dollars of
an hour (silicon.py) on everything.  A block of designs is their product, so that a million designs take a few array
operations.

    dollars a token >= hour without power / 3600 x S + dollars of a joule x least of (J, power limit x S)
    S = larger of the bound by time and of joules that throttle / (power limit - waiting watts)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from flashstill.codesign.block_bounds import BlockBounds, block_bounds, formats_of
from flashstill.codesign.block_facts import BlockFacts, block_facts_of
from flashstill.codesign.design_chips import (
    archetype,
    draw_of,
)
from flashstill.codesign.design_prices import JOULES, USD, owned
from flashstill.codesign.designs import DesignSpace, Values
from flashstill.codesign.loads import DesignLoad
from flashstill.codesign.silicon import REASONS, Silicon, silicon_of
from flashstill.economics.tco import Terms, owned_hour, usd_per_watt_hour
from flashstill.facts import Facts
from flashstill.units import SECONDS_PER_HOUR

ROUNDED = 1.0 - 1e-6
"""bounds are kept in single precision"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is minimised in one future. loads: (place, part of the tokens).  volume: packages of a design.

    objective: usd, joules or latency of an output token.
    """

    loads: tuple[tuple[int, float], ...]
    volume: float
    objective: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Screened:
    """Lower bounds of all designs: one array a future; infinite where a design cannot be made. reasons: counted."""

    bounds: tuple[Values, ...]
    facts_of_blocks: tuple[BlockFacts, ...]
    reasons: Counter[str]
    buildable: int


def screen(
    facts: Facts, space: DesignSpace, loads: tuple[DesignLoad, ...], wanted: tuple[Wanted, ...], terms: Terms
) -> Screened:
    """The screen of every design of a space; MissingFact for nodes or memories without rows."""
    bounds = tuple(np.full(space.size, np.inf, dtype=np.float32) for _ in wanted)
    reasons, facts_of_blocks, buildable = Counter[str](), [], 0
    known: dict[object, BlockBounds | None] = {}
    for block in space.blocks():
        block_facts = block_facts_of(facts, space, block, draw_of(facts, space, block))
        mine = []
        for place, load in enumerate(loads):
            key = (place, block.on_sram, block.node_nm, *formats_of(facts, space, block, load))
            if key not in known:
                known[key] = block_bounds(facts, space, block, load)
            mine.append(known[key])
        axes = np.ix_(space.macs, space.sram_bytes, np.arange(block.shape[2]), np.arange(block.shape[3]))
        silicon = silicon_of(block_facts, *axes)
        reason = np.broadcast_to(silicon.reason, block.shape)
        made = reason < 0
        counts = np.bincount(reason.reshape(-1) + 1, minlength=len(REASONS) + 1)
        reasons.update({name: int(count) for name, count in zip(REASONS, counts[1:], strict=True) if count})
        buildable += int(counts[0])
        facts_of_blocks.append(block_facts)
        if not counts[0]:
            continue
        costs = _costs(facts, space, block_facts, silicon, mine, wanted, terms, made)
        for kept, cost in zip(bounds, costs, strict=True):
            kept[block.first : block.first + math.prod(block.shape)] = (
                np.where(made, cost, np.inf).reshape(-1) * ROUNDED
            )
    return Screened(bounds=bounds, facts_of_blocks=tuple(facts_of_blocks), reasons=reasons, buildable=buildable)


def _costs(
    facts: Facts,
    space: DesignSpace,
    block_facts: BlockFacts,
    silicon: Silicon,
    bounds: list[BlockBounds | None],
    wanted: tuple[Wanted, ...],
    terms: Terms,
    made: Values,
) -> list[Values]:
    """Lower bounds of one block in each future, broadcast over its axes."""
    block = block_facts.block
    chip = archetype(facts, block, space.memories_of(block)[0], space.links[-1])
    ratio, waits = chip.system.server_power_ratio, chip.waiting_power_ratio * block_facts.draw.active_ratio
    buyable = replace(silicon, purchase_usd=np.where(made, silicon.purchase_usd, 0.0))
    waiting = silicon.idle_w + silicon.limit_w * waits
    slope = float(usd_per_watt_hour(terms, owned((terms, ratio), buyable, 1.0))) / SECONDS_PER_HOUR
    hours = {volume: owned_hour(terms, owned((terms, ratio), buyable, volume), 0.0).usd / SECONDS_PER_HOUR
             for volume in {one.volume for one in wanted if one.objective == USD}}  # fmt: skip
    figures = [None if one is None else _figures(one, block_facts, silicon, waiting) for one in bounds]
    answers = []
    for one in wanted:
        total: Values = np.zeros(1)
        for place, part in one.loads:
            mine = figures[place]
            if mine is None:
                total = total + np.inf
                continue
            seconds, joules, latency = mine
            if one.objective == USD:
                total = total + part * (
                    hours[one.volume] * seconds + slope * np.minimum(joules, silicon.limit_w * seconds)
                )
            else:
                total = total + part * (joules * ratio * terms.pue_ratio if one.objective == JOULES else latency)
        answers.append(np.broadcast_to(total, block.shape))
    return answers


def _figures(
    bounds: BlockBounds, block_facts: BlockFacts, silicon: Silicon, waiting: Values
) -> tuple[Values, Values, Values]:
    """Chip-seconds, joules and latency on the axes of a block."""
    timed, held = bounds.timed, bounds.held
    room = np.maximum(silicon.limit_w - waiting, 1e-9)
    throttled = np.maximum(timed.throttled_j, held.throttled_j)
    seconds = np.maximum(timed.chip_s, throttled / room)
    wire = block_facts.draw.byte_wire * np.sqrt(silicon.package_mm2)
    spent = np.maximum(timed.joules + timed.wired * wire, held.joules + held.wired * wire)
    return seconds, spent + waiting * timed.idle_s, timed.tpot_s
