"""What a chip is for, what a search decides of it, and what all choices share: engine, arrays, numbers of the node."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from flashstill.arch import Architecture
from flashstill.asic.area import Rules, rules_of
from flashstill.asic.design import HARDWIRED, HBM
from flashstill.asic.rows import CLASS_OF, MAKER
from flashstill.cost import Precisions
from flashstill.economics.bill_of_materials import memory_owner
from flashstill.economics.wafers import Wafer, wafer_of
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.hardware.software import Software, software_on
from flashstill.plan.deployment import OWN_SOFTWARE
from flashstill.workload import decode

MULTIPLIED_IN = {"fp8-block": "fp8", "mxfp4": "fp4", "int2": "bf16"}
"""formats that are multiplied in another one"""
ATTENTION = "bf16"
"""format of attention's products (cost/operations.py)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a chip is for.

    precision: of the weights, as a deployment names it.  tokens: of a sequence at its full length.  memory: type of
    HBM.  name: of the chip.
    """

    model: Architecture
    variant: str
    node_nm: int
    precision: str
    precisions: Precisions
    concurrency: int
    tokens: int
    memory: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What a search decides. chips: packages of a machine.  dies: of a package.  intensity: FLOP a byte.

    stages: of the pipeline over the chips; the chips of a stage split every matrix.
    more: HBM stacks as a multiple of the fewest that hold weights and cache.  lanes: of SerDes, of a package.
    limited: watts that a package may draw beyond idling, as a share of what cooling removes.
    """

    chips: int
    dies: int
    intensity: float
    stages: int = 1
    more: int = 1
    lanes: int = 0
    limited: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Givens:
    """What all choices share: the numbers of the node, the engine, the arrays.

    widest: format of the array's widest multiplier.  rates: multipliers of each format over those of the widest.
    activation_bytes: of the operation that has most, a sequence.
    """

    wanted: Wanted
    rules: Rules
    software: Software
    widest: str
    rates: dict[str, float]
    activation_bytes: float
    clock_hz: float
    lane_bytes_per_s: float
    modules: int
    wafer: Wafer
    facts: Facts

    def value(self, name: str, quantity: str) -> float:
        """A fact row."""
        return self.facts.value(name, quantity)

    def memory_value(self, quantity: str) -> float:
        """A fact row of the memory, or of all HBM."""
        return memory_value(self.facts, self.wanted.memory, quantity)


def memory_value(facts: Facts, kind: str, quantity: str) -> float:
    """A number of a kind of memory: its own row, or that of all HBM; MissingFact without either."""
    return facts.value(memory_owner(facts, kind, quantity) or kind, quantity)


def check_memory(facts: Facts, kind: str) -> str:
    """The kind of memory; BadInput for one that does not stand beside a die, or that cannot hold a cache."""
    facts.value(kind, "stack_bytes")
    owner = memory_owner(facts, kind, "interposer_ratio")
    if not owner or facts.value(owner, "interposer_ratio") <= 0.0:
        raise BadInput(
            f"{kind} does not stand beside the die on an interposer, as stacks of the variant hbm do; a chip search"
            " designs chips with it (docs/chip-search.md)"
        )
    written = facts.find(kind, "cache_ratio")
    if written is not None and written.value <= 0.0:
        raise BadInput(
            f"{kind} cannot hold a cache that every token writes; a chip search puts weights into it beside"
            " another memory (docs/chip-search.md)"
        )
    return kind


def givens_of(facts: Facts, wanted: Wanted) -> Givens:
    """What all choices for `wanted` share; MissingFact for a node or memory without rows."""
    rules, node = rules_of(facts, wanted.node_nm), f"node-{wanted.node_nm}"
    if wanted.variant == HBM:
        rules = replace(
            rules,
            stack_mm2=memory_value(facts, wanted.memory, "phy_mm2"),
            stack_edge_mm=memory_value(facts, wanted.memory, "stack_edge_mm"),
        )
    kind = CLASS_OF[wanted.variant]
    roles = wanted.precisions
    used = {roles.linear, roles.attention, roles.experts, roles.exact, ATTENTION}
    if wanted.variant == HARDWIRED:
        used = {ATTENTION}
    formats = {MULTIPLIED_IN.get(name, name) for name in used}
    widest = max(formats, key=lambda name: (rules.multiplier_mm2[name], name))
    rates = rules.rates_over(widest, sorted(formats))
    step = decode(wanted.model, 1.0, float(wanted.tokens), wanted.precisions.widths)
    across = facts.value("die-to-die", "die_bytes_per_s") / facts.value("die-to-die", "module_bytes_per_s")
    return Givens(
        wanted=wanted,
        rules=rules,
        software=software_on(facts, "none" if kind in OWN_SOFTWARE else "vllm", f"{kind}-{MAKER}"),
        widest=widest,
        rates=rates,
        activation_bytes=max(float(operation.activation_bytes) for operation in step),
        clock_hz=facts.value(node, "clock_hz"),
        lane_bytes_per_s=facts.value(node, "lane_bytes_per_s"),
        modules=math.ceil(across),
        wafer=wafer_of(facts),
        facts=facts,
    )
