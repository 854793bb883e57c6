"""Steps from a design to those around it: along multipliers, SRAM and watts, and to the next of its other choices.

The long axes are walked in logarithms, alone and two at a time: where a limit binds two of them (SRAM feeds multipliers
as the square of their number, a die has room for more of one in place of the other) a step along one alone fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from flashstill.codesign.designs import LIMITS, Memory, Values
from flashstill.codesign.listed import BLOCK, LIMITED, LINKS, MACS, MEMORY, SRAM, Listed

_LONG = (MACS, SRAM, LIMITED)
_SINGLE = [tuple(sign * (axis == place) for place in range(3)) for axis in range(3) for sign in (1.0, -1.0)]
_PAIRS = [
    tuple({one: first, other: second}.get(place, 0.0) for place in range(3))
    for one, other in itertools.combinations(range(3), 2)
    for first, second in itertools.product((1.0, -1.0), repeat=2)
]
WAYS = np.array([*_SINGLE, *_PAIRS])
"""directions on the long axes, in steps of each"""
FED = np.array([[1.0, 2.0], [-1.0, -2.0]])
"""of multipliers and SRAM, in logarithms: SRAM feeds as many multipliers as before"""
LEAST_STEPS = np.array([0.5, 1.0, 0.5])
"""first steps of multipliers, SRAM and watts at the least, in log2: not so short that they see one hill only"""


def first_steps(spaced: Sequence[Values]) -> Values:
    """First steps in log2 of multipliers, SRAM and watts: half a step of the grid where that is longer."""
    steps = [np.log2(axis[-1] / axis[0]) / max(len(axis) - 1, 1) / 2.0 for axis in spaced]
    longest: Values = np.maximum([*steps, 0.0], LEAST_STEPS)
    return longest


def steps_around(listed: Listed, row: Values, steps: Values) -> Values:
    """Rows a step away on the long axes, within the bounds of the space. steps: in log2."""
    moves = WAYS * steps
    fed = np.zeros((len(FED), 3))
    fed[:, :2] = FED * steps[0]
    moves = np.concatenate([moves, fed])
    rows = np.tile(row, (len(moves), 1))
    space = listed.space
    bounds = ((space.macs[0], space.macs[-1]), (space.sram_bytes[0], space.sram_bytes[-1]), (min(LIMITS), 1.0))
    for column, axis, (low, high) in zip(moves.T, _LONG, bounds, strict=True):
        rows[:, axis] = np.clip(row[axis] * 2.0**column, low, high)
    return rows


def choices_around(listed: Listed, row: Values) -> Values:
    """Rows with the next chiplets, format, edge of arrays, stacks or lanes, and with each other wiring."""
    block, space = listed.blocks[int(row[BLOCK])], listed.space
    axes = ((space.dies, block.dies), (space.narrowest, block.narrowest), (space.edges, block.edge))
    strides = (len(space.narrowest) * len(space.edges), len(space.edges), 1)
    rows = []
    for (values, mine), stride in zip(axes, strides, strict=True):
        place = values.index(mine)
        for other in (place - 1, place + 1):
            if 0 <= other < len(values):
                rows.append(_changed(row, BLOCK, row[BLOCK] + stride * (other - place)))
    choices = space.memories_of(block)
    mine_memory = choices[int(row[MEMORY])]
    alike = [
        place
        for place, one in enumerate(choices)
        if (one.kind, one.weights_kind) == (mine_memory.kind, mine_memory.weights_kind)
    ]
    alike.sort(key=lambda place: (choices[place].stacks + choices[place].weights_stacks, choices[place].stacks))
    near = [_changed(row, MEMORY, place) for place in _near(alike, int(row[MEMORY]))]
    near += [_changed(row, MEMORY, place) for place in _other_kinds(choices, mine_memory)]
    rates = listed.facts_of(int(row[BLOCK])).memory.bytes_per_s
    balanced = [
        _changed(one, MACS, _within(listed, row[MACS] * rates[int(one[MEMORY])] / max(rates[int(row[MEMORY])], 1.0)))
        for one in near
    ]
    redone = [one for one in rows if abs(one[BLOCK] - row[BLOCK]) >= strides[0]]
    rows += [*near, *balanced, *(_changed(one, BLOCK, other[BLOCK]) for one in near for other in redone)]
    for one in redone:
        more = listed.blocks[int(one[BLOCK])].dies / block.dies
        rows.append(_changed(one, MACS, _within(listed, row[MACS] * more)))
        rows += [_grown(listed, one, alike, more, share) for share in (1.0, 0.5)]
    link = space.links[int(row[LINKS])]
    wired = [place for place, one in enumerate(space.links) if one.wiring == link.wiring]
    others = [place for place, one in enumerate(space.links) if one.lanes == link.lanes and one.wiring != link.wiring]
    rows += [_changed(row, LINKS, place) for place in (*_near(wired, int(row[LINKS])), *others)]
    return np.array(rows).reshape(-1, len(row))


def _other_kinds(choices: Sequence[Memory], mine: Memory) -> list[int]:
    """Of each other kind with memory, where weights have none of their own, the number of stacks nearest to mine."""
    found: dict[str, int] = {}
    for place, one in enumerate(choices):
        if one.kind == mine.kind or one.weights_kind or mine.weights_kind:
            continue
        known = found.setdefault(one.kind, place)
        if abs(one.stacks - mine.stacks) < abs(choices[known].stacks - mine.stacks):
            found[one.kind] = place
    return list(found.values())


def _grown(listed: Listed, row: Values, alike: Sequence[int], more: float, share: float) -> Values:
    """With so many times the stacks, and that to the power of `share` of multipliers and SRAM: a larger package."""
    choices, space = listed.space.memories_of(listed.blocks[int(row[BLOCK])]), listed.space
    stacks = [choices[place].stacks + choices[place].weights_stacks for place in alike]
    wanted = stacks[alike.index(int(row[MEMORY]))] * more
    grown = _changed(row, MEMORY, alike[int(np.argmin([abs(count - wanted) for count in stacks]))])
    grown[MACS] = _within(listed, row[MACS] * more**share)
    grown[SRAM] = np.clip(row[SRAM] * more**share, space.sram_bytes[0], space.sram_bytes[-1])
    return grown


def _within(listed: Listed, macs: float) -> float:
    """Multipliers within the bounds of the space."""
    return float(np.clip(macs, listed.space.macs[0], listed.space.macs[-1]))


def _near(places: Sequence[int], mine: int) -> list[int]:
    """The two before and the two behind."""
    at = places.index(mine)
    return [places[other] for other in (at - 2, at - 1, at + 1, at + 2) if 0 <= other < len(places)]


def _changed(row: Values, axis: int, value: float) -> Values:
    changed: Values = row.copy()
    changed[axis] = value
    return changed
