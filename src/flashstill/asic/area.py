"""mm2 of a die from what it holds, and the sides that fit it.

    SRAM          8 bits x bytes x cell / share of the bank that is cells
    multipliers   count x mm2 of one at 7 nm x density of logic at 7 nm / that of the node; formats share one array, so
                  that it is as large as the largest of them asks for
    wiring        bits of weights x transistors of a bit / (density of logic x share that synthesis reaches)
    interfaces    HBM stacks, SerDes lanes, die-to-die modules, host: blocks that do not shrink with the node
    feeds         rows and columns of systolic arrays x registers and accumulators along an edge, as logic
    other         a share of the die, wiring apart: network on chip, sequencers, vector units, clocks, gaps.  Wiring
                  needs none of it: the transistors of a bit count all that serves it
    edge          a die is never smaller than its interfaces, side by side along its edge, ask for

All numbers are fact rows (facts/chip_design.csv).  The share `other` was estimated on dies of chips that exist, and the
model is checked on each with the share of the others (known_dies.py).  Every number may be an array: of many designs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from flashstill.asic.design import Area
from flashstill.facts import Facts
from flashstill.units import BITS_PER_BYTE
from flashstill.workload import Quantity

RETICLE = "a die does not fit one exposure"
WAFER = "a die does not fit the wafer"
CARRIER = "dies and stacks do not fit one package"
POWER = "idle power uses up what cooling removes"
"""reasons for which silicon cannot be made or run"""
UM2_PER_MM2 = 1e6
REFERENCE_NM = 7
"""node to which the rows of multipliers refer"""
DATAFLOW, GPU, GRAPHICS = "dataflow", "gpu", "graphics"
"""kinds of dies by what surrounds multipliers and SRAM; conditions of the rows `other_ratio`"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What one die holds. multipliers: by format.  wired_bits: of weights in the wiring.  lanes: of SerDes.

    modules: die-to-die.  hosts: host interfaces.  feeds: rows and columns of all systolic arrays.
    enlarged: multipliers over those of the formats alone, for what they can do beside.
    """

    sram_bytes: Quantity = 0.0
    multipliers: Mapping[str, Quantity] = field(default_factory=dict)
    wired_bits: Quantity = 0.0
    stacks: Quantity = 0.0
    lanes: Quantity = 0.0
    modules: Quantity = 0.0
    hosts: Quantity = 1.0
    feeds: Quantity = 0.0
    enlarged: Quantity = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The numbers of the area model at one node: mm2 and mm of edge of one of each part."""

    byte_mm2: float
    multiplier_mm2: Mapping[str, float]
    wired_bit_mm2: float
    stack_mm2: Quantity
    lane_mm2: Quantity
    module_mm2: float
    host_mm2: float
    feed_mm2: float
    stack_edge_mm: Quantity
    lane_edge_mm: Quantity
    module_edge_mm: float
    host_edge_mm: float
    other_ratio: float
    width_mm: float
    height_mm: float

    def rates_over(self, widest: str, formats: Iterable[str]) -> dict[str, float]:
        """Multipliers of each format over those of the widest: powers of two, as many as fit the same area."""
        size = self.multiplier_mm2
        return {name: 2.0 ** math.floor(math.log2(size[widest] / size[name])) for name in formats}


def rules_of(facts: Facts, node_nm: int) -> Rules:
    """The rules of a node; MissingFact if it has no rows. What surrounds multipliers and SRAM is a dataflow chip's."""
    return facts.derived(("area", node_nm), lambda: _rules(facts, node_nm))


