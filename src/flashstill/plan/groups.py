"""The distinct work of one tensor-parallel group among many layouts and batches.

Work on experts depends on tp, dp, ep, redundant experts and the sequences of a group; all other work on tp and the
sequences alone.  So a step has two short lists: the distinct groups, and what is distinct of them without experts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flashstill.distinct import distinct_integers
from flashstill.parallel import Layout, Shared

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
MOST_KNOWN = 2**16
"""groups whose work is remembered from one chip and placement to the next; that of more takes too much memory"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Distinct groups of chips, each with a number of sequences (or of prompts).

    degrees: distinct (tp, ep, dp, redundant experts), shape (4, layouts).  numbers: distinct numbers of sequences.
    by_degrees, by_number: of each group, its place in either; shape (groups,).
    layout: of all groups, with its `dense` list of distinct (tp, number).  sequences: of that list.
    """

    degrees: Values
    numbers: Values
    by_degrees: Places
    by_number: Places
    layout: Layout
    sequences: Values

    def used(self, at: Places) -> tuple[Groups, Places]:
        """The groups at places `at`, and the place of each element of `at` among them."""
        (few,), place = distinct_integers(at)
        if len(few) == len(self.by_number):
            return self, at
        layout, shared = self.layout, self.layout.shared
        tp, ep, dp, redundant = (np.asarray(row)[few] for row in (layout.tp, layout.ep, layout.dp, layout.redundant))
        some = Layout(
            tp=tp, ep=ep, dp=dp, redundant=redundant, dense=layout.dense,
            at=None if layout.at is None else layout.at[few],
            shared=None if shared is None else replace(shared, places=few),
        )  # fmt: skip
        return replace(self, by_degrees=self.by_degrees[few], by_number=self.by_number[few], layout=some), place

    def alike(self, numbers: Values) -> tuple[Groups, Places]:
        """The groups once each of `self.numbers` sequences is replaced, and the place of each group among them."""
        fewer, back = np.unique(numbers, return_inverse=True)
        return _groups(self.degrees, fewer, self.by_degrees, back[self.by_number])


def distinct(degrees: Values, local: Values) -> tuple[Groups, Places]:
    """The distinct groups of layouts, and the place of each configuration among them, of the shape of `local`.

    degrees: (5, layouts), in the order of `Degrees`.  local: sequences of a group, shape (layouts, batches).
    """
    few, by_layout = np.unique(degrees[[0, 2, 3, 4]], axis=1, return_inverse=True)
    numbers, by_number = np.unique(local, return_inverse=True)
    by_degrees = np.broadcast_to(by_layout.reshape(-1, 1), local.shape)
    groups, at = _groups(few, numbers, by_degrees.reshape(-1), by_number.reshape(-1))
    return groups, at.reshape(local.shape)


def _groups(degrees: Values, numbers: Values, by_degrees: Places, by_number: Places) -> tuple[Groups, Places]:
    (layouts, place), at = distinct_integers(by_degrees, by_number)
    tp, ep, dp, redundant = degrees[:, layouts]
    widths, by_width = np.unique(degrees[0], return_inverse=True)
    (width, sequences), at_dense = distinct_integers(by_width[layouts], place)
    layout = Layout(tp=tp, ep=ep, dp=dp, redundant=redundant, dense=Layout(tp=widths[width]), at=at_dense)
    if len(at_dense) <= MOST_KNOWN:
        layout = replace(layout, shared=Shared(whole=layout, known={}))
    groups = Groups(
        degrees=degrees, numbers=numbers, by_degrees=layouts, by_number=place, layout=layout,
        sequences=numbers[sequences],
    )  # fmt: skip
    return groups, at
