"""The Pareto front over any number of objectives, all minimised.

A row is dominated if another row is no larger in any column and smaller in at least one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def non_dominated(costs: npt.ArrayLike) -> list[int]:
    """Indices of non-dominated rows; of equal rows only the first.

    costs: (rows, objectives).  In each round the remaining row with the smallest sum of ranks is non-dominated: it
    joins the front and the rows it dominates are removed, most of them within a few rounds.
    """
    rows = np.asarray(costs, dtype=np.float64)
    if not len(rows):
        return []
    order = np.lexsort((np.arange(len(rows)), *rows.T[::-1]))
    left = order[np.argsort(_ranks(rows)[order], kind="stable")]
    columns = [np.ascontiguousarray(column[left]) for column in rows.T]
    front: list[int] = []
    while len(left):
        front.append(int(left[0]))
        better = columns[0] < columns[0][0]
        for column in columns[1:]:
            better |= column < column[0]
        left, columns = left[better], [column[better] for column in columns]
    return front


def on_front(costs: npt.ArrayLike) -> list[bool]:
    """For each row, whether it is non-dominated; equal rows get the same result."""
    rows = np.asarray(costs, dtype=np.float64)
    front = {tuple(rows[index]) for index in non_dominated(rows)}
    return [tuple(row) in front for row in rows]


def _ranks(rows: Values) -> Values:
    """The dense rank of each row, summed over columns: a row that dominates another has the smaller sum."""
    total = np.zeros(len(rows))
    for column in rows.T:
        total += np.unique(column, return_inverse=True)[1]
    return total
