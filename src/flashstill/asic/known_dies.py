"""The area model against dies that exist: what it makes of their SRAM, multipliers and interfaces.

For each chip with rows of all it holds, the share `other` (area.py) is the median of the other chips of its kind, so
that no die is judged by itself:

    other      = 1 - parts / die
    predicted  = parts / (1 - median of `other` over the other chips of the kind)
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from flashstill.asic.area import DATAFLOW, GPU, GRAPHICS, Content, area_of, rules_of
from flashstill.errors import MissingFact
from flashstill.facts import Facts
from flashstill.units import FLOPS_PER_MAC


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownDie:
    """One chip: die_mm2 as published, parts_mm2 without `other`, predicted_mm2 with that of the others of its kind."""

    chip: str
    kind: str
    die_mm2: float
    parts_mm2: float
    other_ratio: float
    predicted_mm2: float

    @property
    def error(self) -> float:
        """Predicted over published, less 1."""
        return self.predicted_mm2 / self.die_mm2 - 1.0


def known_dies(facts: Facts) -> list[KnownDie]:
    """Every chip with a row `die_sram_bytes`, judged with the others of its kind; MissingFact with fewer than two."""
    chips = [name for name, quantity in facts.rows if quantity == "die_sram_bytes"]
    kinds = {chip: kind_of(facts, chip) for chip in chips}
    parts = {chip: parts_of(facts, chip) for chip in chips}
    area = {chip: facts.value(chip, "die_mm2") for chip in chips}
    shares = {chip: 1.0 - parts[chip] / area[chip] for chip in chips}
    answers = []
    for chip in chips:
        others = [shares[each] for each in chips if kinds[each] == kinds[chip] and each != chip]
        if not others:
            raise MissingFact(f"{chip} is the only {kinds[chip]} chip with rows of what its die holds")
        answers.append(
            KnownDie(
                chip=chip,
                kind=kinds[chip],
                die_mm2=area[chip],
                parts_mm2=parts[chip],
                other_ratio=shares[chip],
                predicted_mm2=parts[chip] / (1.0 - median(others)),
            )
        )
    return answers


def kind_of(facts: Facts, chip: str) -> str:
    """What surrounds multipliers and SRAM: GPUs without HBM draw pictures as well."""
    if facts.machine(chip).chip_class != "gpu":
        return DATAFLOW
    return GPU if facts.value(chip, "die_stacks") else GRAPHICS


def parts_of(facts: Facts, chip: str) -> float:
    """mm2 of SRAM, multipliers and interfaces of a chip that exists, from its rows."""
    node = int(facts.value(chip, "process_nm"))
    clock, full = facts.value(chip, "clock_hz"), facts.value(chip, "units_on_die_ratio")
    rules = rules_of(facts, node)
    rates = {row.condition.split()[0]: row.value for row in facts.rows[chip, "flops_per_s"]}
    multipliers = {
        name: full * rate / FLOPS_PER_MAC / clock for name, rate in rates.items() if name in rules.multiplier_mm2
    }
    lane = facts.value(f"node-{node}", "lane_bytes_per_s")
    content = Content(
        sram_bytes=facts.value(chip, "die_sram_bytes"),
        multipliers=multipliers,
        stacks=facts.value(chip, "die_stacks"),
        lanes=facts.value(chip, "link_bytes_per_s") / lane,
    )
    area = area_of(rules, content)
    return area.mm2 - area.other
