"""A machine of round numbers, so that what a kernel or a collective takes can be worked out by hand.

1 TFLOP/s, 1 TB/s, 10 compute units, 100 GB/s of links among 8 chips, 10 GB/s beyond; no floors, every peak reached.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flashstill.cost import Conditions, Precisions, make_conditions
from flashstill.facts import load
from flashstill.hardware import Chip, Memory, Software, chip_from_facts
from flashstill.hardware.calibration import PERFECT, Kernel
from flashstill.hardware.software import NO_SOFTWARE

MEMORY = Memory(
    name="memory", bytes=100e9, visible_bytes=100e9, bytes_per_s=1e12, joules_per_byte={"cells": 3e-12, "wires": 2e-12}
)
SRAM = Memory(name="sram", bytes=1e9, visible_bytes=1e9, bytes_per_s=1e13, joules_per_byte={"array": 1e-12})
FORMATS = ("bf16", "fp8", "fp4")
SWITCH: dict[str, Any] = {"link_bytes_per_s": 1e11, "link_joules_per_byte": 10e-12}
NODE: dict[str, Any] = {
    "domain_chips": 8,
    "scale_out_bytes_per_s": 1e10,
    "scale_out_joules_per_byte": 40e-12,
    "server_power_ratio": 1.5,
}


def round_chip(**changes: Any) -> Chip:
    """The machine, with other fields where a test asks for them."""
    example = chip_from_facts(load(), "h100-sxm")
    round_numbers: dict[str, Any] = {
        "name": "round",
        "flops_per_s": {"bf16": 1e12, "fp8": 2e12},
        "joules_per_mac": {"bf16": 1e-12, "fp8": 0.5e-12},
        "operand_joules_per_mac": {"bf16": 0.25e-12, "fp8": 0.125e-12},
        "tiers": (MEMORY, SRAM),
        "on_chip_bytes": 1e6,
        "on_chip_joules_per_byte": 1e-12,
        "compute_units": 10,
        "matrix_edge": 0,
        "topology": replace(example.topology, **SWITCH),
        "system": replace(example.system, **NODE),
        "power_limit_w": 1e9,
        "idle_w": 10.0,
        "active_w": 20.0,
        "waiting_power_ratio": 0.5,
        "least_voltage_ratio": 0.5,
        "calibration": replace(PERFECT, tiling=example.calibration.tiling, on_chip_share=0.5),
    }
    return replace(example, **(round_numbers | changes))


def round_torus(**changes: Any) -> Chip:
    """The machine on a torus of 3 axes whose edges of 4 close: 6 links of 16.67 GB/s."""
    machine = round_chip(**changes)
    topology = replace(machine.topology, axes=3, wrap_edge=4)
    return replace(machine, topology=topology, system=replace(machine.system, domain_chips=4096))


KERNELS_ALONE = replace(NO_SOFTWARE, usable_ratio=0.9)
"""no engine around the kernels, and nine tenths of the memory for weights and cache"""


def round_conditions(
    chip: Chip | None = None, software: Software = KERNELS_ALONE, precisions: Precisions | None = None, **kernels: Any
) -> Conditions:
    """What operations run under; kernels: changes to the kernel of a kind, as in `experts={"floor_s": 1e-6}`."""
    machine = chip or round_chip()
    rows = dict(machine.calibration.kernels)
    for kind, changes in kernels.items():
        for name in FORMATS:
            kernel = Kernel(**{"compute_efficiency": 1.0, "memory_efficiency": 1.0, "floor_s": 0.0, **changes})
            rows[kind.replace("_", "-"), name] = kernel
    calibrated = replace(machine, calibration=replace(machine.calibration, kernels=rows))
    return make_conditions(calibrated, precisions, software=software)
