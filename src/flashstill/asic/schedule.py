"""When chips serve, and for how long, in years from the decision.

    tape-out   after the design
    lead       tape-out + fab + bring-up + expected respins x years of each;  until then the alternative serves
    service    from the lead, over one life of the hardware
    model      replaced after its life by a successor

A chip with its weights in SRAM or HBM serves the successors too, each with `successor` of the tokens/s of the model
before.  That is its residual value when its model dies: what it still saves; nothing is sold.  A hard-wired chip dies
with its model: the next one needs new masks, new chips, and waits `rewire` years for them, served by the alternative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.asic.design import HARDWIRED, ChipDesign
from flashstill.asic.nre import owner_of
from flashstill.economics.bill_of_materials import Rows
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Years from the decision. chip_years: until the chips are replaced.  served_ratio: share of the time in which a
    model's chips are there.  successor_ratio: tokens/s of a model, of the one before it."""

    tape_out_years: Quantity
    lead_years: Quantity
    service_years: Quantity
    model_years: Quantity
    chip_years: Quantity
    served_ratio: Quantity
    successor_ratio: Quantity


def schedule_of(design: ChipDesign, rows: Rows) -> Schedule:
    """The schedule of a design."""
    kind = owner_of(design)
    tape_out = rows.value(kind, "design_years")
    respins = rows.value("asic", "respins") * rows.value("asic", "respin_years")
    service, model = rows.value("server", "lifetime_years"), rows.value("model", "life_years")
    wired = design.variant == HARDWIRED
    rewire = rows.value(kind, "rewire_years") if wired else 0.0
    return Schedule(
        tape_out_years=tape_out,
        lead_years=tape_out + rows.value("asic", "fab_years") + rows.value("asic", "bring_up_years") + respins,
        service_years=service,
        model_years=model,
        chip_years=np.minimum(model, service) if wired else service,
        served_ratio=np.maximum(1.0 - rewire / model, 0.0),
        successor_ratio=1.0 if wired else rows.value(kind, "successor_ratio"),
    )
