"""How chips are joined: what a group of them meets on a torus."""

from flashstill.hardware.topology.torus import slice_edges, ways

__all__ = ["slice_edges", "ways"]
