"""What designs cost and whether they can be made: area, edge, heat, carrier and dollars of many designs at once.

    die        content of one chiplet (asic/area.py), in the proportion of the reticle
    dollars    of a die: wafer over dies that work, interpolated between widths and shares that can be repaired
    fed        square tiles of side t in SRAM keep the array busy:  FLOP/s <= bytes/s of memory x t / bytes of a value,
               3 t^2 values in the share of SRAM that kernels may count on
    heat       watts <= dies x mm2 x heat that a cold plate removes, and <= those of a package
    watts      of multipliers, memory and links all at their peak, if that is less; of those beyond idling a share
               (designs.py)
    purchase   (bill of materials) x price over cost + board and host + lanes (cable, switch or optics)
    design     non-recurring dollars, spread over the volume later

Arrays have the axes macs, SRAM, memory, links, or one axis for a list of designs: everything broadcasts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from flashstill.asic.area import CARRIER, POWER, RETICLE, Content, area_parts
from flashstill.asic.nre import nre_for
from flashstill.asic.watts import peak_watts
from flashstill.codesign.block_facts import BlockFacts, rates_of
from flashstill.codesign.design_chips import sram_rate
from flashstill.codesign.designs import (
    AXES_OF,
    OPTICS,
    Links,
    Values,
)
from flashstill.codesign.die_prices import SHARES, between
from flashstill.economics.bill_of_materials import INTERPOSER, ORGANIC, assembled
from flashstill.facts import Facts
from flashstill.hardware import BYTES_PER_VALUE
from flashstill.units import FLOPS_PER_MAC
from flashstill.workload import Quantity

BENEATH = "stacked memory is larger than the die beneath it"
UNFED = "SRAM is too small to feed the multipliers from memory"
UNEVEN = "stacks cannot be spread evenly over the dies"
REASONS = (UNEVEN, UNFED, RETICLE, BENEATH, CARRIER, POWER)
_ROUNDING = 1.0 + 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Silicon:
    """What designs are and cost. reason: index into REASONS of why they cannot be made, -1 if they can.

    design_usd: once, for all packages of one design.  package_mm2: silicon, memory apart.
    """

    flops_per_s: dict[str, Values]
    package_mm2: Values
    die_mm2: Values
    limit_w: Values
    idle_w: Values
    made_usd: Values
    memory_usd: Values
    purchase_usd: Values
    design_usd: Values
    reason: Values


def silicon_of(
    block_facts: BlockFacts, macs: Values, sram: Values, memory: Values, links: Values, limited: Quantity | None = None
) -> Silicon:
    """The designs with so many multipliers and bytes of SRAM, and these choices of memory and links, by index.

    limited: shares of the watts beyond idling that they may draw; None for that of the block.
    """
    facts, block, rules, numbers = block_facts.facts, block_facts.block, block_facts.rules, block_facts.memory
    lanes = np.array([float(one.lanes) for one in block_facts.links])[links]
    area = _area(block_facts, macs, sram, memory, links, lanes)
    die_mm2: Values = np.asarray(sum(area.values()))
    steps = np.sqrt(die_mm2 * rules.width_mm / rules.height_mm) / block_facts.step_mm
    silicon = block.dies * die_mm2
    clock = facts.value(f"node-{block.node_nm}", "clock_hz")
    flops = {name: FLOPS_PER_MAC * macs * rate * clock for name, rate in rates_of(rules, block.narrowest).items()}
    cooled = np.minimum(
        silicon * facts.value("cooling", "w_per_mm2") * numbers.heat_ratio[memory], facts.value("cooling", "package_w")
    )
    idle = silicon * facts.value("silicon", "idle_w_per_mm2")
    reason = np.full(np.broadcast_shapes(np.shape(silicon), np.shape(macs), np.shape(sram)), -1, dtype=np.int8)
    stands = silicon + numbers.interposer_mm2[memory]
    interposed = numbers.interposer_mm2[memory] > 0.0
    most = np.where(interposed, facts.value(INTERPOSER, "carrier_mm2"), facts.value(ORGANIC, "carrier_mm2"))
    broken = (
        (numbers.stacks[memory] % block.dies) != 0.0,
        ~_fed(block_facts, flops, sram, memory),
        steps > (len(block_facts.dies_usd) - 1) * _ROUNDING,
        numbers.beneath_mm2[memory] > silicon,
        stands > most,
        idle >= cooled,
    )
    for index in range(len(REASONS) - 1, -1, -1):
        reason = np.where(broken[index], np.int8(index), reason)
    watts = np.minimum(cooled, _needed_w(block_facts, flops, silicon, idle, sram, memory, links, lanes))
    watts = idle + (block.limited if limited is None else limited) * (watts - idle)
    mended = area["sram"] + area["multipliers"]
    dies = block.dies * between(block_facts.dies_usd, steps, np.asarray(mended) / die_mm2 * SHARES)
    return Silicon(
        flops_per_s=flops,
        package_mm2=silicon,
        die_mm2=die_mm2,
        limit_w=watts,
        idle_w=idle,
        reason=reason,
        memory_usd=numbers.usd[memory],
        **_dollars(block_facts, dies, stands, interposed, watts, lanes, memory, links),
    )


def _area(
    block_facts: BlockFacts, macs: Values, sram: Values, memory: Values, links: Values, lanes: Values
) -> dict[str, Quantity]:
    """Square millimetres of one die, by part."""
    facts, block, rules, numbers = block_facts.facts, block_facts.block, block_facts.rules, block_facts.memory
    optical = np.array([one.wiring == OPTICS for one in block_facts.links])[links]
    needed, spare = facts.value("spares", "needed_units"), facts.value("spares", "spare_units")
    each = (needed + spare) / needed / block.dies
    rates = rates_of(rules, block.narrowest)
    across = facts.value("die-to-die", "die_bytes_per_s") / facts.value("die-to-die", "module_bytes_per_s")
    content = Content(
        sram_bytes=sram * each,
        multipliers={name: macs * rate * each for name, rate in rates.items()},
        stacks=1.0 / block.dies,  # the rules count all stacks of the package
        lanes=np.ceil(lanes / block.dies),
        modules=float(math.ceil(across)) if block.dies > 1 else 0.0,
        feeds=2.0 * macs / block.edge * each,
        enlarged=1.0 + facts.value("narrow-format", "area_ratio") * (len(rates) - 1.0) + block_facts.more_array,
    )
    own = replace(
        rules,
        stack_mm2=numbers.phy_mm2[memory],
        stack_edge_mm=numbers.edge_mm[memory],
        lane_mm2=np.where(optical, facts.value("optics", "lane_mm2"), rules.lane_mm2),
        lane_edge_mm=np.where(optical, facts.value("optics", "lane_edge_mm"), rules.lane_edge_mm),
    )
    return area_parts(own, content)


def _fed(block_facts: BlockFacts, flops: dict[str, Values], sram: Values, memory: Values) -> Values:
    """Whether tiles in SRAM are large enough for the memory to feed every format; chips of SRAM only always are."""
    if block_facts.block.on_sram:
        return np.asarray(True)
    rate = np.maximum(block_facts.memory.bytes_per_s, block_facts.memory.weights_bytes_per_s)[memory]
    fed = np.asarray(True)
    for name, most in flops.items():
        width = BYTES_PER_VALUE[name]
        side = np.sqrt(sram * block_facts.facts.value("kernel", "on_chip_ratio") / (3.0 * width))
        fed = fed & (most <= rate * side / width)
    return fed


def _needed_w(
    block_facts: BlockFacts,
    flops: dict[str, Values],
    silicon: Values,
    idle: Values,
    sram: Values,
    memory: Values,
    links: Values,
    lanes: Values,
) -> Values:
    """Watts with multipliers, memory and links all at their peaks."""
    facts, block, draw, numbers = block_facts.facts, block_facts.block, block_facts.draw, block_facts.memory
    wire = draw.byte_wire * np.sqrt(silicon)
    rate = sram_rate(facts, block, sram) if block.on_sram else numbers.bytes_per_s[memory]
    moved_w = rate * (draw.byte_joules[memory] + wire)
    moved_w = moved_w + numbers.weights_bytes_per_s[memory] * (draw.weights_byte_joules[memory] + wire)
    sent_w = lanes * facts.value(f"node-{block.node_nm}", "lane_bytes_per_s") * draw.link_joules[links]
    return np.asarray(peak_watts(idle, flops, draw.mac_joules, moved_w, sent_w, draw.active_ratio))


def _dollars(
    block_facts: BlockFacts,
    dies: Values,
    stands: Values,
    interposed: Values,
    watts: Values,
    lanes: Values,
    memory: Values,
    links: Values,
) -> dict[str, Values]:
    facts, numbers, block = block_facts.facts, block_facts.memory, block_facts.block
    price = np.where(interposed, facts.value(INTERPOSER, "usd_per_mm2"), facts.value(ORGANIC, "usd_per_mm2"))
    bond = np.where(interposed, facts.value(INTERPOSER, "bond_yield_ratio"), facts.value(ORGANIC, "bond_yield_ratio"))
    good = bond ** (block.dies + numbers.placed[memory])
    good = good * np.where(interposed, 1.0, numbers.bonded_ratio[memory])
    bill = assembled(facts, dies, numbers.usd[memory], stands * price, good)
    lane_usd = np.array([_lane_usd(facts, one) for one in block_facts.links])[links]
    board = facts.value("board", "usd_per_w") * watts + facts.value("board", "usd_host") + lanes * lane_usd
    kind = "asic-sram" if block.on_sram else "asic-hbm"
    once = [
        float(nre_for(facts, block.node_nm, kind, not block.on_sram, bool(one.lanes)).usd) for one in block_facts.links
    ]
    return {
        "made_usd": bill.usd,
        "purchase_usd": bill.usd * facts.value("asic", "unit_price_ratio") + board,
        "design_usd": np.array(once)[links],
    }


def _lane_usd(facts: Facts, links: Links) -> float:
    if not links.lanes:
        return 0.0
    switch = 0.0 if AXES_OF[links.wiring] else facts.value("switch", "usd_per_lane")
    medium = "optics" if links.wiring == OPTICS else "copper"
    return switch + facts.value(medium, "usd_per_lane")