def _rules(facts: Facts, node_nm: int) -> Rules:
    node = f"node-{node_nm}"
    density = facts.value(node, "transistors_per_mm2")
    shrink = facts.value(f"node-{REFERENCE_NM}", "transistors_per_mm2") / density
    cell_mm2 = facts.value(node, "cell_um2") / UM2_PER_MM2
    sizes = {row.condition.partition(",")[0]: row.value for row in facts.rows["mac", "area_um2"]}
    bit = facts.value("wired", "transistors_per_bit")
    return Rules(
        byte_mm2=BITS_PER_BYTE * cell_mm2 / facts.value("sram-macro", "area_efficiency"),
        multiplier_mm2={name: um2 / UM2_PER_MM2 * shrink for name, um2 in sizes.items()},
        wired_bit_mm2=bit / (density * facts.value("silicon", "density_ratio")),
        stack_mm2=facts.value("hbm", "phy_mm2"),
        lane_mm2=facts.value("serdes", "lane_mm2"),
        module_mm2=facts.value("die-to-die", "module_mm2"),
        host_mm2=facts.value("host-interface", "block_mm2"),
        feed_mm2=facts.value("array", "feed_um2") / UM2_PER_MM2 * shrink,
        stack_edge_mm=facts.value("hbm", "stack_edge_mm"),
        lane_edge_mm=facts.value("serdes", "lane_edge_mm"),
        module_edge_mm=facts.value("die-to-die", "module_edge_mm"),
        host_edge_mm=facts.value("host-interface", "block_edge_mm"),
        other_ratio=facts.value("die", "other_ratio", DATAFLOW),
        width_mm=facts.value("reticle", "width_mm"),
        height_mm=facts.value("reticle", "height_mm"),
    )


def area_of(rules: Rules, content: Content) -> Area:
    """The die that holds `content`, by part; at least as large as its edge asks for."""
    return Area(**{name: float(mm2) for name, mm2 in area_parts(rules, content).items()})


def area_parts(rules: Rules, content: Content) -> dict[str, Quantity]:
    """As `area_of`, of one die or of many: mm2 by the parts of an `Area`, which sum to the die."""
    parts = {
        "sram": content.sram_bytes * rules.byte_mm2,
        "multipliers": array_mm2(rules, content),
        "memory_phy": content.stacks * rules.stack_mm2,
        "links": content.lanes * rules.lane_mm2,
        "die_to_die": content.modules * rules.module_mm2,
        "host": content.hosts * rules.host_mm2,
    }
    wired, inside = content.wired_bits * rules.wired_bit_mm2, sum(parts.values())
    whole = _larger(wired + inside / (1.0 - rules.other_ratio), edge_bound_mm2(rules, content))
    return {**parts, "wired_weights": wired, "other": whole - wired - inside}


def array_mm2(rules: Rules, content: Content) -> Quantity:
    """Multipliers of one die, with what feeds them: as large as the format that asks for most."""
    largest: Quantity = 0.0
    for name, count in content.multipliers.items():
        largest = _larger(largest, count * rules.multiplier_mm2[name])
    return largest * content.enlarged + content.feeds * rules.feed_mm2


def _larger(one: Quantity, other: Quantity) -> Quantity:
    return np.maximum(one, other) if np.ndim(one) or np.ndim(other) else max(one, other)


def edge_bound_mm2(rules: Rules, content: Content) -> Quantity:
    """mm2 of the smallest die with edge enough, in the proportion of the reticle.

    HBM lies along the two long sides of height h, everything else where edge is left, of 2 (width + h) in all.
    """
    stacks = content.stacks * rules.stack_edge_mm
    others = (
        content.lanes * rules.lane_edge_mm + content.modules * rules.module_edge_mm + content.hosts * rules.host_edge_mm
    )
    slim = rules.width_mm / rules.height_mm
    height = _larger(stacks / 2.0, (stacks + others) / (2.0 * (1.0 + slim)))
    return height * height * slim


def sides_of(rules: Rules, mm2: float) -> tuple[float, float] | None:
    """Width and height of a die of `mm2`, in the proportion of the reticle; None if it does not fit one exposure."""
    scale = math.sqrt(mm2 / (rules.width_mm * rules.height_mm))
    return None if scale > 1.0 else (rules.width_mm * scale, rules.height_mm * scale)
