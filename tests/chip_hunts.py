"""Small random spaces of chips, screened for random loads: what tests of the chip search share."""

from __future__ import annotations

from itertools import product

import numpy as np

from flashstill.arch import load_architecture
from flashstill.codesign.design_prices import OBJECTIVES
from flashstill.codesign.design_space import design_space
from flashstill.codesign.designs import DesignSpace
from flashstill.codesign.future import Share
from flashstill.codesign.hunt import Hunt
from flashstill.codesign.loads import load_of
from flashstill.codesign.screened import Wanted, screen
from flashstill.economics.tco import terms_of
from flashstill.facts import load

FACTS = load()


def a_space(random: np.random.Generator, size: int) -> DesignSpace:
    """A small space with something of everything: kinds of memory, links, formats, edges, chiplets."""
    kinds = ["none", *random.choice(["hbm3e", "hbm4", "hbm5", "lpddr6", "gddr7", "dram-3d", "hbf"], 3, replace=False)]
    if set(kinds) == {"none", "hbf"} or not {"hbm3e", "hbm4", "hbm5", "lpddr6", "gddr7", "dram-3d"} & set(kinds):
        kinds.append("hbm4")
    return design_space(
        FACTS,
        nodes=(int(random.choice([7, 5, 3])),),
        designs=size,
        memories=kinds,
        dies=(1, 2),
        narrowest=(str(random.choice(["fp8", "fp4"])),),
        edges=(int(random.choice([32, 128])),),
        stacks=(2, 4),
        lanes=(16, 64),
        wirings=(*random.choice(["torus 3d", "torus 2d", "switch", "optics"], 2, replace=False), "alone"),
        macs=(2.0**13, 2.0**19),
        sram_bytes=(2.0**25, 2.0**31),
    )


def a_hunt(seed: int, model: str, size: int = 200, futures: int = 1) -> Hunt:
    """A screened space of random axes, a load with or without bounds, and each objective in each future."""
    random = np.random.default_rng(seed)
    space = a_space(random, size)
    loads = tuple(
        load_of(
            Share(
                model=load_architecture(model),
                weight=1.0,
                isl=int(random.choice([128, 2048])),
                osl=osl,
                precision=str(random.choice(["bf16", "fp8"])),
                max_ttft_s=2.0 if random.random() < 0.5 else None,
                max_tpot_s=0.1 if osl > 1 and random.random() < 0.5 else None,
            ),
            8,
            256,
        )
        for osl in (int(random.choice([1, 64, 1024])) for _ in range(futures))
    )
    wanted = tuple(
        Wanted(loads=((place, 1.0),), volume=float(10.0 ** random.uniform(3, 6)), objective=objective)
        for place, objective in product(range(futures), OBJECTIVES)
    )
    terms = terms_of(FACTS)
    screened = screen(FACTS, space, loads, wanted, terms)
    return Hunt(facts=FACTS, space=space, loads=loads, wanted=wanted, terms=terms, screened=screened)
