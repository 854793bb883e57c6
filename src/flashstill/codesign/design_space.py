"""How a space of chips is laid: about so many designs, with fewer values of the minor axes where that is few."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from flashstill.codesign.designs import (
    ALONE,
    FORMATS,
    ON_SRAM,
    OPTICS,
    SWITCH,
    TORUS_3,
    WIRINGS,
    DesignSpace,
    Links,
    known_memories,
    memories_of,
)
from flashstill.errors import BadInput, unknown
from flashstill.facts import Facts

LARGEST, LEAST_POINTS = 20_000_000, 2
"""designs of a space, and values of its two finest axes"""
ENOUGH = 12
"""values of multipliers times values of SRAM, below which other axes are thinned"""


def design_space(
    facts: Facts,
    *,
    nodes: Sequence[int],
    designs: int = 1_000_000,
    memories: Sequence[str] | None = None,
    dies: Sequence[int] | None = None,
    narrowest: Sequence[str] = FORMATS,
    edges: Sequence[int] | None = None,
    stacks: Sequence[int] | None = None,
    lanes: Sequence[int] | None = None,
    wirings: Sequence[str] = (TORUS_3, SWITCH, OPTICS),
    macs: tuple[float, float] = (2.0**13, 2.0**22),
    sram_bytes: tuple[float, float] = (2.0**23, 2.0**31),
    least: int = 1,
) -> DesignSpace:
    """About `designs` designs: multipliers and SRAM are as finely divided as that allows.

    memories: kinds, with "none" for chips of SRAM only; None for all with rows, and none.  macs, sram_bytes: least and
    most of a package.  least: fewest values of both together.  dies, edges, stacks, lanes: None for values that few
    designs have fewer of.
    BadInput for an unknown word, or for a number of designs that leaves no choice.
    """
    possible = (*known_memories(facts), ON_SRAM)
    memories = possible if memories is None else memories
    for what, words, known in (
        ("kind of memory", memories, possible),
        ("format", narrowest, FORMATS),
        ("wiring", wirings, WIRINGS),
    ):
        for word in words:
            if word not in known:
                raise BadInput(unknown(what, word, known))
    if not 1 <= designs <= LARGEST:
        raise BadInput(f"designs must lie between 1 and {LARGEST}, not {designs}")
    given = {"dies": dies, "edges": edges, "stacks": stacks, "lanes": lanes}
    fixed = {name: tuple(values) for name, values in given.items() if values is not None}
    for axes in _thinner():
        axes.update(fixed)
        choices = memories_of(facts, [kind for kind in memories if kind != ON_SRAM], axes["stacks"])
        links = tuple(Links(wiring=wiring, lanes=count) for wiring in wirings if wiring != ALONE
                      for count in axes["lanes"])  # fmt: skip
        links = (Links(wiring=ALONE, lanes=0), *links) if ALONE in wirings or not links else links
        others = len(nodes) * len(axes["dies"]) * len(narrowest) * len(axes["edges"]) * len(links)
        others *= len(choices) + (ON_SRAM in memories)
        if others * ENOUGH <= designs:
            break
    if not others:
        raise BadInput(
            f"{', '.join(memories) or 'nothing'} leaves no memory that can hold a cache; add a kind beside it, or none"
            " for SRAM only"
        )
    points = max(designs / others, least)
    fine = max(round(2.0 * math.sqrt(points)), LEAST_POINTS)
    coarse = max(math.ceil(points / fine), LEAST_POINTS)
    return DesignSpace(
        nodes=tuple(nodes),
        dies=axes["dies"],
        narrowest=tuple(narrowest),
        edges=axes["edges"],
        macs=np.geomspace(*macs, fine),
        sram_bytes=np.geomspace(*sram_bytes, coarse),
        memories=choices,
        links=links,
        on_sram=ON_SRAM in memories,
        ladders=next(_thinner()) | fixed,
    )


def _thinner() -> Iterator[dict[str, tuple[int, ...]]]:
    """Values of the axes of which there are few, and then with fewer of one axis after another."""
    axes = {"dies": (1, 2, 4), "edges": (64, 128, 256), "stacks": (2, 4, 6, 8, 12), "lanes": (16, 32, 64, 128)}
    yield dict(axes)
    for name, fewer in (("edges", (128,)), ("lanes", (32, 128)), ("stacks", (2, 4, 8)), ("dies", (1, 2))):
        axes[name] = fewer
        yield dict(axes)
