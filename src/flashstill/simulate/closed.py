"""The closed loop: each finished request is followed by another one, `return_s` later.

The last token has to reach the client, and the client's next request the scheduler: what the client takes, and the way
out of the engine and in again (`first_s` without launches), of which a first token takes as much.  So a follower joins
no step that starts with the end of the one before it: it waits for the step that runs.  Without this time, requests of
equal length that once shared a step would be prefilled together for ever.

The first ones may come at times of their own (`spacing_s` of traffic.py). No follower comes before the last of them, as
requests come in order.
"""

from __future__ import annotations

from flashstill.simulate.compiled import compiled
from flashstill.simulate.state import FOLLOWED, Fleet, Values


@compiled
def follow(fleet: Fleet, return_s: float, arrival_s: Values, position: int, count: int, now: float) -> None:
    """Set the times of arrival of the next `count` requests, from `position` on, that have none yet."""
    first = max(fleet.router[FOLLOWED], position)
    last = min(first + count, len(arrival_s))
    comes_s = max(now + return_s, arrival_s[first - 1]) if first > 0 else now + return_s
    for position in range(first, last):
        arrival_s[position] = comes_s
    fleet.router[FOLLOWED] = last
