"""Designs that lie between those of a grid: a list of them, each with its own multipliers, SRAM and watts.

A design is a row of numbers (AXES): its block by number, multipliers, bytes of SRAM, share of the watts beyond idling,
and its choices of memory and links by index.  They are made, refused and priced by the code of the grid (hunt.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from flashstill.codesign.block_facts import BlockFacts, block_facts_of
from flashstill.codesign.design_chips import draw_of
from flashstill.codesign.design_columns import Designs, Places, designs_with
from flashstill.codesign.designs import Block, DesignSpace, Links, Values, memories_of
from flashstill.codesign.hunt import Hunt
from flashstill.facts import Facts

AXES = ("block", "macs", "sram_bytes", "limited", "memory", "links")
BLOCK, MACS, SRAM, LIMITED, MEMORY, LINKS = range(len(AXES))
NONE = -1
"""in place of a design that cannot be made"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed(Hunt):
    """A hunt whose designs are the rows of `points`. space: whose choices the rows name (`between`).

    shared: facts of the blocks that were met.  known: number of a design by its row, NONE if it cannot be made.
    """

    points: Values
    blocks: tuple[Block, ...]
    shared: dict[int, BlockFacts] = field(default_factory=dict)
    known: dict[tuple[float, ...], int] = field(default_factory=dict)

    def by_block(self, designs: Places) -> list[tuple[Places, Designs]]:
        """Designs by block, with their silicon."""
        rows = self.points[designs]
        numbers = rows[:, BLOCK].astype(np.intp)
        return [
            (designs[numbers == number], self.made(int(number), rows[numbers == number]))
            for number in np.unique(numbers)
        ]

    def block_facts_of(self, designs: Designs) -> BlockFacts:
        """The facts of the block of designs."""
        return self.facts_of(designs.block.first)

    def facts_of(self, number: int) -> BlockFacts:
        """The facts of a block by its number."""
        if number not in self.shared:
            block = self.blocks[number]
            draw = draw_of(self.facts, self.space, block)
            self.shared[number] = block_facts_of(self.facts, self.space, block, draw)
        return self.shared[number]

    def made(self, number: int, rows: Values) -> Designs:
        """Rows of one block as designs."""
        memory, links = rows[:, MEMORY].astype(np.intp), rows[:, LINKS].astype(np.intp)
        return designs_with(self.facts_of(number), rows[:, MACS], rows[:, SRAM], memory, links, rows[:, LIMITED])

    def with_rows(self, rows: Values, most: int) -> tuple[Listed, Places]:
        """The list with further rows, and the number of each row: NONE if it cannot be made, or is one too many.

        most: further designs.  Rows that were met already keep their number.
        """
        keys = [tuple(float(f"{value:.9g}") for value in row) for row in rows]
        fresh = list({key: place for place, key in reversed(list(enumerate(keys))) if key not in self.known}.values())
        fresh.sort()
        numbers = rows[fresh][:, BLOCK].astype(np.intp) if fresh else np.zeros(0, dtype=np.intp)
        can = np.zeros(len(fresh), dtype=bool)
        for number in np.unique(numbers):
            mine = numbers == number
            can[mine] = self.made(int(number), rows[fresh][mine]).silicon.reason < 0
        kept: list[int] = []
        for place, able in zip(fresh, can, strict=True):
            if not able:
                self.known[keys[place]] = NONE
            elif len(kept) < most:
                self.known[keys[place]] = len(self.points) + len(kept)
                kept.append(place)
        grown = replace(self, points=np.concatenate([self.points, rows[kept]])) if kept else self
        return grown, np.array([self.known.get(key, NONE) for key in keys], dtype=np.intp)


def between(facts: Facts, space: DesignSpace) -> DesignSpace:
    """The space with all chiplets and edges of its ladders, and all stacks and lanes of them and half way between."""
    kinds = dict.fromkeys(kind for one in space.memories for kind in (one.weights_kind, one.kind) if kind)
    wirings = dict.fromkeys(one.wiring for one in space.links if one.lanes)
    lanes = _halved(space.ladders["lanes"])
    alone = tuple(one for one in space.links if not one.lanes)
    return replace(
        space,
        dies=space.ladders["dies"],
        edges=space.ladders["edges"],
        memories=memories_of(facts, list(kinds), _halved(space.ladders["stacks"])),
        links=(*alone, *(Links(wiring=wiring, lanes=count) for wiring in wirings for count in lanes)),
    )


def _halved(ladder: Sequence[int]) -> tuple[int, ...]:
    values = sorted(ladder)
    return tuple(sorted({*values, *((low + high) // 2 for low, high in itertools.pairwise(values))}))


def listed_of(hunt: Hunt) -> Listed:
    """An empty list for the loads of a hunt, over all that lies between its designs."""
    space = between(hunt.facts, hunt.space)
    families = [False] * bool(space.memories) + [True] * space.on_sram
    axes = (families, space.nodes, space.dies, space.narrowest, space.edges)
    blocks = tuple(
        Block(first=first, on_sram=on_sram, node_nm=node, dies=dies, narrowest=narrowest, edge=edge, shape=(0, 0, 0, 0))
        for first, (on_sram, node, dies, narrowest, edge) in enumerate(itertools.product(*axes))
    )
    return Listed(
        facts=hunt.facts, space=space, loads=hunt.loads, wanted=hunt.wanted, terms=hunt.terms, screened=hunt.screened,
        points=np.zeros((0, len(AXES))), blocks=blocks,
    )  # fmt: skip


def rows_from(listed: Listed, hunt: Hunt, designs: Places) -> Values:
    """Rows of designs of the grid, in their order."""
    rows = np.zeros((len(designs), len(AXES)))
    numbers = {_block_key(block): block.first for block in listed.blocks}
    links = {one: place for place, one in enumerate(listed.space.links)}
    for places, found in hunt.by_block(np.unique(designs)):
        choices, mine = hunt.space.memories_of(found.block), listed.space.memories_of(found.block)
        memory = np.array([mine.index(choices[place]) for place in found.memory], dtype=np.float64)
        linked = np.array([links[hunt.space.links[place]] for place in found.links], dtype=np.float64)
        number = np.full(len(places), float(numbers[_block_key(found.block)]))
        table = np.stack([number, found.macs, found.sram_bytes, found.limited, memory, linked], axis=1)
        at = {int(place): row for place, row in zip(places, table, strict=True)}
        for target, design in enumerate(designs):
            if int(design) in at:
                rows[target] = at[int(design)]
    return rows


def _block_key(block: Block) -> tuple[object, ...]:
    return block.on_sram, block.node_nm, block.dies, block.narrowest, block.edge


def family_of(hunt: Hunt, designs: Designs, place: int) -> tuple[object, ...]:
    """What a design shares with those that can be reached from it by small steps: kinds of memory, and wiring."""
    memory = hunt.space.memories_of(designs.block)[int(designs.memory[place])]
    return designs.block.dies, memory.kind, memory.weights_kind, hunt.space.links[int(designs.links[place])].wiring
