"""The numbers of a chip that a what-if changes, by the names that `--set` has for them.

Each number acts on one or more places of the conditions that price a deployment (`Parameter.acts_on`):

    flops_per_s[FORMAT]           peak of one format
    memory_bytes, ..._per_s       capacity and bandwidth of main memory; sram_... and host_... of the other tiers
    link_bytes_per_s, hop_s       fast links: bandwidth of all links, seconds of one hop
    scale_out_bytes_per_s, ...    the network between domains
    link_domain_chips, torus_axes counts: the step is to the next value that can be built
    power_limit_w                 the limit, and with it the power of the clocks, a share of it
    active_power_ratio, idle_w    static watts
    usd_per_hour, usd_purchase    prices

Four more are no single rows; they scale all rows of a kind and make sums complete: all times per kernel, all times per
collective, the engine's seconds, and the rates at which compute units load operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.facts import Fact, Facts
from flashstill.hardware import Chip
from flashstill.hardware.topology import Topology

RATE, LATENCY, CAPACITY, POWER, SHARE, PRICE, COUNT = "rate", "latency", "capacity", "power", "share", "price", "count"
KERNEL_FLOORS, COLLECTIVE_FLOORS, ENGINE_SECONDS, UNIT_LOADS = (
    "kernel_floors", "collective_floors", "engine_seconds", "unit_load_rates",
)  # fmt: skip
BUNDLES = {
    KERNEL_FLOORS: (LATENCY, "all fixed times of kernels (rows KIND.floor_s, split_s, block_s and so on)"),
    COLLECTIVE_FLOORS: (LATENCY, "all fixed times of collectives (rows KIND.floor_s, rank_s, one_shot_floor_s)"),
    ENGINE_SECONDS: (LATENCY, "all seconds of the serving engine (rows step_s, layer_s, sequence_s and so on)"),
    UNIT_LOADS: (RATE, "rates at which compute units load operands (rows KIND.unit_bytes_per_s)"),
}
"""parameters that scale many rows: kind, and what they stand for"""
_ROWS = {
    "memory_bytes": (CAPACITY, ("memory.bytes",)),
    "memory_bytes_per_s": (RATE, ("memory.rate",)),
    "sram_bytes": (CAPACITY, ("sram.bytes",)),
    "sram_bytes_per_s": (RATE, ("sram.rate",)),
    "cache_bytes": (CAPACITY, ("on_chip",)),
    "host_bytes": (CAPACITY, ("host.bytes",)),
    "host_bytes_per_s": (RATE, ("host.rate",)),
    "host_link_bytes_per_s": (RATE, ("host.rate",)),
    "link_bytes_per_s": (RATE, ("link",)),
    "hop_s": (LATENCY, ("hop",)),
    "link_domain_chips": (COUNT, ("domain",)),
    "torus_axes": (COUNT, ()),
    "scale_out_bytes_per_s": (RATE, ("scale_out",)),
    "scale_out_hop_s": (LATENCY, ("scale_out_hop",)),
    "power_limit_w": (POWER, ("limit", "active")),
    "active_power_ratio": (SHARE, ("active",)),
    "idle_w": (POWER, ("idle",)),
    "usd_per_hour": (PRICE, ("rent",)),
    "usd_purchase": (PRICE, ("purchase",)),
}
"""quantity -> kind, and the places of the conditions that it scales"""
COUNTS = tuple(name for name, (kind, _) in _ROWS.items() if kind == COUNT)
_LINKED = ("link_bytes_per_s", "hop_s", "link_domain_chips", "torus_axes", "scale_out_bytes_per_s", "scale_out_hop_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One number of a chip. name: as `--set CHIP.NAME=...` has it, or one of BUNDLES.

    value, unit: as in its row; None for a bundle.  kind: rate, latency, capacity, power, share, price or count.
    acts_on: places of the conditions that it scales.  next_value: of a count, the value that the step goes to.
    """

    name: str
    kind: str
    value: float | None
    unit: str
    acts_on: tuple[str, ...]
    next_value: float | None = None

    @property
    def more_is_better(self) -> bool:
        """Whether a larger number is the improvement: of rates, capacities, counts and the power limit."""
        return self.kind in (RATE, CAPACITY, COUNT) or self.name == "power_limit_w"

    @property
    def row(self) -> bool:
        """Whether `--set` can change it, as one row."""
        return self.name not in BUNDLES

    def as_dict(self) -> dict[str, Any]:
        """The parameter as a JSON document."""
        return {
            "kind": self.kind,
            "value": self.value,
            "unit": self.unit,
            "next_value": self.next_value,
            "set": self.row,
            "means": "" if self.row else BUNDLES[self.name][1],
        }


