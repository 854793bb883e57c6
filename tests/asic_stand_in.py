"""Designs for tests of the money: a known chip under another name, with round areas, so that no design is derived."""

from __future__ import annotations

from dataclasses import replace

from flashstill.asic.alternative import Alternative, purchase_of, rent_of
from flashstill.asic.design import Area, ChipDesign
from flashstill.asic.point import priced
from flashstill.asic.terms import Decision, Serving
from flashstill.economics.bill_of_materials import Die, Package
from flashstill.facts import Facts
from flashstill.plan.space import Configuration

COPIED = {"sram": "groq-lp30", "hbm": "h200-sxm", "hardwired": "groq-lp30"}
_PRICES = ("usd_per_hour", "usd_purchase")


def stand_in(variant: str, node_nm: int = 5, chips: int = 1) -> ChipDesign:
    """A design of one die of 20 x 30 mm a package; with HBM, six stacks."""
    has_hbm = variant == "hbm"
    die = Die(node_nm=node_nm, width_mm=20.0, height_mm=30.0)
    package = Package(dies=(die,))
    if has_hbm:
        package = replace(package, memory="hbm3e", memory_bytes=141e9, stacks=6)
    return ChipDesign(
        name="asic", variant=variant, node_nm=node_nm, model="llama-3.1-8b", parameters=8.03e9, precision="bf16",
        kv_precision="bf16",
        area=Area(sram=300.0, multipliers=100.0, wired_weights=0.0, memory_phy=50.0, links=30.0, die_to_die=0.0,
                  host=20.0, other=100.0),
        width_mm=20.0, height_mm=30.0, package=package, chips=chips, tp=min(chips, 32), pp=max(chips // 32, 1),
        flops_per_s={"bf16": 1e15}, sram_bytes=5e8, sram_bytes_per_s=1e14, memory=package.memory,
        memory_bytes=package.memory_bytes, memory_bytes_per_s=4.8e12 if has_hbm else 0.0,
        link_bytes_per_s=1e11, power_limit_w=500.0, idle_w=80.0, operation_floor_s=None, concurrency=16, context=2048,
    )  # fmt: skip


def with_stand_in(facts: Facts, design: ChipDesign) -> Facts:
    """The facts with the design's stand-in among the machines."""
    copied = COPIED[design.variant]
    rows = [replace(row, name=design.name) for row in facts.of(copied) if row.quantity not in _PRICES]
    machine = replace(facts.machines[copied], name=design.name)
    renewed = facts.with_rows(rows)
    return Facts(rows=renewed.rows, machines={**facts.machines, design.name: machine}, edits=facts.edits)


def alternative(
    facts: Facts, chip: str = "h100-sxm", basis: str = "rented", tokens_per_s: float = 3000.0
) -> Alternative:
    """A chip at a round rate, rented or owned."""
    row = rent_of(facts, chip) if basis == "rented" else purchase_of(facts, chip)
    assert row is not None
    point = Configuration(
        chip=chip, chips=1, tp=1, pp=1, ep=1, dp=1, batch=64, precision="published", kv_precision="bf16",
        weights_in="memory", kv_in="memory", speculated_tokens=0, draft="", engine="vllm", tpot_s=0.02, ttft_s=0.2,
        output_tokens_per_s=tokens_per_s, tokens_per_s_per_chip=tokens_per_s, joules_per_output_token=0.2,
        usd_per_million_output_tokens=None, watts_per_chip=600.0,
    )  # fmt: skip
    return Alternative(basis=basis, row=row, configuration=point, usd_per_million=1.0)


def decision(
    facts: Facts, variant: str, tokens_per_s: float = 6000.0, chips: int = 1, versus: Alternative | None = None
) -> Decision:
    """A stand-in at a round rate against an alternative."""
    design, versus = stand_in(variant, chips=chips), versus or alternative(facts)
    return Decision(
        facts=priced(with_stand_in(facts, design), design, versus),
        design=design,
        serving=Serving(tokens_per_s=tokens_per_s, watts=400.0),
        alternative=versus,
    )
