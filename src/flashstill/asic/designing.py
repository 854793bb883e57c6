"""Derive a chip from a model: every choice of a grid is sized, the cheapest for its tokens is kept.

choices     packages of a machine: powers of two;  dies of a package;  FLOP a byte of memory rate;  HBM stacks beyond
            the fewest;  SerDes lanes
sized       all of them (sizing.py); those that cannot be built are counted by reason
cost        owned dollars per output token: materials of the packages, server, network, building, interest and power
            (economics/tco.py), over the tokens a second that the cost arm predicts for the load.  No NRE and no
            margin: those are the same for every choice of one node (money.py)
search      per number of packages, one coordinate after the other from the middle of the grid until none improves
silicon     instead of cost: the least mm2 of a machine that holds the model and the load, whatever its speed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from flashstill.arch import Architecture
from flashstill.asic.choosing import Sized, asked_of, cheapest, machines, smallest
from flashstill.asic.design import HARDWIRED, HBM, VARIANTS, ChipDesign
from flashstill.asic.givens import Givens, Wanted, check_memory, givens_of
from flashstill.asic.rows import rows_of, with_design
from flashstill.asic.watts import peak_watts
from flashstill.cost import Precisions, precisions_of
from flashstill.cost.conditions import CACHE_OF
from flashstill.errors import BadInput, InfeasiblePlan, check_counts, unknown
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.deployment import AS_PUBLISHED, asked_precision, known_precision
from flashstill.plan.scenario import Scenario, check_bounds, check_scenario

COST, SILICON = "cost", "silicon"
OBJECTIVES = (COST, SILICON)
WIRED_AS = {"fp8-block": "fp8", "mxfp4": "fp4", "bf16": "fp16"}
"""formats of wired weights: scales of blocks are wired too; 16 bits are called fp16, beside the bf16 of attention"""
__all__ = ["COST", "OBJECTIVES", "SILICON", "design_chip", "known_node", "node_nm", "rows_of", "with_design"]


def node_nm(node: str | int) -> int:
    """The process node in nm: 5 for "n5", "5" or 5; BadInput for anything else."""
    text = str(node).lower().removeprefix("node-").removeprefix("n").removesuffix("nm")
    if not text.isdecimal() or int(text) < 1:
        raise BadInput(f"{node!r} is no process node; give one such as n5")
    return int(text)


def known_node(facts: Facts, node: str | int) -> int:
    """A node that has rows of area and of wafers; BadInput with those that have."""
    number = node_nm(node)
    has = [
        int(name.removeprefix("node-"))
        for name, quantity in facts.rows
        if quantity == "cell_um2" and facts.find(name, "usd_per_wafer") and facts.find(name, "transistors_per_mm2")
    ]
    if number not in has:
        names = ", ".join(f"n{each}" for each in sorted(has))
        raise BadInput(f"no fact rows of area and wafers for n{number}; those with them: {names}")
    return number


def wanted_formats(model: Architecture, variant: str, precision: str | None, kv: str | None) -> Precisions:
    """Formats of weights and cache: as published, or as asked; all weights of a wired model have one."""
    cache = None if kv is None else known_precision(kv)
    formats = precisions_of(model, asked_precision(precision), cache)
    if variant != HARDWIRED:
        return formats
    one = asked_precision(precision) or (formats.experts if model.routed else formats.linear)
    one = WIRED_AS.get(one, one)
    roles = dict.fromkeys(("linear", "attention", "experts", "exact"), one)
    return Precisions(**roles, kv=cache or CACHE_OF.get(one, one))


def design_chip(
    facts: Facts,
    model: Architecture,
    *,
    variant: str = "sram",
    node: str | int = "n5",
    precision: str | None = None,
    kv_precision: str | None = None,
    concurrency: int = 16,
    isl: int = 1024,
    osl: int = 1024,
    max_tpot_s: float | None = None,
    max_ttft_s: float | None = None,
    memory: str = "hbm3e",
    max_chips: int = 4096,
    name: str = "asic",
    objective: str = COST,
) -> ChipDesign:
    """The chip of a variant that serves the load for the least dollars a token (or on the least silicon).

    concurrency: requests in flight on one machine, for which its memory is sized at isl + osl tokens each.
    Raises BadInput for unknown words, MissingFact without rows of a node or memory, InfeasiblePlan, with the reasons
    counted, if nothing can be built or no design keeps the bounds.
    """
    for what, word, known in (("variant", variant, VARIANTS), ("objective", objective, OBJECTIVES)):
        if word not in known:
            raise BadInput(unknown(what, word, known))
    check_counts({"max_chips": max_chips})
    if variant == HBM:
        check_memory(facts, memory)
    scenario = Scenario(model=model, isl=isl, osl=osl, batch=concurrency, max_tpot_s=max_tpot_s, max_ttft_s=max_ttft_s)
    check_scenario(scenario, model)
    check_bounds(scenario)
    formats = wanted_formats(model, variant, precision, kv_precision)
    wanted = Wanted(
        model=model,
        variant=variant,
        node_nm=known_node(facts, node),
        precision=formats.linear if variant == HARDWIRED else asked_precision(precision) or AS_PUBLISHED,
        precisions=formats,
        concurrency=concurrency,
        tokens=isl + osl,
        memory=memory,
        name=name,
    )
    givens, reasons, built = givens_of(facts, wanted), Counter[str](), list[int]()
    designs = _counted(machines(givens, max_chips, reasons, objective == SILICON), built)
    best = smallest(designs) if objective == SILICON else cheapest(asked_of(facts, scenario), designs, reasons)
    if best is None:
        raise InfeasiblePlan(
            f"no {variant} chip of n{wanted.node_nm} for {model.name} can be built within these bounds", dict(reasons)
        )
    return replace(
        with_needed_watts(facts, best),
        evaluated=sum(built),
        infeasible=dict(reasons),
        notes=notes_on(givens, best),
    )


def notes_on(givens: Givens, design: ChipDesign) -> tuple[str, ...]:
    """What bounds a design, and what is a guess about it, in words."""
    area, share = design.area, givens.rules.other_ratio
    slack = area.other - (area.mm2 - area.wired_weights - area.other) * share / (1.0 - share)
    notes = [
        f"{design.name}: a chip of {design.node_nm} nm derived from {design.model}; nothing was measured on one of its"
        " kind, and its area is known to a third"
    ]
    if slack > 1e-6 * area.mm2:
        notes.append(f"the edge that its interfaces need bounds the die: {slack:.0f} of {area.mm2:.0f} mm2 are left")
    if design.dies_per_package > 1:
        notes.append(f"divided into {design.dies_per_package} dies a package, priced as one chip")
    if design.variant == HARDWIRED:
        notes.append(f"its wiring is {design.model} and no other model, for good")
    return tuple(notes)


def _counted(designs: Iterable[Sized], built: list[int]) -> Iterator[Sized]:
    """The same, with the number of designs of each noted in `built`."""
    for found in designs:
        built.append(len(found))
        yield found


def with_needed_watts(facts: Facts, design: ChipDesign) -> ChipDesign:
    """The design with its power limit lowered to what multipliers, memory and links draw when all are at their peak."""
    chip = chip_from_facts(with_design(facts, design), design.name)
    needed = peak_watts(
        chip.idle_w,
        chip.flops_per_s,
        {name: chip.joules_per_mac[name] + chip.operand_joules_per_mac[name] for name in chip.flops_per_s},
        chip.memory.bytes_per_s * chip.memory.joules_per_byte_total,
        chip.topology.link_bytes_per_s * chip.topology.link_joules_per_byte,
        chip.active_w / chip.power_limit_w,
    )
    return replace(design, power_limit_w=min(design.power_limit_w, float(needed)))