def parameters_of(facts: Facts, chip: Chip, tiers: Sequence[str]) -> tuple[Parameter, ...]:
    """The numbers of a chip that can bear on its cost. tiers: memory tiers that may hold weights and cache."""
    return facts.derived(("what-ifs", chip.name, tuple(tiers)), lambda: _parameters(facts, chip, tiers))


def _parameters(facts: Facts, chip: Chip, tiers: Sequence[str]) -> tuple[Parameter, ...]:
    peaks = [
        Parameter(
            name=f"flops_per_s[{precision}]",
            kind=RATE,
            value=rate,
            unit="FLOP/s",
            acts_on=(f"flops.{precision}",),
        )
        for precision, rate in chip.flops_per_s.items()
    ]
    found = [_of_row(facts, chip, quantity) for quantity in _ROWS if _bears(facts, chip, quantity, tiers)]
    bundles = [
        Parameter(name=name, kind=kind, value=None, unit="", acts_on=(name,)) for name, (kind, _) in BUNDLES.items()
    ]
    return (*peaks, *(one for one in found if one is not None), *bundles)


def _bears(facts: Facts, chip: Chip, quantity: str, tiers: Sequence[str]) -> bool:
    """Whether the quantity is one of this chip at all."""
    owned = {tier.name for tier in chip.tiers}
    if quantity.startswith("host_"):
        own = facts.find(chip.name, "host_bytes_per_s") is not None
        mine = quantity != ("host_link_bytes_per_s" if own else "host_bytes_per_s")
        return "host" in owned and "host" in tiers and mine
    if quantity in _LINKED:
        return bool(chip.topology.link_bytes_per_s) and (quantity != "torus_axes" or chip.topology.axes > 0)
    if quantity == "usd_purchase" or quantity == "usd_per_hour":
        return facts.find(chip.name, quantity) is not None
    return True


def _of_row(facts: Facts, chip: Chip, quantity: str) -> Parameter | None:
    row = row_of(facts, chip, quantity)
    if row is None or row.value == 0.0:
        return None
    kind, places = _ROWS[quantity]
    if quantity == "sram_bytes" and row_of(facts, chip, "cache_bytes") is None:
        places = (*places, "on_chip")
    after = {"link_domain_chips": next_domain(chip.system.domain_chips), "torus_axes": chip.topology.axes + 1.0}
    return Parameter(
        name=quantity,
        kind=kind,
        value=row.value,
        unit=row.unit,
        acts_on=places,
        next_value=after.get(quantity),
    )


def row_of(facts: Facts, chip: Chip, quantity: str) -> Fact | None:
    """The row that gives a chip's quantity: its own, its maker's class's or its class's."""
    rows = (facts.find(owner, quantity) for owner in (chip.name, chip.maker_class, chip.chip_class))
    return next((row for row in rows if row is not None), None)


def next_domain(chips: int) -> float:
    """The next size of a domain: the next power of two, as groups of chips are such."""
    return float(2 ** int(chips).bit_length())


def with_axes(topology: Topology, axes: int) -> dict[str, Any]:
    """Changes of a topology to so many torus axes; the bandwidth of all links together stays."""
    return {"axes": axes, "shape": topology.shape if len(topology.shape) == axes else ()}


Ratios = Mapping[str, Any]
"""place of the conditions -> what its number is multiplied by: a number, or an array along the axis of chips"""
