"""Groups of chips on a torus: the axes they span, and the links and hops available to a collective among them.

Symbols: a slice of n chips has edges N_1 >= ... >= N_k; a group has g_i members along axis i, s_i positions apart.

    links_i   2 if the group spans a whole closed axis (ring), else 1; divided by s_i, as s_i groups share the links
    hops      sum of g_i s_i / 2 on closed axes, (g_i - 1) s_i on open ones (g_i > 1)
    cross_i   floor(g_i^2 / 4) / g_i / links_i: load of the busiest link in an all-to-all, per byte held by a chip

All axes are used in parallel: with links of w bytes/s one way, an all-gather of V bytes takes
V (n-1)/n / (w sum links_i), and an all-to-all of v bytes per chip v max_i cross_i / w (Austin et al. 2025, chapter 3;
the all-to-all is derived from the load of each link).
An axis closes into a ring if its length is a multiple of the chip's wrap_edge: 4 on TPU v4, v5p and v7, 16 on v5e, v6e.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from flashstill.distinct import distinct_integers

Values = npt.NDArray[np.float64]
Quantity = float | Values


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupLinks:
    """Links of a group of chips on a torus.

    links: one-way links over which a chip receives.  hops: distance to the farthest chip in the ring or line.
    cross: load of the busiest link in an all-to-all, as a multiple of the bytes that one chip holds.
    """

    links: Quantity
    hops: Quantity
    cross: Quantity


def group_links(
    axes: int,
    wrap_edge: int,
    group: Quantity,
    stride: Quantity = 1.0,
    slice_chips: Quantity = 0.0,
    shape: tuple[int, ...] = (),
) -> GroupLinks:
    """Links of groups of `group` chips, ranks `stride` apart, in slices of `slice_chips` or with edge lengths `shape`.

    Arrays broadcast.
    """
    numbers = [np.asarray(value, dtype=np.float64) for value in (group, stride, slice_chips)]
    common = np.broadcast_shapes(*(number.shape for number in numbers))
    spread = [integers(np.broadcast_to(number, common) if number.ndim else number) for number in numbers]
    keys, where = distinct_integers(*spread)
    table = []
    for few, by, least in zip(*(key.tolist() for key in keys), strict=True):
        table.append(one_group(axes, wrap_edge, max(least, few * by), few, by, shape))
    links, hops, cross = np.array(table).T
    return GroupLinks(links=links[where], hops=hops[where], cross=cross[where])


def integers(values: Values) -> npt.NDArray[np.int64]:
    """Whole numbers of at least 1, the nearest."""
    return np.maximum(np.rint(values), 1.0).astype(np.int64)


def one_group(
    axes: int, wrap_edge: int, chips: int, group: int, stride: int, shape: tuple[int, ...] = ()
) -> tuple[float, float, float]:
    """Links, hops and cross of one group in a slice of `chips`, or with edge lengths `shape`."""
    return _one_group(shape or slice_edges(chips, axes, wrap_edge), wrap_edge, group, stride)


@lru_cache(maxsize=4096)
def _one_group(edges: tuple[int, ...], wrap_edge: int, group: int, stride: int) -> tuple[float, float, float]:
    links = hops = cross = 0.0
    for edge, (taken, apart) in zip(edges, placed(edges, group, stride), strict=True):
        if taken == 1:
            continue
        closed = taken * apart == edge and closes(edge, wrap_edge)
        one_way_links = (2.0 if closed else 1.0) / apart
        links += one_way_links
        hops += (taken / 2.0 if closed else taken - 1.0) * apart
        cross = max(cross, taken * taken // 4 / taken / one_way_links)
    return links, hops, cross


def closes(edge: int, wrap_edge: int) -> bool:
    """Whether an axis of length `edge` closes into a ring."""
    return edge >= wrap_edge and edge % wrap_edge == 0


@lru_cache(maxsize=4096)
def slice_edges(chips: int, axes: int, wrap_edge: int) -> tuple[int, ...]:
    """Edge lengths of a slice, longest first: all axes rings if possible; among those, the most cubic shape."""
    shapes = [shape for shape in _factors(chips, axes) if all(closes(edge, wrap_edge) for edge in shape)]
    best = min(shapes or _factors(chips, axes), key=lambda shape: (sum(shape), max(shape)))
    return tuple(sorted(best, reverse=True))


def _factors(chips: int, axes: int) -> list[tuple[int, ...]]:
    if axes == 1:
        return [(chips,)]
    shapes = []
    for edge in range(1, math.isqrt(chips) + 1 if axes == 2 else round(chips ** (1.0 / axes)) + 1):
        if chips % edge == 0:
            shapes += [(edge, *rest) for rest in _factors(chips // edge, axes - 1) if min(rest) >= edge]
    return shapes


def placed(edges: tuple[int, ...], group: int, stride: int) -> list[tuple[int, int]]:
    """(members, distance between them) of a group along each axis; ranks fill the shortest axes first."""
    on_axes = []
    for edge in reversed(edges):
        inner = math.gcd(stride, edge)
        taken = math.gcd(group, edge // inner)
        stride, group = stride // inner, group // taken
        on_axes.append((taken, inner))
    if group > 1:  # a remainder that fits no axis is placed along the longest axis
        on_axes[-1] = (on_axes[-1][0] * group, on_axes[-1][1])
    return on_axes[::-1]
