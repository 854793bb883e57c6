"""How much larger or smaller a die is than designed, where the rows of its area are drawn.

    ratio = (wiring t'/t + (SRAM c'/c e/e' + interfaces, each with its own row + multipliers) / (1 - o')) / die

with primes for drawn rows: t transistors of a bit, c cell, e share of a bank that is cells, o share of everything else.
What the die holds stays.  Multipliers are not drawn: few mm2, and a row for each format.  Slack of a die that its edge
bounds stays a part of `other`.
"""

from __future__ import annotations

from flashstill.asic.design import ChipDesign
from flashstill.economics.bill_of_materials import HBM, Rows, memory_owner
from flashstill.facts import Facts
from flashstill.workload import Quantity

_BLOCKS = {
    "links": ("serdes", "lane_mm2"),
    "die_to_die": ("die-to-die", "module_mm2"),
    "host": ("host-interface", "block_mm2"),
}
"""part of a die -> the row of one of its blocks; that of a memory's interface is its kind's"""


def area_ratio(facts: Facts, design: ChipDesign, rows: Rows) -> Quantity:
    """Area of a die with drawn rows over that of the design; 1 with the rows' own values."""

    def change(name: str, quantity: str) -> Quantity:
        drawn: Quantity = rows.value(name, quantity) / facts.value(name, quantity)
        return drawn

    area = design.area
    sram = area.sram * change(f"node-{design.node_nm}", "cell_um2") / change("sram-macro", "area_efficiency")
    rows_of_blocks = {**_BLOCKS, "memory_phy": (memory_owner(facts, design.memory or HBM, "phy_mm2"), "phy_mm2")}
    parts = {part: row for part, row in rows_of_blocks.items() if getattr(area, part)}
    blocks: Quantity = sum(getattr(area, part) * change(*row) for part, row in parts.items())
    share = facts.value("die", "other_ratio")
    surrounded = area.mm2 - area.wired_weights - area.other
    slack = area.other - surrounded * share / (1.0 - share)
    wired: Quantity = 0.0
    if area.wired_weights:
        wired = area.wired_weights * change("wired", "transistors_per_bit")
    whole: Quantity = wired + slack + (sram + area.multipliers + blocks) / (1.0 - rows.value("die", "other_ratio"))
    return whole / area.mm2
