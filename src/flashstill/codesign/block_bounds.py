"""Bounds of a load on the designs of one block, by what they depend on.

    seconds     by multipliers, memory and links: SRAM saves no time beside another memory
    joules      by SRAM, memory and links as well, with the most multipliers: they change no joules but those of waiting

Whatever else a design has is the most favourable: wires of no length, no limit of power, the least idle time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flashstill.asic.area import rules_of
from flashstill.codesign.block_facts import rates_of
from flashstill.codesign.design_chips import (
    Columns,
    archetype,
    cells_joules,
    kinds_of,
    sram_rate,
    stacked_chip,
    weights_tier,
)
from flashstill.codesign.design_rows import domain_of, link_joules
from flashstill.codesign.designs import AXES_OF, FORMATS, Block, DesignSpace, Values
from flashstill.codesign.loads import DesignLoad, conditions_for
from flashstill.codesign.memory_choices import memory_numbers
from flashstill.codesign.screening import Bounds, bounds_of, kernels_of, links_of, without_limit
from flashstill.codesign.step_weights import Steps
from flashstill.errors import MissingFact
from flashstill.facts import Facts
from flashstill.units import FLOPS_PER_MAC


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockBounds:
    """Bounds by (multipliers, SRAM, memory, links); an axis that does not matter has length 1.

    timed: with the most SRAM.  held: with the most multipliers; that of chips of SRAM only is `timed`.
    """

    timed: Bounds
    held: Bounds


def formats_of(facts: Facts, space: DesignSpace, block: Block, load: DesignLoad) -> tuple[str, ...]:
    """The formats in which the array multiplies what the load asks for: narrower ones beside them change nothing."""
    chip = archetype(facts, block, space.memories_of(block)[0], space.links[0])
    conditions = conditions_for(facts, load, chip, None)
    roles = conditions.precisions
    asked = (roles.linear, roles.attention, roles.experts, roles.exact, roles.kv, *FORMATS[:2])
    return tuple(conditions.runs_in(name) for name in asked)


def block_bounds(facts: Facts, space: DesignSpace, block: Block, load: DesignLoad) -> BlockBounds | None:
    """The bounds of a load on the designs of a block; None if the formats cannot be multiplied."""
    macs, sram, memories = len(space.macs), len(space.sram_bytes), len(space.memories_of(block))
    try:
        sent = _sent(facts, space, block, load)
        if block.on_sram:
            timed = held = _bounds(facts, space, block, load, sent, (macs, sram, memories))
        else:
            timed = _bounds(facts, space, block, load, sent, (macs, 1, memories))
            held = _bounds(facts, space, block, load, sent, (1, sram, memories))
    except MissingFact as error:
        if "multiply rate" in str(error):
            return None
        raise
    return BlockBounds(timed=timed, held=held)


def _bounds(
    facts: Facts,
    space: DesignSpace,
    block: Block,
    load: DesignLoad,
    sent: tuple[Steps, Steps],
    shape: tuple[int, int, int],
) -> Bounds:
    """Bounds of (multipliers, SRAM, memory, links), with the last value of an axis of length 1."""
    memories, links = space.memories_of(block), space.links
    rows = {name: np.full((*shape, len(links)), np.inf) for name in Bounds.__dataclass_fields__}
    for kind in kinds_of(memories).values():
        axes = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), np.array(kind), indexing="ij")
        at = tuple(axis.reshape(-1) for axis in axes)
        macs = space.macs[at[0] if shape[0] > 1 else np.full(len(at[0]), -1)]
        sram = space.sram_bytes[at[1] if shape[1] > 1 else np.full(len(at[1]), -1)]
        memory = memories[kind[0]]
        chip = stacked_chip(archetype(facts, block, memory, links[0]), _ideal(facts, space, block, macs, sram, at[2]))
        conditions = without_limit(conditions_for(facts, load, chip, weights_tier(memory)))
        found = bounds_of(conditions, load, kernels_of(conditions, load), sent, [not one.lanes for one in links])
        for name, table in rows.items():
            table[at] = getattr(found, name)
    return Bounds(**rows)


def _ideal(facts: Facts, space: DesignSpace, block: Block, macs: Values, sram: Values, memory: Values) -> Columns:
    """The most favourable numbers around multipliers, SRAM and memory (its place): wires of no length, no limit."""
    ones, memories = np.ones(len(macs)), space.memories_of(block)
    numbers = memory_numbers(facts, memories)
    clock = facts.value(f"node-{block.node_nm}", "clock_hz")
    rates = rates_of(rules_of(facts, block.node_nm), block.narrowest)
    cells = np.array([cells_joules(facts, one.kind) for one in memories])
    own = np.array([cells_joules(facts, one.weights_kind) for one in memories])
    return Columns(
        edge=ones * block.edge,
        flops_per_s={name: FLOPS_PER_MAC * macs * rate * clock for name, rate in rates.items()},
        sram_bytes=sram,
        sram_bytes_per_s=sram_rate(facts, block, sram),
        memory_bytes=numbers.bytes[memory],
        memory_bytes_per_s=numbers.bytes_per_s[memory],
        weights_bytes=numbers.weights_bytes[memory],
        weights_bytes_per_s=numbers.weights_bytes_per_s[memory],
        cells=cells[memory],
        weights_cells=own[memory],
        link_bytes_per_s=ones,
        link_joules=0.0 * ones,
        domain_chips=ones,
        package_mm2=0.0 * ones,
        limit_w=ones,
        idle_w=0.0 * ones,
    )


def _sent(facts: Facts, space: DesignSpace, block: Block, load: DesignLoad) -> tuple[Steps, Steps]:
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
        first = np.zeros(len(some), dtype=np.intp)
        base = _ideal(facts, space, block, space.macs[first], space.sram_bytes[first], first)
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
