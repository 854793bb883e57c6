"""A chip, built from fact rows.  This file contains no chip numbers.

Every row needed by kernels, collectives or energies must exist, for the chip or for its class; one error lists all
missing rows.  Three features are optional and absent without a row: links to other chips, a systolic array, and
access to host memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flashstill.errors import BadInput, MissingFact, unknown
from flashstill.facts import Facts
from flashstill.facts.row import Machine
from flashstill.hardware.calibration import Calibration
from flashstill.hardware.calibration_rows import calibration_of, same_die
from flashstill.hardware.formats import BYTES_PER_VALUE, WIDER
from flashstill.hardware.memories import Memory, memory_tiers
from flashstill.hardware.needs import Needs
from flashstill.hardware.system import System
from flashstill.hardware.topology import Topology
from flashstill.hardware.wiring import Wired, wired_memory, wired_of
from flashstill.units import BITS_PER_BYTE, PICO


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """An accelerator. flops_per_s and joules_per_mac: by precision.  tiers: memory tiers: DRAM if any, SRAM,
    host memory.

    compute_units: processors (SMs) over which a GPU distributes tiles; 0 if its kernel model has no tile waves, as on
    a systolic array.
    matrix_edge: side of the systolic array; 0 without one.
    vector_flops_per_s: of the vector units, which multiply by a few rows where tiles would be mostly padding; 0 on
    chips with timed products, whose coefficients were fitted to such products too.
    operand_joules_per_mac: energy of registers and nearest SRAM that feed a multiplier.
    on_chip_bytes: cache or SRAM available to activations.
    active_w: power of clocks and leakage while working, in addition to idle_w.  waiting_power_ratio: share of active_w
    drawn while waiting for kernel launches, links or the host.
    least_voltage_ratio: lowest voltage of the core over that at its full clock.
    topology: its fast links.  system: the domain they connect, the scale-out network and the server.
    wired: the one model whose weights are in the wiring; None for a chip that runs any model.
    stacked: number of chips if this stands for many, with arrays for numbers (stacked.py); 0 for one chip.
    """

    name: str
    title: str
    chip_class: str
    maker_class: str
    flops_per_s: dict[str, float]
    joules_per_mac: dict[str, float]
    operand_joules_per_mac: dict[str, float]
    tiers: tuple[Memory, ...]
    on_chip_bytes: float
    on_chip_joules_per_byte: float
    compute_units: int
    matrix_edge: int
    vector_flops_per_s: float
    topology: Topology
    system: System
    power_limit_w: float
    idle_w: float
    active_w: float
    waiting_power_ratio: float
    least_voltage_ratio: float
    calibration: Calibration
    wired: Wired | None = None
    stacked: int = 0

    @property
    def static_w(self) -> float:
        """Power drawn by a working chip regardless of load: leakage and clocks."""
        return self.idle_w + self.active_w

    @property
    def waiting_w(self) -> float:
        """Power drawn by a chip that waits: idle power, and a share of that of its clocks."""
        return self.idle_w + self.active_w * self.waiting_power_ratio

    @property
    def memory(self) -> Memory:
        """Default tier of weights and KV cache: DRAM if the chip has any."""
        return self.tiers[0]

    @property
    def weights_memory(self) -> Memory:
        """Default tier of weights: the wiring if they are in it, else as `memory`."""
        return self.tiers[-1] if self.wired else self.memory

    def tier(self, name: str) -> Memory:
        """A memory tier by name; MissingFact lists the chip's tiers."""
        for memory in self.tiers:
            if memory.name == name:
                return memory
        names = ", ".join(memory.name for memory in self.tiers)
        raise MissingFact(f"{self.name} has no memory called {name!r} with a bandwidth; it has {names}")

    def precision(self, asked: str) -> str:
        """The precision used for multiplication: `asked`, or the next wider one that the chip supports."""
        if asked in self.flops_per_s:
            return asked
        for wider in WIDER.get(asked, ()):
            if wider in self.flops_per_s:
                return wider
        names = ", ".join(sorted(self.flops_per_s))
        raise MissingFact(f"{self.name} has no multiply rate for {asked} or anything wider; it has {names}")


VECTOR_FORMAT = "fp32"
"""the format whose rate is that of the vector units"""
_ONE_EACH = (
    "memory_bytes", "memory_bytes_per_s", "memory_visible_bytes", "sram_bytes", "sram_bytes_per_s", "cache_bytes",
    "host_bytes", "host_bytes_per_s", "host_link_bytes_per_s", "compute_units", "matrix_edge", "link_bytes_per_s",
    "scale_out_bytes_per_s", "link_domain_chips", "torus_axes", "wrap_edge", "direct_peers", "link_pj_per_bit",
    "power_limit_w", "idle_w", "process_nm", "die_mm2",
)  # fmt: skip
"""numbers of which a chip has one row, whatever its condition says"""


def known_chips(facts: Facts) -> list[str]:
    """Names of machines with a multiply rate (flops_per_s)."""
    return [name for name in facts.machines if facts.find(name, "flops_per_s") is not None]


def chip_from_facts(facts: Facts, name: str) -> Chip:
    """The chip called `name` (case-insensitive); MissingFact if it is unknown or lacks a number."""
    machine = facts.machine(name)
    return facts.derived(("chip", machine.name), lambda: _chip(facts, machine))


