"""Chips proposed for a year from what was known at the end of another: by the designs of `asic`, and by the search.

    designed    the cheapest machine that `asic` derives for one model and one load (designing.py), over the memories
                of the roadmap
    searched    the cheapest package of the space of designs (designs.py) for the same model, over all deployments; the
                design's own dollars are spread over the packages of the row chip-search.volume_packages

Both see only the facts of the roadmap (`facts_of`): its process, prices, memories, interposer and cooling.
"""

from __future__ import annotations

import numpy as np

from flashstill.arch import Architecture
from flashstill.asic.choosing import answer_of, asked_of, usd_per_million
from flashstill.asic.design import HBM, ChipDesign
from flashstill.asic.designing import design_chip
from flashstill.codesign.backtest import COMPARED, Vector
from flashstill.codesign.design_space import design_space
from flashstill.codesign.designs import ON_SRAM, known_formats, known_memories
from flashstill.codesign.future import Share
from flashstill.codesign.hunt import Hunt, least
from flashstill.codesign.loads import load_of
from flashstill.codesign.memory_choices import memory_numbers
from flashstill.codesign.roadmap import facts_of, roadmap
from flashstill.codesign.screened import Wanted, screen
from flashstill.codesign.trends import STACKED, WIDE
from flashstill.economics.tco import terms_of
from flashstill.errors import InfeasiblePlan
from flashstill.facts import Facts
from flashstill.plan.scenario import Scenario

DESIGNS, CHIPS_AT_MOST, BATCH_AT_MOST = 200_000, 16, 256
"""of a searched space, and of a deployment"""


def designed(
    facts: Facts, model: Architecture, year: int, as_of: int, isl: int, osl: int, concurrency: int
) -> ChipDesign:
    """The cheapest chip for one model of the designs of `asic`, over the memories that the roadmap has.

    Raises InfeasiblePlan if none can be built.
    """
    plan, then = roadmap(facts, year, as_of), facts_of(facts, year, as_of)
    found: list[tuple[float, ChipDesign]] = []
    for kind in plan.memories.values():
        if kind.stacked or not kind.name.startswith(STACKED):
            continue
        try:
            design = design_chip(
                then, model, variant=HBM, node=int(plan.node_nm), memory=kind.name, isl=isl, osl=osl,
                concurrency=concurrency, name="proposed",
            )  # fmt: skip
        except InfeasiblePlan:
            continue
        found.append((_usd(then, design, model, isl, osl), design))
    if not found:
        raise InfeasiblePlan(f"no memory of {year} gives a chip for {model.name}", {})
    return min(found, key=lambda pair: pair[0])[1]


def _usd(facts: Facts, design: ChipDesign, model: Architecture, isl: int, osl: int) -> float:
    asked = asked_of(facts, Scenario(model=model, isl=isl, osl=osl, batch=design.concurrency))
    return usd_per_million(asked, design, answer_of(asked, design))


def design_vector(design: ChipDesign) -> Vector:
    """The vector of a design."""
    wide = next(design.flops_per_s[name] for name in WIDE if name in design.flops_per_s)
    numbers = (wide, design.memory_bytes, design.memory_bytes_per_s, design.power_limit_w)
    return dict(zip(COMPARED, numbers, strict=True))


def searched(facts: Facts, model: Architecture, year: int, as_of: int, isl: int, osl: int) -> Vector:
    """The vector of the cheapest package of the search for one model; InfeasiblePlan if none serves it.

    Formats of the arrays are those that some chip known by then multiplies in.
    """
    plan, then = roadmap(facts, year, as_of), facts_of(facts, year, as_of)
    space = design_space(
        then,
        nodes=(int(plan.node_nm),),
        designs=DESIGNS,
        memories=(*(kind for kind in known_memories(then) if kind in plan.memories), ON_SRAM),
        narrowest=known_formats(then),
    )
    loads = (load_of(Share(model=model, weight=1.0, isl=isl, osl=osl), CHIPS_AT_MOST, BATCH_AT_MOST),)
    volume = then.value("chip-search", "volume_packages")
    wanted, terms = (Wanted(loads=((0, 1.0),), volume=volume, objective="usd"),), terms_of(then)
    screened = screen(then, space, loads, wanted, terms)
    hunt = Hunt(facts=then, space=space, loads=loads, wanted=wanted, terms=terms, screened=screened)
    best = least(hunt, [0])
    if best.design < 0:
        raise InfeasiblePlan(f"no design of {year} serves {model.name}", dict(screened.reasons))
    ((_, found),) = hunt.by_block(np.array([best.design]))
    memory = memory_numbers(then, (space.memories_of(found.block)[int(found.memory[0])],))
    wide = next(found.silicon.flops_per_s[name] for name in WIDE if name in found.silicon.flops_per_s)
    numbers = (wide, memory.bytes + memory.weights_bytes, memory.bytes_per_s, found.silicon.limit_w)
    return dict(zip(COMPARED, (float(np.ravel(number)[0]) for number in numbers), strict=True))
