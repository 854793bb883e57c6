"""The fast links of a chip: through a switch, along the axes of a torus, or none at all.

`link_bytes_per_s` is a chip's bandwidth in one direction over all its links together.  A torus has two links per axis
and chip, so one link carries  w = link_bytes_per_s / (2 axes)  one way (Austin et al. 2025, chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from flashstill.distinct import distinct_integers
from flashstill.hardware.present import either
from flashstill.hardware.topology.torus import (
    GroupLinks,
    Quantity,
    closes,
    group_links,
    integers,
    one_group,
    slice_edges,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """How the chips of a fast domain are connected.

    link_bytes_per_s: bandwidth of all links of a chip, one direction; 0 for a chip without links.
    axes: number of torus axes; 0 for a switch.  peers: other chips to which links lead directly where there is no
    switch, so that each pair shares link_bytes_per_s / peers; else 0.  wrap_edge: shortest axis length that closes into
    a ring.  shape: edge lengths of the slice, longest first; empty to use `slice_edges`.
    """

    link_bytes_per_s: float
    link_joules_per_byte: float
    axes: int = 0
    peers: int = 0
    wrap_edge: int = 1
    shape: tuple[int, ...] = ()

    @property
    def one_link_bytes_per_s(self) -> float:
        """Bandwidth of one torus link in one direction."""
        return self.link_bytes_per_s / (2.0 * self.axes)

    def switched_bytes_per_s(self, members: Quantity) -> Quantity:
        """Bandwidth of a chip towards a group of `members` chips: of all links through a switch, else of those that
        lead directly to the group's other chips."""
        rate = self.link_bytes_per_s

        def direct() -> Quantity:
            reached: Quantity = rate * np.clip((np.asarray(members) - 1.0) / self.peers, 1.0 / self.peers, 1.0)
            return reached

        return either(self.peers, direct, lambda: rate)

    def group(self, members: Quantity, stride: Quantity, slice_chips: Quantity) -> GroupLinks:
        """Links and hops of groups of `members` chips of a torus, ranks `stride` apart, in a slice of `slice_chips`."""
        if np.ndim(self.axes) == 0 and np.ndim(self.wrap_edge) == 0:
            return group_links(self.axes, self.wrap_edge, members, stride, slice_chips, self.shape)
        return _of_each_kind(self.axes, self.wrap_edge, members, stride, slice_chips)

    def path(self, chips: int, start: tuple[int, ...], end: tuple[int, ...]) -> tuple[int, int]:
        """(hops, links usable in parallel) between two chips of a slice of `chips`.

        start, end: coordinates in the order of `slice_edges`.  Bytes can take one link per axis along which the two
        chips differ.
        """
        hops, links = 0, 0
        for edge, first, last in zip(slice_edges(chips, self.axes, self.wrap_edge), start, end, strict=True):
            direct = abs(first - last)
            hops += min(direct, edge - direct) if closes(edge, self.wrap_edge) else direct
            links += direct > 0
        return hops, links


def _of_each_kind(
    axes: Quantity, wrap_edge: Quantity, members: Quantity, stride: Quantity, slice_chips: Quantity
) -> GroupLinks:
    """Links of groups where axes and wrap-around differ by chip, as in a stack: one look-up for each kind of torus."""
    numbers = [np.asarray(one, dtype=np.float64) for one in (axes, wrap_edge, members, stride, slice_chips)]
    return _of_kinds(*((one.shape, one.tobytes()) for one in numbers))


@lru_cache(maxsize=16)
def _of_kinds(*numbers: tuple[tuple[int, ...], bytes]) -> GroupLinks:
    """As `_of_each_kind`, of shapes and bytes of the arrays: the exchanges of a step ask for the same groups again."""
    axes, wrap_edge, members, stride, slice_chips = (np.frombuffer(one).reshape(shape) for shape, one in numbers)
    shape = np.broadcast_shapes(*(shape for shape, _ in numbers))
    whole = np.maximum(slice_chips, members * stride)
    keys, where = distinct_integers(
        *(np.broadcast_to(integers(one), shape) for one in (wrap_edge, whole, stride, members)),
        np.broadcast_to(axes.astype(np.int64), shape),
    )
    rows = zip(*(key.tolist() for key in keys), strict=True)
    table = [one_group(axes, edge, chips, few, by) if axes else (1.0, 1.0, 1.0) for edge, chips, by, few, axes in rows]
    links, hops, cross = np.array(table).T
    return GroupLinks(links=links[where], hops=hops[where], cross=cross[where])
