"""Which replica gets the next request (state.ROUTERS), of those that serve."""

from __future__ import annotations

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.state import ENTRIES, NEXT, NONE, RANDOM, UP, Fleet, Limits


@compiled
def route(fleet: Fleet, limits: Limits) -> int:
    """The replica that gets the next request; NONE if no replica serves."""
    if limits.router == 0 or fleet.router[ENTRIES] == 1:
        return in_turn(fleet)
    if limits.router == 2:
        return better_of_two(fleet)
    owed = field.OWED if limits.router == 1 else field.OWED_TOKENS
    chosen = NONE
    for r in range(fleet.router[ENTRIES]):
        fewer = chosen == NONE or fleet.counts[r, owed] < fleet.counts[chosen, owed]
        if fewer and fleet.counts[r, field.STATUS] == UP:
            chosen = r
    return int(chosen)


@compiled
def in_turn(fleet: Fleet) -> int:
    """The next one that serves."""
    for _ in range(fleet.router[ENTRIES]):
        chosen = fleet.router[NEXT] % fleet.router[ENTRIES]
        fleet.router[NEXT] += 1
        if fleet.counts[chosen, field.STATUS] == UP:
            return int(chosen)
    return NONE


@compiled
def better_of_two(fleet: Fleet) -> int:
    """Of two different ones drawn at random, the one with fewer requests."""
    serving = 0
    for r in range(fleet.router[ENTRIES]):
        serving += fleet.counts[r, field.STATUS] == UP
    if serving < 2:
        return in_turn(fleet)
    fleet.router[RANDOM] = fleet.router[RANDOM] * 48271 % 2147483647  # Park and Miller 1988, in plain integers
    first = fleet.router[RANDOM] % serving
    fleet.router[RANDOM] = fleet.router[RANDOM] * 48271 % 2147483647
    second = (first + 1 + fleet.router[RANDOM] % (serving - 1)) % serving
    one, other, passed = NONE, NONE, 0
    for r in range(fleet.router[ENTRIES]):
        if fleet.counts[r, field.STATUS] == UP:
            one = r if passed == first else one
            other = r if passed == second else other
            passed += 1
    return int(one if fleet.counts[one, field.OWED] <= fleet.counts[other, field.OWED] else other)
