"""Carbon and water of energy at the wall, by the grid that it comes from.

Of operation only: what making chips, servers and buildings emits is not in it, nor the water of power plants.
"""

from __future__ import annotations

from flashstill.errors import MissingFact, unknown
from flashstill.facts import Fact, Facts

OWNER = "grid-"
"""beginning of the name that owns the rows of a grid"""
GRID = "us"


def grids(facts: Facts) -> tuple[str, ...]:
    """Grids with a row."""
    return tuple(sorted({name.removeprefix(OWNER) for name, _ in facts.rows if name.startswith(OWNER)}))


def carbon_row(facts: Facts, grid: str) -> Fact:
    """Grams of CO2 per kWh of a grid; MissingFact for an unknown one."""
    row = facts.find(OWNER + grid.lower(), "carbon_g_per_kwh")
    if row is None:
        raise MissingFact(unknown("grid", grid, grids(facts)))
    return row


def water_row(facts: Facts) -> Fact:
    """Litres that a data centre evaporates per kWh."""
    return facts.get("facility", "water_l_per_kwh")
