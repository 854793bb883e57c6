"""What no other configuration beats."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def non_dominated(costs: Values) -> list[int]:
    """Rows that no other row beats or equals in every column while beating it in one; of equal rows the first.

    costs: (rows, objectives), less is better.  The row with the least sum of ranks cannot be beaten by what is left:
    it joins the front and takes out what it beats, which soon is almost everything.
    """
    order = np.lexsort((np.arange(len(costs)), *costs.T[::-1]))
    left = order[np.argsort(_ranks(costs)[order], kind="stable")]
    columns = [np.ascontiguousarray(column[left]) for column in costs.T]
    front: list[int] = []
    while len(left):
        front.append(int(left[0]))
        better = columns[0] < columns[0][0]
        for column in columns[1:]:
            better |= column < column[0]
        left, columns = left[better], [column[better] for column in columns]
    return front


def _ranks(costs: Values) -> Values:
    """The sum over columns of how many distinct values lie below, which a row that beats another has less of."""
    total = np.zeros(len(costs))
    for column in costs.T:
        total += np.unique(column, return_inverse=True)[1]
    return total
