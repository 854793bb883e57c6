"""The screen of a whole space: of every design whether it can be made, and a lower bound of its cost in every future.

Bounds of chip-seconds and joules (screening.py) depend on multipliers, memory and links only; the dollars of an hour
(silicon.py) on everything.  A block of designs is their product, so that a million designs take a few array operations.

    dollars a token >= hour without power / 3600 x S + dollars of a joule x least of (J, power limit x S)
    S = larger of the bound by time and of joules that throttle / (power limit - waiting watts)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from flashstill.asic.area import rules_of
from flashstill.codesign.design_chips import (
    Columns,
    archetype,
    cells_joules,
    domain_of,
    draw_of,
    kinds_of,
    link_joules,
    sram_rate,
    stacked_chip,
    weights_tier,
)
from flashstill.codesign.design_prices import JOULES, USD, owned
from flashstill.codesign.designs import AXES_OF, FORMATS, Block, DesignSpace, Values
from flashstill.codesign.loads import Load, conditions_for
from flashstill.codesign.memory_choices import memory_numbers
from flashstill.codesign.screening import Bounds, bounds_of, kernels_of, links_of, without_limit
from flashstill.codesign.silicon import (
    FLOPS_PER_MAC,
    REASONS,
    Ground,
    Silicon,
    ground_of,
    rates_of,
    silicon_of,
)
from flashstill.codesign.step_weights import Steps
from flashstill.economics.tco import Terms, owned_hour, usd_per_watt_hour
from flashstill.errors import MissingFact
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
    grounds: tuple[Ground, ...]
    reasons: Counter[str]
    buildable: int


def screen(
    facts: Facts, space: DesignSpace, loads: tuple[Load, ...], wanted: tuple[Wanted, ...], terms: Terms
) -> Screened:
    """The screen of every design of a space; MissingFact for nodes or memories without rows."""
    bounds = tuple(np.full(space.size, np.inf, dtype=np.float32) for _ in wanted)
    reasons, grounds, buildable = Counter[str](), [], 0
    known: dict[object, Bounds | None] = {}
    for block in space.blocks():
        ground = ground_of(facts, space, block, draw_of(facts, space, block))
        mine = []
        for place, load in enumerate(loads):
            key = (place, block.on_sram, block.node_nm, *_formats(facts, space, block, load))
            if key not in known:
                known[key] = _bounds(facts, space, block, load)
            mine.append(known[key])
        axes = np.ix_(space.macs, space.sram_bytes, np.arange(block.shape[2]), np.arange(block.shape[3]))
        silicon = silicon_of(ground, *axes)
        reason = np.broadcast_to(silicon.reason, block.shape)
        made = reason < 0
        counts = np.bincount(reason.reshape(-1) + 1, minlength=len(REASONS) + 1)
        reasons.update({name: int(count) for name, count in zip(REASONS, counts[1:], strict=True) if count})
        buildable += int(counts[0])
        grounds.append(ground)
        if not counts[0]:
            continue
        costs = _costs(facts, space, ground, silicon, mine, wanted, terms, made)
        for kept, cost in zip(bounds, costs, strict=True):
            kept[block.first : block.first + math.prod(block.shape)] = (
                np.where(made, cost, np.inf).reshape(-1) * ROUNDED
            )
    return Screened(bounds=bounds, grounds=tuple(grounds), reasons=reasons, buildable=buildable)


def _costs(
    facts: Facts,
    space: DesignSpace,
    ground: Ground,
    silicon: Silicon,
    bounds: list[Bounds | None],
    wanted: tuple[Wanted, ...],
    terms: Terms,
    made: Values,
) -> list[Values]:
    """Lower bounds of one block in each future, broadcast over its axes."""
    block = ground.block
    chip = archetype(facts, block, space.memories_of(block)[0], space.links[-1])
    ratio, waits = chip.system.server_power_ratio, chip.waiting_power_ratio * ground.draw.active_ratio
    buyable = replace(silicon, purchase_usd=np.where(made, silicon.purchase_usd, 0.0))
    waiting = silicon.idle_w + silicon.limit_w * waits
    slope = float(usd_per_watt_hour(terms, owned((terms, ratio), buyable, 1.0))) / SECONDS_PER_HOUR
    hours = {volume: owned_hour(terms, owned((terms, ratio), buyable, volume), 0.0).usd / SECONDS_PER_HOUR
             for volume in {one.volume for one in wanted if one.objective == USD}}  # fmt: skip
    figures = [None if one is None else _figures(one, space, ground, silicon, waiting) for one in bounds]
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
    bounds: Bounds, space: DesignSpace, ground: Ground, silicon: Silicon, waiting: Values
) -> tuple[Values, Values, Values]:
    """Chip-seconds, joules and latency on the axes of a block."""
    block = ground.block
    shape = (
        (len(space.macs), len(space.sram_bytes), 1, -1) if block.on_sram else (len(space.macs), 1, block.shape[2], -1)
    )

    def laid(values: Values) -> Values:
        return values.reshape(shape)

    room = np.maximum(silicon.limit_w - waiting, 1e-9)
    seconds = np.maximum(laid(bounds.chip_s), laid(bounds.throttled_j) / room)
    wire = ground.draw.byte_wire * np.sqrt(silicon.package_mm2)
    spent = laid(bounds.joules) + laid(bounds.wired) * wire + waiting * laid(bounds.idle_s)
    return seconds, spent, laid(bounds.tpot_s)


def _formats(facts: Facts, space: DesignSpace, block: Block, load: Load) -> tuple[str, ...]:
    """The formats in which the array multiplies what the load asks for: narrower ones beside them change nothing."""
    chip = archetype(facts, block, space.memories_of(block)[0], space.links[0])
    roles = conditions_for(facts, load, chip, None).precisions
    asked = (roles.linear, roles.attention, roles.experts, roles.exact, roles.kv, *FORMATS[:2])
    return tuple(chip.precision(name) for name in asked)


def _bounds(facts: Facts, space: DesignSpace, block: Block, load: Load) -> Bounds | None:
    """Bounds of a load by multipliers with memory (or SRAM), and links; None if the formats cannot be multiplied."""
    memories, links = space.memories_of(block), space.links
    second = len(space.sram_bytes) if block.on_sram else len(memories)
    count = len(space.macs) * second
    rows = {name: np.full((count, len(links)), np.inf) for name in Bounds.__dataclass_fields__}
    try:
        sent = _sent(facts, space, block, load)
        for kind in kinds_of(memories).values():
            places = np.arange(len(space.sram_bytes)) if block.on_sram else np.array(kind)
            macs, place = (part.reshape(-1) for part in np.meshgrid(np.arange(len(space.macs)), places, indexing="ij"))
            memory = memories[0] if block.on_sram else memories[kind[0]]
            columns = _ideal(facts, space, block, macs, place)
            chip = stacked_chip(archetype(facts, block, memory, links[0]), columns)
            conditions = without_limit(conditions_for(facts, load, chip, weights_tier(memory)))
            found = bounds_of(conditions, load, kernels_of(conditions, load), sent, [not one.lanes for one in links])
            for name, table in rows.items():
                table[macs * second + place] = getattr(found, name)
    except MissingFact as error:
        if "multiply rate" in str(error):
            return None
        raise
    return Bounds(**rows)


def _ideal(facts: Facts, space: DesignSpace, block: Block, macs: Values, place: Values) -> Columns:
    """The most favourable numbers around multipliers and memory: most SRAM, wires of no length."""
    ones, memories = np.ones(len(macs)), space.memories_of(block)
    numbers = memory_numbers(facts, memories)
    clock = facts.value(f"node-{block.node_nm}", "clock_hz")
    rates = rates_of(rules_of(facts, block.node_nm), block.narrowest)
    sram = space.sram_bytes[place] if block.on_sram else ones * space.sram_bytes[-1]
    at = np.zeros(len(macs), dtype=np.intp) if block.on_sram else place
    cells = np.array([cells_joules(facts, one.kind) for one in memories])
    own = np.array([cells_joules(facts, one.weights_kind) for one in memories])
    return Columns(
        edge=ones * block.edge,
        flops_per_s={name: FLOPS_PER_MAC * space.macs[macs] * rate * clock for name, rate in rates.items()},
        sram_bytes=sram,
        sram_bytes_per_s=sram_rate(facts, block, sram),
        memory_bytes=numbers.bytes[at],
        memory_bytes_per_s=numbers.bytes_per_s[at],
        weights_bytes=numbers.weights_bytes[at],
        weights_bytes_per_s=numbers.weights_bytes_per_s[at],
        cells=cells[at],
        weights_cells=own[at],
        link_bytes_per_s=ones,
        link_joules=0.0 * ones,
        domain_chips=ones,
        package_mm2=0.0 * ones,
        limit_w=ones,
        idle_w=0.0 * ones,
    )


def _sent(facts: Facts, space: DesignSpace, block: Block, load: Load) -> tuple[Steps, Steps]:
    """Seconds and joules of the exchanges over each way to link chips."""
    links, memory = space.links, space.memories_of(block)[0]
    lane = facts.value(f"node-{block.node_nm}", "lane_bytes_per_s")
    shape = (len(links), *load.chosen.shape)
    tables = [{name: np.zeros(shape) for name in ("decode", "mixed", "filled")} for _ in range(2)]
    groups: dict[object, list[int]] = {}
    for place, one in enumerate(links):
        if one.lanes:
            groups.setdefault(AXES_OF[one.wiring], []).append(place)
    for places in groups.values():
        some = [links[place] for place in places]
        base = _ideal(facts, space, block, np.zeros(len(some), dtype=np.intp), np.zeros(len(some), dtype=np.intp))
        columns = replace(
            base,
            link_bytes_per_s=np.array([one.lanes * lane for one in some]),
            link_joules=np.array([link_joules(facts, one) for one in some]),
            domain_chips=np.array([domain_of(facts, one) for one in some]),
        )
        chip = stacked_chip(archetype(facts, block, memory, some[0]), columns)
        answers = links_of(without_limit(conditions_for(facts, load, chip, weights_tier(memory))), load)
        for table, steps in zip(tables, answers, strict=True):
            for name, values in table.items():
                values[places] = getattr(steps, name)
    return Steps(**tables[0]), Steps(**tables[1])
