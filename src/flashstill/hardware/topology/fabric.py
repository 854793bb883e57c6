"""The fast links of a chip: through a switch, along the axes of a torus, or none at all.

`link_bytes_per_s` is a chip's bandwidth in one direction over all its links together.  A torus has two links per axis
and chip, so one link carries  w = link_bytes_per_s / (2 axes)  one way (Austin et al. 2025, chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.hardware.present import present
from flashstill.hardware.topology.torus import GroupLinks, Quantity, closes, group_links, slice_edges


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
        if not present(self.peers):
            return self.link_bytes_per_s
        return self.link_bytes_per_s * np.clip((np.asarray(members) - 1.0) / self.peers, 1.0 / self.peers, 1.0)

    def group(self, members: Quantity, stride: Quantity, slice_chips: Quantity) -> GroupLinks:
        """Links and hops of groups of `members` chips of a torus, ranks `stride` apart, in a slice of `slice_chips`."""
        return group_links(self.axes, self.wrap_edge, members, stride, slice_chips, self.shape)

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
