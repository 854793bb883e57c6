"""The space of chips that a search goes through: axes, and what each of their values means.

A design is one value of each axis:

    node        process            dies       chiplets of a package
    narrowest   bf16, fp8 or fp4: the array multiplies in that format and all wider ones
    edge        of its systolic arrays
    macs        multipliers of the widest format, of a package
    sram_bytes  of a package
    memory      kind and stacks; weights may have a kind of their own (flash); none: all in SRAM
    links       lanes, and what they lead to: neighbours in a torus, or a switch over copper or optics
    limited     of SRAM only: watts that it may draw beyond idling, as a share of what it could use and cooling removes

Designs are numbered: a family (with memory, or of SRAM only) is a list of blocks, one for each node, dies, narrowest,
edge and limited; within a block macs, SRAM, memory and links count on, the last fastest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from flashstill.economics.bill_of_materials import memory_owner
from flashstill.facts import Facts

Values = npt.NDArray[Any]
FORMATS = ("bf16", "fp8", "fp4")
"""formats of an array, the widest first; a chip that multiplies in one does so in all before it"""
TORUS_2, TORUS_3, SWITCH, OPTICS, ALONE = "torus 2d", "torus 3d", "switch", "optics", "alone"
AXES_OF = {TORUS_2: 2, TORUS_3: 3, SWITCH: 0, OPTICS: 0, ALONE: 0}
WIRINGS = tuple(AXES_OF)
ON_SRAM = "none"
"""the kind of memory of a chip that has its SRAM only"""
_NEEDED = ("stack_bytes", "stack_bytes_per_s", "usd_per_byte", "pj_per_bit")
WHOLE, LIMITS = (1.0,), (1.0, 0.5, 0.25, 0.12)
"""shares of the watts beyond idling that designs may draw: with memory, and of SRAM only, whose peaks need most"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """One choice of memory. kind, stacks: of the cache, and of the weights unless they have a kind of their own."""

    kind: str = ON_SRAM
    stacks: int = 0
    weights_kind: str = ""
    weights_stacks: int = 0

    @property
    def label(self) -> str:
        """As "8 x hbm4", "2 x hbf + 4 x hbm4" or "none"."""
        own = f"{self.weights_stacks} x {self.weights_kind} + " if self.weights_kind else ""
        return f"{own}{self.stacks} x {self.kind}" if self.stacks else ON_SRAM


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """One choice of links. wiring: one of WIRINGS.  lanes: of a package, each direction."""

    wiring: str
    lanes: int

    @property
    def label(self) -> str:
        """As "64 lanes, torus 3d"."""
        return f"{self.lanes} lanes, {self.wiring}" if self.lanes else ALONE


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Designs that share node, chiplets, formats, edge of the arrays and share of watts. first: number of its first."""

    first: int
    on_sram: bool
    node_nm: int
    dies: int
    narrowest: str
    edge: int
    shape: tuple[int, int, int, int]
    limited: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DesignSpace:
    """The axes. memories: choices with memory; on_sram: whether chips of SRAM only are searched as well.

    ladders: all values of dies, edges, stacks and lanes that may be built, of which the axes may have only some.
    """

    nodes: tuple[int, ...]
    dies: tuple[int, ...]
    narrowest: tuple[str, ...]
    edges: tuple[int, ...]
    macs: Values
    sram_bytes: Values
    memories: tuple[Memory, ...]
    links: tuple[Links, ...]
    on_sram: bool
    ladders: Mapping[str, tuple[int, ...]]

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order of their numbers."""
        first = 0
        families = [(False, self.memories, WHOLE)] * bool(self.memories) + [(True, (Memory(),), LIMITS)] * self.on_sram
        for on_sram, choices, limits in families:
            shape = (len(self.macs), len(self.sram_bytes), len(choices), len(self.links))
            axes = (self.nodes, self.dies, self.narrowest, self.edges, limits)
            for node, dies, narrowest, edge, limited in itertools.product(*axes):
                yield Block(
                    first=first, on_sram=on_sram, node_nm=node, dies=dies, narrowest=narrowest, edge=edge,
                    limited=limited, shape=shape,
                )  # fmt: skip
                first += math.prod(shape)

    def memories_of(self, block: Block) -> tuple[Memory, ...]:
        """The choices of memory of a block."""
        return (Memory(),) if block.on_sram else self.memories

    @property
    def size(self) -> int:
        """Number of designs."""
        return sum(math.prod(block.shape) for block in self.blocks())


def known_memories(facts: Facts) -> tuple[str, ...]:
    """Kinds of memory with rows of all that a design needs, and where they are placed: edge, or logic beneath."""
    names = dict.fromkeys(name for name, quantity in facts.rows if quantity == "stack_bytes" and name != "hbm")
    return tuple(
        name
        for name in names
        if all(facts.find(name, quantity) for quantity in _NEEDED)
        and (row_of(facts, name, "stack_edge_mm") or row_of(facts, name, "beneath_mm2"))
    )


def known_formats(facts: Facts) -> tuple[str, ...]:
    """Formats of arrays in which some chip of the rows multiplies."""
    rows = (row for (_, quantity), rows in facts.rows.items() if quantity == "flops_per_s" for row in rows)
    multiplied = {row.condition.split()[0] for row in rows}
    return tuple(name for name in FORMATS if name in multiplied)


def holds_cache(facts: Facts, kind: str) -> bool:
    """Whether a kind of memory can hold a cache that every token writes; flash cannot."""
    row = facts.find(kind, "cache_ratio")
    return row is None or row.value > 0.0


def memories_of(facts: Facts, kinds: Sequence[str], stacks: Sequence[int]) -> tuple[Memory, ...]:
    """Choices of memory: each kind with each number of stacks, and flash beside each other kind on an interposer.

    Packages of few pins and tiles on the die come in twice the numbers of stacks.
    """
    holding = [kind for kind in kinds if holds_cache(facts, kind)]
    chosen = [Memory(kind=kind, stacks=count * _often(facts, kind)) for kind in holding for count in stacks]
    beside = [kind for kind in holding if row_of(facts, kind, "interposer_ratio")]
    for flash, kind in itertools.product([kind for kind in kinds if not holds_cache(facts, kind)], beside):
        for count, more in itertools.product(stacks, stacks):
            if count in (more, min(stacks)) and count <= more and count + more <= max(stacks):
                chosen.append(Memory(kind=kind, stacks=more, weights_kind=flash, weights_stacks=count))
    return tuple(chosen)


def _often(facts: Facts, kind: str) -> int:
    return 1 if row_of(facts, kind, "interposer_ratio") else 2


def row_of(facts: Facts, kind: str, quantity: str) -> float:
    """A number of a kind of memory: its own row, or that of all HBM; 0 without one, as for area on an interposer."""
    owner = memory_owner(facts, kind, quantity)
    return facts.value(owner, quantity) if owner else 0.0
