"""HiGHS, through SciPy: linear programmes with their dual values, and programmes with whole numbers.

Small programmes are solved by the dual simplex method, large ones by the interior-point method with crossover, which
ends at a vertex too; dual values are derivatives of the least cost by each right-hand side.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.errors import FlashstillError

SMALL, LARGE = 2_000, 60_000
"""variables up to which presolving takes longer than it saves, and from which on the interior-point method is faster"""
OPTIMAL, STOPPED, INFEASIBLE, UNBOUNDED, TROUBLE = range(5)


class SolverTrouble(FlashstillError):
    """HiGHS ended without an answer, for numerical reasons."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Constraints as triplets: row, column and value of each entry, and the sides of each row.

    at_most: rows of A x <= side; the others are equations.
    """

    row: Any
    column: Any
    value: Values
    side: Values
    at_most: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Solved:
    """A solution: x, the least cost and, of linear programmes, the dual value of each row.

    bound: below which no solution can cost; the cost itself of a linear programme.  proved: whether HiGHS closed the
    gap.
    """

    x: Values
    cost: float
    bound: float
    duals: Values
    proved: bool


def solve_linear(cost: Values, rows: Rows, lower: Values, upper: Values, *, with_ties: bool = True) -> Solved | None:
    """The least cost of a linear programme; None if no point keeps the rows. SolverTrouble where HiGHS fails.

    with_ties: whether costs that only break ties must count. They are below the tolerance of a programme that is not
    presolved, which is faster for small ones.
    """
    from scipy.optimize import OptimizeWarning, linprog

    inside, matrix = rows.at_most, _matrix(rows, len(cost))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        found = linprog(
            cost, A_ub=matrix[inside], b_ub=rows.side[inside], A_eq=matrix[~inside], b_eq=rows.side[~inside],
            bounds=np.stack([lower, upper], axis=1), method="highs-ipm" if len(cost) > LARGE else "highs-ds",
            options={"presolve": with_ties or len(cost) > SMALL},
        )  # fmt: skip
    if found.status == INFEASIBLE:
        return None
    if found.status != OPTIMAL:
        raise SolverTrouble(f"HiGHS did not solve the plan: {' '.join(str(found.message).split())}")
    duals = np.zeros(len(rows.side))
    duals[inside], duals[~inside] = found.ineqlin.marginals, found.eqlin.marginals
    return Solved(x=found.x, cost=float(found.fun), bound=float(found.fun), duals=duals, proved=True)


def solve_whole(
    cost: Values, rows: Rows, lower: Values, upper: Values, whole: Any, gap: float, seconds: float
) -> Solved | None:
    """The least cost where the variables of `whole` are whole numbers, within `gap` or after `seconds`; None if there
    is none yet. No dual values."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    least = np.where(rows.at_most, -np.inf, rows.side)
    found = milp(
        cost, integrality=whole.astype(np.int64), bounds=Bounds(lower, upper),
        constraints=LinearConstraint(_matrix(rows, len(cost)), least, rows.side),
        options={"mip_rel_gap": gap, "time_limit": seconds},
    )  # fmt: skip
    if found.x is None:
        return None
    bound = float(found.mip_dual_bound) if found.mip_dual_bound is not None else -np.inf
    return Solved(x=found.x, cost=float(found.fun), bound=bound, duals=np.zeros(0), proved=found.status == OPTIMAL)


def _matrix(rows: Rows, columns: int) -> Any:
    from scipy.sparse import csr_array

    return csr_array((rows.value, (rows.row, rows.column)), shape=(len(rows.side), columns))
