"""A module of weights that is used now and then: kept in a chip's memory, or fetched from a slower tier for each use.

resident   bytes / memory  x  price of an hour          its share of the machine, used or not
swapped    uses an hour x (bytes / bytes a second of the tier) x price of a second, for which the chip waits
equal      at one use in  memory / bytes a second of the tier  seconds    (tiers.py: whatever its size)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flashstill.arch import load_architecture
from flashstill.codesign.cascade_plan import Module
from flashstill.codesign.rent import busy_usd, rent_of
from flashstill.codesign.tiers import break_even_seconds, store_of
from flashstill.cost.conditions import precisions_of
from flashstill.errors import InfeasiblePlan
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.units import SECONDS_PER_HOUR
from flashstill.workload import weight_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleCost:
    """Dollars an hour either way. memory_ratio: share of the chip's memory.  fetch_s, fetch_joules: of one use, at the
    wall.  break_even_s: seconds between uses at which both cost the same; cheaper: resident or swapped."""

    name: str
    chip: str
    tier: str
    bytes: float
    memory_ratio: float
    uses_per_s: float
    resident_usd_per_hour: float
    swapped_usd_per_hour: float
    fetch_s: float
    fetch_joules: float
    break_even_s: float
    cheaper: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def module_costs(facts: Facts, modules: Sequence[Module], basis: str) -> list[ModuleCost]:
    """Each module both ways; InfeasiblePlan for one that a chip's memory does not hold."""
    return [_cost(facts, module, basis) for module in modules]


def _cost(facts: Facts, module: Module, basis: str) -> ModuleCost:
    chip = chip_from_facts(facts, module.chip)
    rent, fast, slow = (
        rent_of(facts, chip, basis),
        store_of(facts, chip, chip.memory.name),
        store_of(facts, chip, module.tier),
    )
    size = module.bytes
    if size is None:
        model = load_architecture(module.model)
        size = float(weight_bytes(model, precisions_of(model, None).widths))
    share = size / fast.memory.visible_bytes
    if share > 1.0:
        raise InfeasiblePlan(
            f"the module {module.name!r} of {size:.3g} bytes does not fit into {fast.memory.visible_bytes:.3g} bytes of"
            f" {chip.name}",
            {"module too large": 1},
        )
    fetch_s = size / slow.memory.bytes_per_s
    moved = size * (slow.memory.joules_per_byte_total + fast.memory.joules_per_byte_total)
    waits = moved + chip.waiting_w * fetch_s
    idle = chip.idle_w * SECONDS_PER_HOUR
    resident = share * float(busy_usd(rent, 1.0, SECONDS_PER_HOUR, idle))
    swapped = module.uses_per_s * SECONDS_PER_HOUR * float(busy_usd(rent, 1.0, fetch_s, waits))
    return ModuleCost(
        name=module.name,
        chip=chip.name,
        tier=slow.name,
        bytes=size,
        memory_ratio=share,
        uses_per_s=module.uses_per_s,
        resident_usd_per_hour=resident,
        swapped_usd_per_hour=swapped,
        fetch_s=fetch_s,
        fetch_joules=waits * rent.wall_ratio,
        break_even_s=break_even_seconds(fast, slow),
        cheaper="resident" if resident <= swapped else "swapped",
    )
