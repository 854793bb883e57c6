"""The fast links of a chip: through a switch, along the axes of a torus, or none at all.

`link_bytes_per_s` is what a chip sends in one direction over all of its links together.  On a torus it has two links an
axis, so that one of them carries  w = link_bytes_per_s / (2 axes)  one way (Austin et al. 2025, chapter 2).
"""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.hardware.topology.torus import GroupLinks, Quantity, closes, group_links, slice_edges


@dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """How the chips of a fast domain are joined.

    link_bytes_per_s: of all links of a chip, one direction; 0 for a chip that stands alone.
    axes: of a torus; 0 for a switch.  wrap_edge: shortest axis that closes into a ring.
    shape: edges of the slice, longest first; empty for those of `slice_edges`.
    """

    link_bytes_per_s: float
    link_joules_per_byte: float
    axes: int = 0
    wrap_edge: int = 1
    shape: tuple[int, ...] = ()

    @property
    def one_link_bytes_per_s(self) -> float:
        """One link of a torus in one direction."""
        return self.link_bytes_per_s / (2.0 * self.axes)

    def group(self, members: Quantity, stride: Quantity, slice_chips: Quantity) -> GroupLinks:
        """What groups of `members` chips of a torus, `stride` apart in a slice of `slice_chips`, have to work with."""
        return group_links(self.axes, self.wrap_edge, members, stride, slice_chips, self.shape)

    def path(self, chips: int, start: tuple[int, ...], end: tuple[int, ...]) -> tuple[int, int]:
        """(hops, links that carry bytes at the same time) from one chip of a slice of `chips` to another.

        Coordinates are in the order of `slice_edges`.  As many links carry the bytes as leave both ends: one for each
        axis along which the two differ, unless an open edge is in the way.
        """
        hops, links = 0, 0
        for edge, first, last in zip(slice_edges(chips, self.axes, self.wrap_edge), start, end, strict=True):
            direct = abs(first - last)
            hops += min(direct, edge - direct) if closes(edge, self.wrap_edge) else direct
            links += direct > 0
        return hops, links
