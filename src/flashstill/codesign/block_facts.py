"""What the designs of one block share: area rules and dollars of its node, its choices of memory and links."""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.asic.area import Rules, rules_of
from flashstill.codesign.designs import FORMATS, Block, DesignSpace, Links, Values
from flashstill.codesign.die_prices import dies_usd
from flashstill.codesign.memory_choices import MemoryNumbers, memory_numbers
from flashstill.facts import Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Joules a unit of work that decide how many watts a design can use. Of a MAC at the rate of each format, a byte.

    byte_wire: of a byte of memory, for each mm of the square root of a package's silicon.
    """

    mac_joules: dict[str, float]
    byte_joules: Values
    weights_byte_joules: Values
    byte_wire: float
    link_joules: Values
    active_ratio: float


def rates_of(rules: Rules, narrowest: str) -> dict[str, float]:
    """Rates of the formats of an array over that of its widest."""
    kept = FORMATS[: FORMATS.index(narrowest) + 1]
    return rules.rates_over(kept[0], kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockFacts:
    """What the designs of one block share. dies_usd: of a die that works, by width in steps and repairable share.

    more_array: further area of the multipliers, as a share of them, for what they can do beside.
    """

    facts: Facts
    block: Block
    rules: Rules
    memory: MemoryNumbers
    links: tuple[Links, ...]
    draw: Draw
    dies_usd: Values
    step_mm: float
    more_array: float = 0.0


def block_facts_of(facts: Facts, space: DesignSpace, block: Block, draw: Draw) -> BlockFacts:
    """The shared part of a block; MissingFact for a node without rows."""
    step = facts.value("chip-search", "die_step_mm")
    return BlockFacts(
        facts=facts,
        block=block,
        rules=rules_of(facts, block.node_nm),
        memory=memory_numbers(facts, space.memories_of(block)),
        links=space.links,
        draw=draw,
        dies_usd=facts.derived(("dies_usd", block.node_nm, step), lambda: dies_usd(facts, block.node_nm, step)),
        step_mm=step,
    )
