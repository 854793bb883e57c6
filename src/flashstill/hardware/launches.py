"""What an engine adds to a block, on one chip: small kernels and the gaps between kernels.

    block  =  layer_s x (chip's floor / class's floor) x (blocks + norm_ratio x pairs of further norms)

A kernel without work takes less with each generation: the floor of a product in bf16, which a row of each timed chip
says, is 3.8 us on an A100, 2.5 on an H100, 2.1 on a B200.  layer_s is fitted to engines on several chips of a class, so
that it stands for the class's floor; on one chip it scales with that chip's own.  Chips without timed kernels have the
class's floor, and so the engine's layer_s as it is; so have all where the class's floor is 0.

Rows of an engine with a class before the quantity (gpu.layer_s) hold on chips of that class: what a host launches one
by one (launch_s and the counts), and the small kernels of an engine that runs on CPUs as well, which have none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flashstill.facts import Facts
from flashstill.hardware.chip import Chip
from flashstill.hardware.software import Software, engine_name, has_measured_engines, owners_of, software_on

OF_A_CLASS = (
    "layer_s", "norm_ratio", "launch_s", "step_launches", "block_launches", "norm_launches", "expert_launches",
)  # fmt: skip
"""overheads that an engine may have on one class of chips only"""


def software_of_chip(facts: Facts, engine: str, chip: Chip) -> Software:
    """Overheads of an engine on a chip; MissingFact for an unknown engine.

    Only on chips of makers whose engines were measured: elsewhere layer_s is a row of the maker's class, for its chips.
    A chip's own first_ratio, with the engine as condition, replaces the engine's.
    """
    software = software_on(facts, engine, chip.maker_class)
    changes = dict(facts.derived(("on class", engine, chip.chip_class), lambda: _on_class(facts, engine, chip)))
    if (first := facts.find(chip.name, "first_ratio", engine_name(engine))) is not None:
        changes["first_ratio"] = first.value
    usual = facts.find(chip.chip_class, "matmul.floor_s", "bf16")
    if usual is not None and usual.value and has_measured_engines(facts, chip.maker_class):
        changes["launch_ratio"] = chip.calibration.kernel("matmul", "bf16").floor_s / usual.value
    return replace(software, **changes) if changes else software


def _on_class(facts: Facts, engine: str, chip: Chip) -> dict[str, Any]:
    owner = owners_of(engine)[-1]
    rows = {name: facts.find(owner, f"{chip.chip_class}.{name}") for name in OF_A_CLASS}
    return {name: row.value for name, row in rows.items() if row is not None}
