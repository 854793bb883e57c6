"""How chips are joined: a switch or a torus, its links, and what a group of chips meets on the way."""

from flashstill.hardware.topology.fabric import Topology
from flashstill.hardware.topology.torus import GroupLinks, closes, group_links, slice_edges

__all__ = ["GroupLinks", "Topology", "closes", "group_links", "slice_edges"]
