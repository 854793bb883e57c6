"""Which replica gets the next request (state.ROUTERS), of those that serve."""

from __future__ import annotations

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.prefix import cached_tokens
from flashstill.simulate.state import ENTRIES, NEXT, NONE, RANDOM, UP, Fleet, Limits, Pool


@compiled
def route(fleet: Fleet, pool: Pool, limits: Limits, place: int) -> int:
    """The replica that gets the next request; NONE if no replica serves."""
    if limits.router == 5 and limits.unit and pool.counts[place, field.KEYS]:
        return with_longest_prefix(fleet, pool, limits, place)
    if limits.router == 0 or fleet.router[ENTRIES] == 1:
        return in_turn(fleet)
    if limits.router == 2:
        return better_of_two(fleet)
    owed = field.OWED_TOKENS if limits.router == 3 else field.OWED
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


@compiled
def with_longest_prefix(fleet: Fleet, pool: Pool, limits: Limits, place: int) -> int:
    """The one with the longest cached prefix, or the one with the fewest requests if that has `margin` fewer.

    Of equal prefixes, the one with fewer requests.  A cache is known as it is at the end of the planned steps before.
    """
    chosen, least, longest = NONE, NONE, -1
    for r in range(fleet.router[ENTRIES]):
        if fleet.counts[r, field.STATUS] != UP:
            continue
        owed = fleet.counts[r, field.OWED]
        if least == NONE or owed < fleet.counts[least, field.OWED]:
            least = r
        cached = cached_tokens(fleet, pool, limits, r, place)
        if cached > longest or (cached == longest and owed < fleet.counts[chosen, field.OWED]):
            chosen, longest = r, cached
    if chosen != NONE and fleet.counts[chosen, field.OWED] - fleet.counts[least, field.OWED] > limits.margin:
        chosen = least
    return int(chosen)
