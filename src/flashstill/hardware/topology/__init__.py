"""Interconnect of chips: a switch or a torus, its links, and the links and hops available to a group of chips."""

from flashstill.hardware.topology.fabric import Topology
from flashstill.hardware.topology.torus import GroupLinks, closes, group_links, slice_edges

__all__ = ["GroupLinks", "Topology", "closes", "group_links", "slice_edges"]
