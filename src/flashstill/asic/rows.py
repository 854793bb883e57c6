"""A design as rows of facts, so that `predict`, `search` and `explain` price tokens on it as on any chip.

Its class gives what a design cannot: how much of its peaks kernels reach, energies of a byte and of a multiplication,
their bands.  A chip with its weights in SRAM or in the wiring is of class sram, one with HBM of class npu; the maker is
"own", for which nothing was measured, so that answers have the widest band and say so.
"""

from __future__ import annotations

from flashstill.asic.design import HARDWIRED, HBM, SRAM, ChipDesign
from flashstill.errors import BadInput
from flashstill.facts import Fact, Facts
from flashstill.facts.row import Machine
from flashstill.hardware.wiring import WIRED
from flashstill.plan.deployment import Deployment

CLASS_OF = {SRAM: "sram", HBM: "npu", HARDWIRED: "sram"}
MAKER = "own"
_YEAR = 2027
SOURCE = "flashstill asic: derived from the model (docs/asic-design.md)"


def machine_of(design: ChipDesign) -> Machine:
    """The chip as a line of machines.csv."""
    title = f"chip for {design.model}, {design.variant}, {design.node_nm} nm"
    return Machine(name=design.name, title=title, maker=MAKER, chip_class=CLASS_OF[design.variant], year=_YEAR)


def rows_of(facts: Facts, design: ChipDesign) -> tuple[Fact, ...]:
    """The rows of a design; usable as a CSV file of --facts as well (facts/table.py `to_csv`)."""
    rows = [
        *(_row(design, "flops_per_s", rate, "FLOP/s", f"{name} dense") for name, rate in design.flops_per_s.items()),
        _row(design, "sram_bytes", design.sram_bytes, "B", "software managed"),
        _row(design, "power_limit_w", design.power_limit_w, "W"),
        _row(design, "idle_w", design.idle_w, "W"),
        _row(design, "process_nm", design.node_nm, "nm"),
        _row(design, "die_mm2", design.package_mm2, "mm2"),
    ]
    if design.memory:
        rows.append(_row(design, "memory_bytes", design.memory_bytes, "B", design.memory))
        rows.append(_row(design, "memory_bytes_per_s", design.memory_bytes_per_s, "B/s", design.memory))
    else:
        rows.append(_row(design, "sram_bytes_per_s", design.sram_bytes_per_s, "B/s", "all arrays"))
    if design.link_bytes_per_s:
        scale_out = facts.value("host-interface", "scale_out_bytes_per_s")
        rows.append(_row(design, "link_bytes_per_s", design.link_bytes_per_s, "B/s", "one direction, all links"))
        rows.append(_row(design, "torus_axes", 0, "1", "0 = switched"))
        rows.append(_row(design, "link_domain_chips", design.chips, "1"))
        rows.append(_row(design, "scale_out_bytes_per_s", scale_out, "B/s", "one direction"))
    if design.variant == HARDWIRED:
        rows.append(_row(design, WIRED, design.parameters, "1", f"{design.precision} {design.model}"))
    if design.operation_floor_s is not None:
        rows.append(_row(design, "operation_floor_s", design.operation_floor_s, "s", "least time of one operation"))
    return tuple(rows)


def deployment_of(design: ChipDesign) -> Deployment:
    """One machine of a design as a deployment of its chip."""
    return Deployment(
        chip=design.name,
        chips=design.chips,
        tp=design.tp,
        pp=design.pp,
        precision=design.precision,
        kv_precision=design.kv_precision,
    )


def with_design(facts: Facts, design: ChipDesign) -> Facts:
    """The facts with the design as a further chip; BadInput if a chip of that name exists."""
    taken = facts.chip_name(design.name)
    if taken is not None:
        raise BadInput(f"a chip called {taken} exists already; give the design another name than {design.name!r}")
    return facts.with_machine(machine_of(design), rows_of(facts, design))


def _row(design: ChipDesign, quantity: str, value: float, unit: str, condition: str = "") -> Fact:
    return Fact(
        name=design.name,
        quantity=quantity,
        value=float(value),
        low=float(value),
        high=float(value),
        unit=unit,
        per="chip",
        condition=condition,
        kind="estimate",
        source=SOURCE,
        as_of=str(_YEAR),
        note="",
    )
