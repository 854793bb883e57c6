"""Distinct values of arrays that hold few of them, and where each occurs: as numpy.unique, without sorting."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.intp]
WIDEST = 2**18
"""range of the integers for which a table is made; others are sorted"""


def distinct_integers(*keys: Integers) -> tuple[tuple[Integers, ...], Places]:
    """Distinct rows of integers at least 0, one array a key, and the row of each element, of the keys' shape.

    keys: arrays of one shape, or single numbers.  Rows come in ascending order, the first key first.
    """
    found: list[Integers] = []
    place: Places = np.zeros((), dtype=np.intp)
    for key in keys:
        if not key.ndim:
            found.append(key.reshape(1))
            continue
        more, where = _one(key)
        together, place = (np.arange(len(more)), where) if not place.ndim else _one(place * len(more) + where)
        first, second = np.divmod(together, len(more))
        found = [*(column[first] if len(column) > 1 else column for column in found), more[second]]
    return tuple(np.broadcast_arrays(*found)), place


def _one(values: Integers) -> tuple[Integers, Places]:
    """Ascending distinct integers, and the place of each value among them."""
    most = int(values.max()) + 1 if values.size else 1
    if most > WIDEST:
        few, place = np.unique(values, return_inverse=True)
        return few, place.reshape(values.shape)
    there = np.zeros(most, dtype=np.bool_)
    there[values] = True
    few = np.flatnonzero(there)
    table = np.empty(most, dtype=np.intp)
    table[few] = np.arange(len(few))
    return few, table[values]
