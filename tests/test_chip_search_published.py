"""Without being told, the search finds what LLMCompass proposes (Zhang et al. 2024, ISCA, arXiv 2312.03134, table IV).

GPT-3 on up to eight chips of 7 nm.  Memories: that of a GA100 (80 GB of HBM2E at 2 TB/s, 560 dollars), and 512 GB of
DRAM at 1 TB/s over 256 PCIe 5.0 channels, of which about 400 fit around 800 mm2 (154 dollars).  Costs are the paper's:
dies and memory, nothing else.  The paper: half the multipliers with the same memory keep 0.95 of the performance on
42 % less area (1.06 times the performance per cost); the DRAM, with four times larger arrays, gives 3.41 times.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.codesign.described import described
from flashstill.codesign.design_space import design_space
from flashstill.codesign.future import Share
from flashstill.codesign.hunt import Hunt, least
from flashstill.codesign.loads import load_of
from flashstill.codesign.screened import Wanted, screen
from flashstill.economics.tco import terms_of
from flashstill.facts import Facts, load

GA100_MACS, GA100_SRAM = 2.0**17, 2.0**26
FREE = (
    "package.usd_test", "cowos.usd_per_mm2", "organic.usd_per_mm2", "board.usd_per_w", "board.usd_host",
    "building.usd_per_w", "network.capital_share_ratio", "facility.usd_per_kwh", "copper.usd_per_lane",
    "switch.usd_per_lane",
)  # fmt: skip
"""what the paper's cost leaves out"""
EDITS = (
    *(f"{name}=0" for name in FREE), "cowos.bond_yield_ratio=1", "organic.bond_yield_ratio=1",
    "asic.unit_price_ratio=1", f"hbm2e.usd_per_byte={560 / 80e9}",
)  # fmt: skip


def facts_of_the_paper() -> Facts:
    """The rows with the paper's prices, and its DRAM over PCIe as one stack."""
    facts = load().edited(EDITS)
    model = facts.get("gddr7", "stack_bytes")
    rows = {
        "stack_bytes": (512e9, "B"),
        "stack_bytes_per_s": (1e12, "B/s"),
        "usd_per_byte": (154 / 512e9, "USD/B"),
        "phy_mm2": (100.0, "mm2"),
        "stack_edge_mm": (60.0, "mm"),  # of the 63 mm of its two long sides; the paper uses all four
    }
    return facts.with_rows(
        replace(model, name="ddr5", quantity=quantity, value=value, low=value, high=value, unit=unit)
        for quantity, (value, unit) in rows.items()
    )


def hunt_of(memories: tuple[str, ...], isl: int, osl: int, most: int) -> Hunt:
    """All designs of the paper's question: 2^14 to 2^20 multipliers, five stacks or one."""
    facts = facts_of_the_paper()
    space = design_space(
        facts, nodes=(7,), designs=7 * 3 * len(memories), memories=memories, dies=(1,), narrowest=("bf16",),
        edges=(16,), stacks=(5,), lanes=(48,), wirings=("switch",), macs=(2.0**14, 2.0**20),
        sram_bytes=(2.0**24, GA100_SRAM * 4),
    )  # fmt: skip
    macs, sram = 2.0 ** np.arange(14, 21), np.array([2.0**24, 2.0**25, GA100_SRAM, 2.0**27])
    one = tuple(replace(each, stacks=1) if each.kind == "ddr5" else each for each in space.memories)
    space = replace(space, macs=macs, sram_bytes=sram, memories=tuple(dict.fromkeys(one)))
    loads = (load_of(Share(model=load_architecture("gpt-3"), weight=1.0, isl=isl, osl=osl), 8, most),)
    wanted, terms = (Wanted(loads=((0, 1.0),), volume=1e9, objective="usd"),), terms_of(facts)
    screened = screen(facts, space, loads, wanted, terms)
    return Hunt(facts=facts, space=space, loads=loads, wanted=wanted, terms=terms, screened=screened)


def ga100(hunt: Hunt) -> int:
    """The design with the GA100's multipliers, SRAM and memory."""
    space = hunt.space
    memory = next(place for place, one in enumerate(space.memories) if one.kind == "hbm2e")
    at = (list(space.macs).index(GA100_MACS), list(space.sram_bytes).index(GA100_SRAM), memory, 0)
    shape = (len(space.macs), len(space.sram_bytes), len(space.memories), 1)
    return int(np.ravel_multi_index(at, shape))


@pytest.mark.slow
def test_less_compute_with_the_same_memory_is_cheaper_per_token_of_decode() -> None:
    hunt = hunt_of(("hbm2e",), 256, 1024, 16)
    found, like = least(hunt, [0]), ga100(hunt)
    cost = float(hunt.cost(0, np.array([like]))[0])
    best = described(hunt, found.design)
    assert best["macs"] <= GA100_MACS / 2.0
    assert 1.03 < cost / found.cost < 1.5


@pytest.mark.slow
def test_cheap_memory_of_large_capacity_gives_about_three_times_the_tokens_per_dollar() -> None:
    hunt = hunt_of(("hbm2e", "ddr5"), 1024, 1024, 1024)
    found, like = least(hunt, [0]), ga100(hunt)
    cost = float(hunt.cost(0, np.array([like]))[0])
    best = described(hunt, found.design)
    assert best["memory"] == "1 x ddr5"
    assert 2.0 < cost / found.cost < 5.0
