"""A design as rows of facts: `predict` and `search` price it as any other chip, with the figures of the search.

Its class (npu with memory, sram without) gives what a design cannot: how much of its peaks kernels reach, energies of a
byte and of a multiplication.  The maker is "own", for which nothing was measured (asic/rows.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from flashstill.asic.rows import MAKER, SOURCE
from flashstill.codesign.designs import AXES_OF, OPTICS, Block, Links, Memory
from flashstill.facts import Fact, Facts
from flashstill.facts.row import Machine
from flashstill.units import BITS_PER_BYTE, PICO

CLASS_OF = {False: "npu", True: "sram"}
"""class of chip by whether it has its SRAM only"""
_YEAR = 2028
_WRAP_EDGE = 4
"""chips of the shortest axis of a torus that closes to a ring"""


def with_design(
    facts: Facts, name: str, block: Block, memory: Memory, links: Links, numbers: Mapping[str, float]
) -> Facts:
    """The facts with a design as a further chip called `name`. numbers: as `rows_of_design`."""
    machine = Machine(name=name, title="a design", maker=MAKER, chip_class=CLASS_OF[block.on_sram], year=_YEAR)
    return facts.with_machine(machine, rows_of_design(facts, name, block, memory, links, numbers))


def rows_of_design(
    facts: Facts, name: str, block: Block, memory: Memory, links: Links, numbers: Mapping[str, float]
) -> list[Fact]:
    """The rows of a design. numbers: of its chip by quantity (described.py), peaks as flops_per_s.bf16.

    Weights in a kind of memory of their own have no rows: the memory is that of the cache.
    """

    def row(quantity: str, value: float, unit: str, condition: str = "") -> Fact:
        return Fact(
            name=name, quantity=quantity, value=float(value), low=float(value), high=float(value), unit=unit,
            per="chip", condition=condition, kind="estimate", source=SOURCE, as_of=str(_YEAR), note="",
        )  # fmt: skip

    peaks = {key.partition(".")[2]: rate for key, rate in numbers.items() if key.startswith("flops_per_s.")}
    rows = [row("flops_per_s", rate, "FLOP/s", f"{precision} dense") for precision, rate in peaks.items()]
    rows += [
        row("sram_bytes", numbers["sram_bytes"], "B", "software managed"),
        row("power_limit_w", numbers["power_limit_w"], "W"),
        row("idle_w", numbers["idle_w"], "W"),
        row("process_nm", block.node_nm, "nm"),
        row("die_mm2", numbers["die_mm2"], "mm2"),
        row("matrix_edge", block.edge, "1"),
    ]
    if block.on_sram:
        rows.append(row("sram_bytes_per_s", numbers["sram_bytes_per_s"], "B/s", "all arrays"))
    else:
        rows.append(row("memory_bytes", numbers["memory_bytes"], "B", memory.kind.upper()))
        rows.append(row("memory_bytes_per_s", numbers["memory_bytes_per_s"], "B/s", memory.kind.upper()))
    if links.lanes:
        rows.append(row("link_bytes_per_s", numbers["link_bytes_per_s"], "B/s", "one direction, all links"))
        rows.append(row("link_pj_per_bit", link_pj_per_bit(facts, links), "pJ", "both ends"))
        rows.append(row("torus_axes", AXES_OF[links.wiring], "1", "0 = switched"))
        rows.append(row("link_domain_chips", domain_of(facts, links), "1"))
        scale_out = facts.value("host-interface", "scale_out_bytes_per_s")
        rows.append(row("scale_out_bytes_per_s", scale_out, "B/s", "one direction"))
        if AXES_OF[links.wiring]:
            rows.append(row("wrap_edge", wrap_edge_of(links), "1", "shortest axis that closes to a ring"))
    return rows


def wrap_edge_of(links: Links) -> int:
    """Chips of the shortest axis of a torus that closes to a ring; 1 for other links."""
    return _WRAP_EDGE if AXES_OF[links.wiring] else 1


def domain_of(facts: Facts, links: Links) -> float:
    """Chips that the links of a chip connect."""
    if not links.lanes:
        return 1.0
    owner = "torus" if AXES_OF[links.wiring] else "optics" if links.wiring == OPTICS else "copper"
    return facts.value(owner, "domain_chips")


def link_pj_per_bit(facts: Facts, links: Links) -> float:
    """Picojoules of a bit over the links, both ends."""
    if links.wiring == OPTICS:
        return facts.value("optics", "pj_per_bit")
    kind = "ici" if AXES_OF[links.wiring] else "nvlink"
    return facts.value(kind, "pj_per_bit")


def link_joules(facts: Facts, links: Links) -> float:
    """Joules of a byte over the links, both ends."""
    return link_pj_per_bit(facts, links) * BITS_PER_BYTE * PICO
