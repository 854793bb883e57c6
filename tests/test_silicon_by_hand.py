"""A package of the chip search and of `asic`, worked out part by part beside the code: area, yield, dollars, memory.

Every number is arithmetic on fact rows as `flashstill chips` and the CSV files print them; no formula of flashstill is
used, so that a formula that is wrong in both `asic` and `codesign` shows.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from flashstill.api import predict
from flashstill.arch import load_architecture
from flashstill.asic.choosing import answer_of, asked_of, usd_per_million
from flashstill.asic.designing import design_chip
from flashstill.asic.givens import check_memory
from flashstill.codesign.block_facts import block_facts_of
from flashstill.codesign.design_chips import draw_of
from flashstill.codesign.design_space import design_space
from flashstill.codesign.designs import DesignSpace, Links, Memory
from flashstill.codesign.silicon import Silicon, silicon_of
from flashstill.economics.bill_of_materials import Die, Package, bill_of_materials
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import Facts, load
from flashstill.plan.scenario import Scenario

FACTS = load()
SLIM = 26.0 / 33.0


def dies_of_a_wafer(width: float, height: float) -> int:
    """Rectangles with 0.1 mm between them in a circle of 147 mm, on the best of 200 x 40 grids."""
    width, height, best = width + 0.1, height + 0.1, 0
    for across, up in product(
        np.linspace(0.0, width, 40, endpoint=False), np.linspace(0.0, height, 200, endpoint=False)
    ):
        count = 0
        for row in range(-int(147.0 / height) - 2, int(147.0 / height) + 3):
            farthest = max(abs(up + row * height), abs(up + (row + 1) * height))
            if farthest <= 147.0:
                half = math.sqrt(147.0**2 - farthest**2) + 1e-9
                count += max(0, math.floor((half - across) / width) - math.ceil((-half - across) / width))
        best = max(best, count)
    return best


def sold(mean_defects: float, repairable: float) -> float:
    """Share of dies with at most one of 21 slices hit; defects of a die by a gamma distribution of shape 3."""
    density = (np.arange(20_000) + 0.5) * 12.0 / 20_000
    weight = density**2 * np.exp(-3.0 * density)
    slice_works = np.exp(-mean_defects * density * repairable / 21)
    enough = slice_works**21 + 21 * slice_works**20 * (1.0 - slice_works)
    works = np.exp(-mean_defects * density * (1.0 - repairable)) * enough
    return float((weight * works).sum() / weight.sum())


def one_design(
    macs: float, sram: float, memory: Memory, links: Links, dies: int, facts: Facts = FACTS
) -> tuple[Silicon, DesignSpace]:
    space = design_space(facts, nodes=(2,), designs=1000, memories=("hbm4e", "dram-3d"))
    space = replace(
        space, dies=(dies,), narrowest=("fp8",), edges=(128,), memories=(memory,), links=(links,), on_sram=False
    )
    block = next(iter(space.blocks()))
    shared = block_facts_of(facts, space, block, draw_of(facts, space, block))
    place = np.array([0])
    return silicon_of(shared, np.array([macs]), np.array([sram]), place, place), space


@pytest.mark.parametrize("kind", ["hbm4e", "dram-3d"])
def test_a_package_of_four_dies_of_2_nm(kind: str) -> None:
    """834 mm2 a die: 4.2 M multipliers for bf16 and fp8, 128 MiB of SRAM, 12 stacks or tiles, 16 lanes in a torus.

    multipliers  4,194,304 / 4 x 21/20 x 800 um2 at 7 nm x 91.2 / 280 (density) x 1.05 (second format)
                 fp8 has twice as many of 380 um2: 760 um2 for the same, so that bf16 decides
    feeds        2 x multipliers / 128 rows and columns x 6,000 um2 x 91.2 / 280
    SRAM         2^27 B / 4 x 21/20 x 8 x 0.0175 um2 / 0.42
    blocks       3 interfaces of 18 mm2 (of 6 for tiles), 4 lanes of 0.45, 20 modules of 0.4 between dies, a host of 15
    other        0.49 of the die
    """
    stacks = 12
    found, _ = one_design(4_194_304.0, 2.0**27, Memory(kind=kind, stacks=stacks), Links(wiring="torus 3d", lanes=16), 4)
    each, shrink = 21 / 20 / 4, 9.12e7 / 2.8e8
    macs = 4_194_304 * each * 800e-6 * shrink * 1.05 + 2 * 4_194_304 / 128 * each * 6_000e-6 * shrink
    sram = 2.0**27 * each * 8 * 0.0175e-6 / 0.42
    phy = 3 * (18.0 if kind == "hbm4e" else 6.0)
    die = (macs + sram + phy + 4 * 0.45 + 20 * 0.4 + 15.0) / 0.51
    assert found.die_mm2[0] == pytest.approx(die, rel=1e-9)
    # dollars: 0.1 defects a cm2, $30,000 a wafer; dies of a wafer are interpolated between widths by the search
    width = math.sqrt(die * SLIM)
    dies = 4 * 30_000 / (dies_of_a_wafer(width, width / SLIM) * sold(0.1 * die / 100, (macs + sram) / die))
    if kind == "hbm4e":  # on an interposer, each of 16 pieces placed with 0.98
        memory, carrier, good = 12 * 48e9 * 1.6e-8, (4 * die + 12 * 110) * 0.47, 0.98**16
    else:  # tiles on the dies, each bonded with 0.985; dies on a substrate with 0.99
        memory, carrier, good = 12 * 8e9 * 3e-8, 4 * die * 0.08, 0.99**4 * 0.985**12
    made = (dies + memory + carrier) / good + 500.0
    assert found.made_usd[0] == pytest.approx(made, rel=5e-3)
    assert found.memory_usd[0] == pytest.approx(memory)
    board = 0.82 * found.limit_w[0] + 1_500.0 + 16 * 6.0  # cables of a torus, no switch
    assert found.purchase_usd[0] == pytest.approx(1.15 * found.made_usd[0] + board)
    # once: 725 M of which 0.57 hardware at 0.45 and 0.43 software at 0.4; 23 M of licences; masks, one respin; 15 M
    hardware = 725e6 * 0.57 * 0.45
    once = hardware * 1.08 + 725e6 * 0.43 * 0.4 + 23e6 + 50e6 * 1.4 + 15e6
    assert found.design_usd[0] == pytest.approx(once)


def test_larger_dies_cost_more_at_the_same_defects() -> None:
    """Dollars of a mm2 that works never fall with the area, beyond the rounding of whole dies on a wafer."""
    whole = [Die(node_nm=5, width_mm=side, height_mm=side) for side in np.linspace(5.0, 25.0, 41)]
    dollars = [float(bill_of_materials(FACTS, Package(dies=(die,))).dies_usd) for die in whole]
    assert all(later > before for before, later in pairwise(dollars))
    a_mm2 = [usd / die.mm2 for usd, die in zip(dollars, whole, strict=True)]
    assert all(later > before * 0.97 for before, later in zip(a_mm2, a_mm2[4:], strict=False))
    assert a_mm2[-1] > 1.5 * a_mm2[0]


def test_stacks_of_a_kind_of_their_own_rows() -> None:
    """HBM5 has 26 mm2 of interface a stack in its own row, the other generations 18 in that of all HBM.

    A kind of one's own with 200 mm2 a stack on the interposer pays 90 mm2 more of it, at $0.47 each.
    """
    model = load_architecture("llama-3.1-8b")
    designs = {kind: design_chip(FACTS, model, variant="hbm", node="n5", memory=kind) for kind in ("hbm4", "hbm5")}
    for kind, each in (("hbm4", 18.0), ("hbm5", 26.0)):
        design = designs[kind]
        assert design.area.memory_phy * design.dies_per_package == pytest.approx(each * design.package.stacks)
    own = FACTS.with_rows([replace(FACTS.get("hbm", "stack_mm2"), name="hbm4", value=200.0, low=200.0, high=200.0)])
    package = Package(dies=(Die(node_nm=5, width_mm=20.0, height_mm=20.0),), memory="hbm4", memory_bytes=72e9, stacks=2)
    before, after = (bill_of_materials(facts, package).package_usd for facts in (FACTS, own))
    assert after - before == pytest.approx(2 * 90 * 0.47)


@pytest.mark.parametrize(
    ("kind", "why"),
    [("hbf", "cannot hold a cache"), ("dram-3d", "does not stand beside"), ("lpddr6", "beside"), ("gddr7", "beside")],
)
def test_memories_that_are_no_stacks_beside_a_die(kind: str, why: str) -> None:
    """Flash wears out under a cache, and tiles or packages have neither HBM's interface nor its place."""
    with pytest.raises(BadInput, match=why):
        design_chip(FACTS, load_architecture("llama-3.1-8b"), variant="hbm", memory=kind)
    assert check_memory(FACTS, "hbm4") == "hbm4"
    with pytest.raises(MissingFact, match="stack_bytes of nothing"):
        check_memory(FACTS, "nothing")
    design_chip(FACTS, load_architecture("llama-3.1-8b"), variant="hardwired", memory=kind)  # which has no stacks


