"""Served rows priced under many trial coefficients of their engine in one call.

A fit asks for the same rows again and again while only the engine's coefficients change.  So the rows are resolved
once, rows of one setup are priced together, and the coefficients are stacks of K trial values (hardware/stacked.py)
that broadcast against the n rows: `serve`, the function behind every prediction, times each kernel once and combines it
K times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flashstill.cost import Load, serve
from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.hardware.stacked import AXES, along
from flashstill.parallel import Layout
from flashstill.plan.predict import stacked
from flashstill.plan.resolve import Resolver
from flashstill.plan.setup import Setup
from flashstill.validation.anchors.serving import Served
from flashstill.validation.comparison import Values
from flashstill.workload import Quantity

QUANTITIES = ("tpot_s", "ttft_s", "output_tokens_per_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Rows of one setup. rows: their places among all rows."""

    setup: Setup
    layout: Layout
    load: Load
    rows: npt.NDArray[np.int64]

    @property
    def engine(self) -> str:
        """The engine that served the rows, with its version where that has coefficients of its own."""
        return self.setup.conditions.software.asked_as

    def price(self, coefficients: Mapping[str, Values]) -> dict[str, Values]:
        """Predicted QUANTITIES, each of shape (K, n); NaN where a row does not fit.

        coefficients: fields of Software -> K trial values each.
        """
        columns = {name: along(values) for name, values in coefficients.items()}
        conditions = self.setup.conditions
        # Software's fields are declared as numbers; arrays broadcast in the same formulas.
        software = replace(conditions.software, **columns)  # type: ignore[arg-type]
        served = serve(
            self.setup.model,
            replace(conditions, software=software),
            self.layout,
            self.load,
            self.setup.speculation,
        )
        count = len(next(iter(columns.values())))

        def table(numbers: Quantity) -> Values:
            """The axes between trials and rows are of length 1."""
            shape = (count, *(1,) * (AXES - 1), len(self.rows))
            return np.broadcast_to(np.asarray(numbers), shape).reshape(count, -1)

        fits = table(served.batch) >= 1.0
        return {name: np.where(fits, table(getattr(served, name)), np.nan) for name in QUANTITIES}


def trials(facts: Facts, rows: Sequence[Served]) -> list[Trial]:
    """The rows grouped by setup; rows that are invalid are left out."""
    resolver = Resolver(facts)
    groups = defaultdict(list)
    for index, row in enumerate(rows):
        try:
            resolved = resolver.resolve(row.case.scenario, row.case.deployment)
        except FlashstillError:
            continue
        groups[id(resolved.setup)].append((index, resolved))
    made = []
    for members in groups.values():
        group = [resolved for _, resolved in members]
        setup = group[0].setup
        layout, load = stacked(setup, group)
        made.append(Trial(setup=setup, layout=layout, load=load, rows=np.array([index for index, _ in members])))
    return made
