"""Bars of elasticities: per cent of a cost for one per cent less and more of each number of a chip."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flashstill.report.tornado import Driver, tornado

OBJECTIVES = {"usd": "dollars", "joules": "joules", "seconds": "seconds"}
LEAST = 5e-4
"""elasticities below are neither drawn nor named as columns"""


def elasticity_tornado(found: Mapping[str, float], jumping: Collection[str], name: str) -> tuple[str, str]:
    """The bars of elasticities of a cost, and a sentence on what is left out of them ("" if nothing is).

    jumping: numbers with which another configuration comes into reach: beyond 1 in size, such a figure is no slope and
    would squeeze the others.
    """
    left_out = [number for number, value in found.items() if number in jumping and abs(value) > 1.0]
    drivers = [
        Driver(name=number, low=-value, high=value)
        for number, value in found.items()
        if abs(value) >= LEAST and number not in left_out
    ]
    title = f"{name}: per cent for one per cent of a number"
    chart = tornado(drivers, 0.0, f"per cent of {name}", title, _per_cent, ends=("with 1 % less", "with 1 % more"))
    jumps = ", ".join(f"{number} ({found[number]:+.3g} %)" for number in left_out)
    return chart, f"Not drawn, as another configuration comes into reach: {jumps}." if left_out else ""


def _per_cent(value: float) -> str:
    return f"{value:+.3g} %" if value else "0"