@pytest.mark.parametrize("variant", ["sram", "hardwired"])
def test_more_cooling_is_never_dearer(variant: str) -> None:
    """What cooling removes bounds the watts of a package, and fewer may be chosen: board ($0.82 a watt) and building
    ($10, with half as much again for the server) are paid for all of them.  While designs took all the watts that
    cooling removes, 0.5 W a mm2 made tokens 35 % cheaper than 1 W: a tightened bound lowered the price.
    """
    model = load_architecture("llama-3.1-8b")
    dollars, designs = [], []
    for cooled in (0.5, 1.0):
        facts = FACTS.edited([f"cooling.w_per_mm2={cooled}"])
        designs.append(design_chip(facts, model, variant=variant, node="n5", concurrency=16, max_chips=16))
        asked = asked_of(facts, Scenario(model=model, isl=1024, osl=1024, batch=16))
        dollars.append(usd_per_million(asked, designs[-1], answer_of(asked, designs[-1])))
    assert dollars[1] <= dollars[0] * 1.03  # the search is one coordinate after the other, in steps
    assert designs[1].power_limit_w < 0.5 * min(designs[1].package_mm2, 2000.0)


def test_designs_of_sram_only_may_draw_a_share_of_their_watts() -> None:
    """Two dies of 2 nm with 2 GiB of SRAM, which to read at once takes more than cooling removes; no model does that.

    A share of what is left beyond idling (0.1 W a mm2) is a choice: idle + share x (limit - idle), board and building
    with it.
    """
    space = design_space(FACTS, nodes=(2,), designs=1000, memories=("none",))
    space = replace(space, dies=(2,), narrowest=("bf16",), edges=(128,), links=(Links(wiring="switch", lanes=32),))
    place, found = np.array([0]), {}
    for block in space.blocks():
        shared = block_facts_of(FACTS, space, block, draw_of(FACTS, space, block))
        found[block.limited] = silicon_of(shared, np.array([1e5]), np.array([2.0**31]), place, place)
    whole = found[1.0]
    idle = 0.1 * float(whole.package_mm2[0])
    assert float(whole.idle_w[0]) == pytest.approx(idle)
    for share, one in found.items():
        assert float(one.limit_w[0]) == pytest.approx(idle + share * (float(whole.limit_w[0]) - idle))
        fewer = float(whole.limit_w[0] - one.limit_w[0])
        assert float(whole.purchase_usd[0] - one.purchase_usd[0]) == pytest.approx(0.82 * fewer)
    assert len(found) > 2


@pytest.mark.parametrize(("chip", "tp", "pp"), [("groq-lp30", 64, 8), ("wse-3", 1, 4), ("h100-sxm", 1, 8)])
@pytest.mark.parametrize("batch", [1, 64])
def test_no_chip_draws_less_than_it_idles_with(chip: str, tp: int, pp: int, batch: int) -> None:
    """A stage of a pipeline waits while a prompt lengthens the others' steps, and its leakage does not stop meanwhile.

    Eight stages of Groq 3 drew 73 W of 80 idling ones, four wafers 7.1 kW of 8, and a chip of 32 stages less than
    three fifths, as the waiting was in the time and not in the joules.
    """
    found = predict(
        model="llama-3.1-70b", chip=chip, chips=tp * pp, tp=tp, pp=pp, batch=batch, precision="fp8", isl=1024, osl=1024
    ).as_dict()
    least = FACTS.value(chip, "idle_w")
    assert found["watts_per_chip"] >= least * (1.0 - 1e-9)
    drawn = found["joules_per_output_token"] * found["output_tokens_per_s"] / (tp * pp)
    assert drawn >= least * (1.0 - 1e-9)
