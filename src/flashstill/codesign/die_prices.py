"""Dollars of a die that works, by its width and the share of it that can be repaired: a table, read in between.

Dies of a wafer are counted exactly at each width (economics/wafers.py); between widths their dollars are interpolated.
"""

from __future__ import annotations

import math

import numpy as np

from flashstill.asic.area import rules_of
from flashstill.codesign.designs import Values
from flashstill.economics.bill_of_materials import Die, sold_ratio, usd_of_wafer
from flashstill.economics.wafers import dies_per_wafer, wafer_of
from flashstill.facts import Facts

SHARES = 32
"""steps of the share of a die that can be repaired"""
_NARROWEST_MM = 2.0
"""of a die: smaller ones have no room for a host interface, and are priced as one of this width"""


def dies_usd(facts: Facts, node_nm: int, step_mm: float) -> Values:
    """Dollars of a die, by (width in steps, repairable share in 1/32)."""
    rules, wafer = rules_of(facts, node_nm), wafer_of(facts)
    needed, spare = facts.value("spares", "needed_units"), facts.value("spares", "spare_units")
    slim = rules.height_mm / rules.width_mm
    widths = step_mm * np.arange(math.floor(rules.width_mm / step_mm + 1e-9) + 1)
    first = min(math.ceil(_NARROWEST_MM / step_mm), len(widths) - 1)
    counts = [dies_per_wafer(float(width), float(width * slim), wafer) for width in widths[first:]]
    table = np.full((len(widths), SHARES + 1), np.inf)
    for share in range(SHARES + 1):
        square = Die(
            node_nm=node_nm,
            width_mm=1.0,
            height_mm=slim,
            units=int(needed + spare),
            needed=int(needed),
            units_ratio=share / SHARES,
        )
        sold = sold_ratio(facts, facts, square, np.asarray(widths[first:] ** 2, dtype=np.float64))
        table[first:, share] = usd_of_wafer(facts, node_nm, np.array(counts), sold)
    table[:first] = table[first]
    return table


def between(table: Values, row: Values, column: Values) -> Values:
    """A table of two axes at places between its points, by interpolation."""
    first, second = (np.clip(place, 0.0, size - 1.0) for place, size in zip((row, column), table.shape, strict=True))
    low = np.minimum(first.astype(np.intp), table.shape[0] - 2), np.minimum(second.astype(np.intp), table.shape[1] - 2)
    more = first - low[0], second - low[1]
    lower = table[low] * (1.0 - more[1]) + table[low[0], low[1] + 1] * more[1]
    upper = table[low[0] + 1, low[1]] * (1.0 - more[1]) + table[low[0] + 1, low[1] + 1] * more[1]
    found: Values = lower * (1.0 - more[0]) + upper * more[0]
    return found
