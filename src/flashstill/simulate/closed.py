"""The closed loop: each finished request is followed by another one, `return_s` later.

The last token has to reach the client, and the client's next request the scheduler, so that a follower joins no step
that starts with the end of the one before it: it waits for the step that runs.  Without this time, requests of equal
length that once shared a step would be prefilled together for ever.
"""

from __future__ import annotations

from flashstill.simulate.compiled import compiled
from flashstill.simulate.state import FOLLOWED, Fleet, Values


@compiled
def follow(fleet: Fleet, return_s: float, arrival_s: Values, position: int, count: int, now: float) -> None:
    """Set the times of arrival of the next `count` requests, from `position` on, that have none yet."""
    first = max(fleet.router[FOLLOWED], position)
    last = min(first + count, len(arrival_s))
    for position in range(first, last):
        arrival_s[position] = now + return_s
    fleet.router[FOLLOWED] = last
