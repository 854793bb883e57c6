"""The search for a chip: its bounds never exceed the price, and its winner is that of pricing every design."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.codesign.design_prices import OBJECTIVES
from flashstill.codesign.designs import DesignSpace, design_space
from flashstill.codesign.future import Share
from flashstill.codesign.hunt import Hunt, least
from flashstill.codesign.loads import load_of
from flashstill.codesign.screened import Wanted, screen
from flashstill.codesign.silicon import REASONS
from flashstill.economics.tco import terms_of
from flashstill.facts import load

FACTS = load()
MODELS = ("llama-3.1-8b", "gpt-oss-20b", "deepseek-v2-lite")


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


def check_every_design(hunt: Hunt) -> int:
    """The bound of every design is at most its price, and the hunt finds the least of all; designs that serve."""
    served = 0
    for future in range(len(hunt.wanted)):
        bound = hunt.screened.bounds[future]
        found = least(hunt, [future])
        made = np.flatnonzero(np.isfinite(bound))
        full = hunt.cost(future, made)
        assert np.all(bound[made] <= full)
        served += int(np.isfinite(full).sum())
        if np.isfinite(full).any():
            assert found.design == made[int(np.argmin(full))]
            assert found.cost == full.min()
        else:
            assert found.design == -1
    return served


@pytest.mark.slow
def test_the_bound_never_exceeds_the_price_and_the_winner_is_that_of_pricing_all() -> None:
    assert check_every_design(a_hunt(3, "llama-3.1-8b", 120)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_winners_of_random_spaces_are_those_of_pricing_all(seed: int) -> None:
    assert check_every_design(a_hunt(seed, MODELS[seed % len(MODELS)], 200)) >= 0


@pytest.mark.slow
def test_every_design_is_made_or_refused_for_one_reason() -> None:
    hunt = a_hunt(1, "llama-3.1-8b", 120)
    assert hunt.screened.buildable + sum(hunt.screened.reasons.values()) == hunt.space.size
    assert set(hunt.screened.reasons) <= set(REASONS)


def test_a_small_space_is_searched_as_if_every_design_were_priced() -> None:
    space = design_space(
        FACTS, nodes=(5,), designs=8, memories=("hbm4",), dies=(1,), narrowest=("fp8",), edges=(128,), stacks=(4,),
        lanes=(32,), wirings=("torus 3d",), macs=(2.0**15, 2.0**18), sram_bytes=(2.0**26, 2.0**28),
    )  # fmt: skip
    model = load_architecture("llama-3.1-8b")
    load = load_of(Share(model=model, weight=1.0, isl=512, osl=64, max_tpot_s=0.05), 2, 64)
    wanted = tuple(Wanted(loads=((0, 1.0),), volume=1e5, objective=objective) for objective in OBJECTIVES)
    terms = terms_of(FACTS)
    screened = screen(FACTS, space, (load,), wanted, terms)
    hunt = Hunt(facts=FACTS, space=space, loads=(load,), wanted=wanted, terms=terms, screened=screened)
    assert check_every_design(hunt) == 3 * screened.buildable > 0
    assert screened.buildable + sum(screened.reasons.values()) == space.size
