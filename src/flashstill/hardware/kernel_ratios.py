"""How the kernels of one maker's chips compare with those fitted on another maker's chips of the same class.

    gpu-amd, memory_ratio, 0.7, ..., condition "experts"

A class's coefficients (gpu) were fitted on the chips that published kernel tables cover.  Where a maker's class has
ratio rows, a kernel taken from the class is scaled: efficiencies by compute_ratio and memory_ratio (link_ratio for
collectives), all fixed times by floor_ratio.  The condition names a kind of operation; an empty one holds for all
other kinds.  A complete set of the chip, its die or the maker's class is used as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.facts import Facts

_FLOORS = ("floor_s", "block_s", "doubling_s", "expert_s", "spread_s", "split_s", "quantise_floor_s")
_COLLECTIVE_FLOORS = ("floor_s", "rank_s", "one_shot_floor_s", "one_shot_doubling_s")
_SCALED_BY = {
    **dict.fromkeys(("compute_efficiency", "unit_efficiency"), "compute_ratio"),
    "memory_efficiency": "memory_ratio",
    **dict.fromkeys(("efficiency", "one_shot_efficiency"), "link_ratio"),
    **dict.fromkeys((*_FLOORS, *_COLLECTIVE_FLOORS), "floor_ratio"),
}
"""coefficient -> the ratio that scales it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratios:
    """Ratio rows of one maker's class."""

    facts: Facts
    maker_class: str

    def of(self, quantity: str, kind: str) -> float:
        """The ratio of a kind of operation; 1 if the maker's class has no such row."""
        rows = {row.condition: row.value for row in self.facts.rows.get((self.maker_class, quantity), ())}
        return rows.get(kind, rows.get("", 1.0))

    def scaled(self, kind: str, values: dict[str, float]) -> dict[str, float]:
        """The class's coefficients of a kind, scaled; efficiencies stay at most 1."""
        return {
            name: min(value * self.of(_SCALED_BY[name], kind), 1.0)
            if name.endswith("efficiency")
            else value * (self.of(_SCALED_BY[name], kind) if name in _SCALED_BY else 1.0)
            for name, value in values.items()
        }
