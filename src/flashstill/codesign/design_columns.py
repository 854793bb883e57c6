"""Designs of chips as columns: counts and indices of many at once, merged, and the figures that a table shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.codesign.block_facts import BlockFacts
from flashstill.codesign.design_chips import (
    Columns,
    cells_joules,
    sram_rate,
)
from flashstill.codesign.design_rows import domain_of, link_joules, wrap_edge_of
from flashstill.codesign.designs import AXES_OF, Block, DesignSpace, Values
from flashstill.codesign.silicon import Silicon, silicon_of
from flashstill.facts import Facts

Places = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Designs:
    """Designs that share node, formats and family, all of which can be built. silicon: one value each.

    block: of the first; they may differ in chiplets, in the edge of their arrays and in their share of watts (limited).
    """

    block: Block
    edge: Values
    macs: Values
    sram_bytes: Values
    memory: Places
    links: Places
    limited: Values
    silicon: Silicon

    def part(self, places: Places) -> Designs:
        """Some of them."""

        def one(values: object) -> Values:
            return np.broadcast_to(np.asarray(values), self.macs.shape)[places]

        mine = self.silicon
        return Designs(
            block=self.block,
            edge=self.edge[places],
            macs=self.macs[places],
            sram_bytes=self.sram_bytes[places],
            memory=self.memory[places],
            links=self.links[places],
            limited=self.limited[places],
            silicon=Silicon(
                flops_per_s={name: one(rate) for name, rate in mine.flops_per_s.items()},
                **{name: one(getattr(mine, name)) for name in Silicon.__dataclass_fields__ if name != "flops_per_s"},
            ),
        )


def designs_at(block_facts: BlockFacts, space: DesignSpace, inside: Places) -> Designs:
    """The designs of a block with these numbers within the block."""
    macs, sram, memory, links = np.unravel_index(inside, block_facts.block.shape)
    return designs_with(block_facts, space.macs[macs], space.sram_bytes[sram], memory, links)


def designs_with(
    block_facts: BlockFacts, macs: Values, sram: Values, memory: Places, links: Places, limited: Values | None = None
) -> Designs:
    """Designs of the node, chiplets, formats and arrays of a block. limited: None for its share of watts."""
    block = block_facts.block
    return Designs(
        block=block,
        edge=np.full(len(macs), float(block.edge)),
        macs=macs,
        sram_bytes=sram,
        memory=memory,
        links=links,
        limited=np.full(len(macs), block.limited) if limited is None else limited,
        silicon=silicon_of(block_facts, macs, sram, memory, links, limited),
    )


def merged(groups: Sequence[Designs]) -> Designs:
    """Designs of several blocks of one node, one family and the same formats, as one list."""
    first = groups[0]
    if len(groups) == 1:
        return first

    def joined(values: Sequence[object]) -> Values:
        shaped = [np.broadcast_to(np.asarray(one), group.macs.shape) for one, group in zip(values, groups, strict=True)]
        return np.concatenate(shaped)

    return Designs(
        block=first.block,
        edge=joined([group.edge for group in groups]),
        macs=joined([group.macs for group in groups]),
        sram_bytes=joined([group.sram_bytes for group in groups]),
        memory=joined([group.memory for group in groups]),
        links=joined([group.links for group in groups]),
        limited=joined([group.limited for group in groups]),
        silicon=Silicon(
            flops_per_s={
                name: joined([group.silicon.flops_per_s[name] for group in groups])
                for name in first.silicon.flops_per_s
            },
            **{
                name: joined([getattr(group.silicon, name) for group in groups])
                for name in Silicon.__dataclass_fields__
                if name != "flops_per_s"
            },
        ),
    )


def columns_of(facts: Facts, space: DesignSpace, block_facts: BlockFacts, designs: Designs) -> Columns:
    """The numbers that stacked chips take."""
    memory, links, silicon = block_facts.memory, space.links, designs.silicon
    choices, shape = space.memories_of(designs.block), designs.macs.shape
    cells = np.array([cells_joules(facts, one.kind) for one in choices])
    own = np.array([cells_joules(facts, one.weights_kind) for one in choices])
    lane = facts.value(f"node-{designs.block.node_nm}", "lane_bytes_per_s")
    lanes = np.array([one.lanes * lane for one in links])
    axes = np.array([float(AXES_OF[one.wiring]) for one in links])[designs.links]
    wraps = np.array([float(wrap_edge_of(one)) for one in links])[designs.links]
    alike = bool(np.all(axes == axes[:1]))

    def each(values: object) -> Values:
        return np.broadcast_to(np.asarray(values, dtype=np.float64), shape)

    return Columns(
        edge=designs.edge,
        flops_per_s={name: each(rate) for name, rate in silicon.flops_per_s.items()},
        sram_bytes=designs.sram_bytes,
        sram_bytes_per_s=sram_rate(facts, designs.block, designs.sram_bytes),
        memory_bytes=memory.bytes[designs.memory],
        memory_bytes_per_s=memory.bytes_per_s[designs.memory],
        weights_bytes=memory.weights_bytes[designs.memory],
        weights_bytes_per_s=memory.weights_bytes_per_s[designs.memory],
        cells=cells[designs.memory],
        weights_cells=own[designs.memory],
        link_bytes_per_s=lanes[designs.links],
        link_joules=np.array([link_joules(facts, one) for one in links])[designs.links],
        domain_chips=np.array([domain_of(facts, one) for one in links])[designs.links],
        package_mm2=each(silicon.package_mm2),
        limit_w=each(silicon.limit_w),
        idle_w=each(silicon.idle_w),
        axes=None if alike else axes,
        wrap_edge=None if alike else wraps,
    )
