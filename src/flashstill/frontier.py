"""The Pareto front over any number of objectives, all minimised.

A row is dominated if another row is no larger in any column and smaller in at least one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
SAMPLE, ROUNDS = 256, 24
"""rows of which those are chosen that thin a table, and how many of them at the most"""


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


def thinned(costs: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Ascending indices of some rows, among which is the front as `non_dominated` has it; soon found, and often few.

    Of a sample, the row that beats the most others is taken until few are beaten; what it beats of all rows is dropped.
    """
    rows = np.asarray(costs, dtype=np.float64)
    left = np.arange(len(rows))
    if len(rows) <= SAMPLE:
        return left
    sample = rows[:: -(-len(rows) // SAMPLE)]
    beaten = np.ones((len(sample), len(sample)), dtype=np.bool_)
    for column in sample.T:
        beaten &= column[:, None] <= column
    columns, firsts = [np.ascontiguousarray(column) for column in rows.T], []
    for _ in range(ROUNDS):
        counts = np.count_nonzero(beaten, axis=1)
        best = int(counts.argmax())
        if counts[best] < 2:
            break
        better = columns[0] < sample[best, 0]
        same = np.flatnonzero(columns[0] == sample[best, 0])
        for column, figure in zip(columns[1:], sample[best, 1:], strict=True):
            better |= column < figure
            same = same[column[same] == figure]
        firsts.append(left[same[0]])  # of equal rows the first stays
        left, columns = left[better], [column[better] for column in columns]
        beaten[:, beaten[best]] = False
    return np.sort(np.concatenate([np.array(firsts, dtype=np.intp), left]))


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