def _rates_of(facts: Facts, machine: Machine) -> dict[str, float]:
    """FLOP/s by precision; empty where no row says.

    Raises MissingFact for an unknown class and a row without a precision, BadInput for a hard-wired chip.
    """
    name, kind = machine.name, machine.chip_class
    if kind not in facts.classes:
        raise MissingFact(f"{name}: {unknown('class of chip', kind, facts.classes)}")
    rates = facts.rows.get((name, "flops_per_s"), ())
    if not all(fact.condition.strip() for fact in rates):
        raise MissingFact(f"the condition of flops_per_s of {name} must begin with the precision, as in bf16 dense")
    if not rates and facts.find(name, "hardwired_tokens_per_s"):
        raise BadInput(f"{name} is hard-wired for one model: only `flashstill predict` can answer for it")
    return {fact.condition.split()[0]: fact.value for fact in rates}


def _chip(facts: Facts, machine: Machine) -> Chip:
    name, kind, flops = machine.name, machine.chip_class, _rates_of(facts, machine)
    needs = Needs(facts, name, kind, between=(machine.maker_class,))
    if not flops:
        needs.missing.append("flops_per_s")
    limit, active = needs.number("power_limit_w"), needs.number("active_power_ratio")
    node_nm = needs.number("process_nm")
    # a chip without a node lacks that alone, not the energies of a node that does not exist
    ratio = needs.of(f"node-{node_nm:g}", "logic_energy_ratio") if needs.find("process_nm") else 1.0
    macs = {precision: needs.of("mac", "pj_per_mac", precision) for precision in flops}
    per_mac = ratio * needs.number("mac_energy_ratio") * PICO
    operand = needs.number("operand_energy_ratio")
    crossing_mm = needs.number("crossing_ratio") * math.sqrt(needs.number("die_mm2"))
    wire = needs.of("wire", "pj_per_bit_mm") * crossing_mm * BITS_PER_BYTE * PICO
    needs.one_row_each(_ONE_EACH)
    tiers, wired = memory_tiers(needs, ratio, wire), wired_of(facts, name)
    if wired is not None:
        if wired.precision not in BYTES_PER_VALUE:
            raise MissingFact(unknown("precision", wired.precision, BYTES_PER_VALUE))
        tiers = (*tiers, wired_memory(wired, BYTES_PER_VALUE[wired.precision]))
    like = (name, *same_die(facts, name))
    calibration = calibration_of(facts, (*like, machine.maker_class, kind), needs)
    is_timed = any(facts.find(owner, "matmul.floor_s") for owner in like)
    systolic = kind == "tpu" or facts.find(name, "matrix_edge") is not None
    deals_tiles = kind == "gpu" or (calibration.deals_blocks and not systolic)
    units = int(needs.number("compute_units")) if deals_tiles else 0
    on_chip_bytes = needs.either("cache_bytes", "sram_bytes")
    far_sram = needs.of("sram-far", "pj_per_byte") * ratio * PICO + wire
    matrix_edge = int(needs.number("matrix_edge") if kind == "tpu" else needs.optional("matrix_edge"))
    topology, system = _links_of(needs, kind, facts.find(name, "link_bytes_per_s") is not None)
    chip = Chip(
        name=name,
        title=machine.title,
        chip_class=kind,
        maker_class=machine.maker_class,
        flops_per_s=flops,
        joules_per_mac={precision: picojoules * per_mac for precision, picojoules in macs.items()},
        operand_joules_per_mac={precision: picojoules * per_mac * operand for precision, picojoules in macs.items()},
        tiers=tiers,
        on_chip_bytes=on_chip_bytes,
        on_chip_joules_per_byte=far_sram,
        compute_units=units,
        matrix_edge=matrix_edge,
        vector_flops_per_s=flops.get(VECTOR_FORMAT, 0.0) if units and not is_timed else 0.0,
        topology=topology,
        system=system,
        power_limit_w=limit,
        active_w=active * limit,
        waiting_power_ratio=needs.number("waiting_power_ratio"),
        least_voltage_ratio=needs.number("least_voltage_ratio"),
        idle_w=needs.number("idle_w"),
        calibration=calibration,
        wired=wired,
    )
    needs.refuse()
    _check_power(chip)
    return chip


def _links_of(needs: Needs, kind: str, is_linked: bool) -> tuple[Topology, System]:
    """How chips are connected; one with links also needs its topology, domain size and scale-out facts."""
    axes = int(needs.number("torus_axes", absent=0.0)) if is_linked else 0
    wiring = "host-network" if kind in ("sram", "cpu") else ("ici" if axes else "nvlink")
    per_bit = needs.optional("link_pj_per_bit") or needs.of(wiring, "pj_per_bit")
    topology = Topology(
        link_bytes_per_s=needs.optional("link_bytes_per_s"),
        link_joules_per_byte=per_bit * BITS_PER_BYTE * PICO,
        axes=axes,
        peers=int(needs.optional("direct_peers")) if is_linked else 0,
        wrap_edge=int(needs.number("wrap_edge")) if axes else 1,
    )
    system = System(
        domain_chips=int(needs.number("link_domain_chips")) if is_linked else 1,
        scale_out_bytes_per_s=needs.number("scale_out_bytes_per_s") if is_linked else 0.0,
        scale_out_joules_per_byte=needs.of("host-network", "pj_per_bit") * BITS_PER_BYTE * PICO,
        server_power_ratio=needs.number("server_power_ratio"),
    )
    return topology, system


def _check_power(chip: Chip) -> None:
    """BadInput if static power uses up the power limit."""
    if chip.static_w < chip.power_limit_w:
        return
    beside = f" and {chip.active_w:.4g} W for clocks and leakage while it works" if chip.active_w else ""
    raise BadInput(
        f"{chip.name} draws {chip.idle_w:.4g} W idle{beside}, which leaves nothing of its power limit of"
        f" {chip.power_limit_w:.4g} W to compute with; raise power_limit_w or lower idle_w"
    )
