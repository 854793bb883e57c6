"""Derive a chip from a model (`design_chip`), and make it a chip of the fact rows (`with_design`)."""

from __future__ import annotations

from flashstill.arch import Architecture
from flashstill.asic.design import ChipDesign
from flashstill.facts import Facts


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
    memory: str = "hbm3e",
    max_chips: int = 4096,
    name: str = "asic",
) -> ChipDesign:
    """The cheapest chip of a variant that serves the load; InfeasiblePlan with counted reasons if none does.

    Cheapest: dollars of the packages of a machine per output token a second that the cost arm predicts for it.
    """
    raise NotImplementedError


def with_design(facts: Facts, design: ChipDesign) -> Facts:
    """The facts with the design as a further chip: `plan.predict` and `plan.search` take it by `design.name`."""
    raise NotImplementedError
