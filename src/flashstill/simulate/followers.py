"""What the engine needs of requests that come only after others are done: agents (agents.py), turns of a trace
(sessions.py)."""

from __future__ import annotations

from typing import Protocol

from flashstill.simulate.arrivals import Arrivals


class Followers(Protocol):
    """Requests that follow others."""

    @property
    def is_last(self) -> bool:
        """Whether nothing comes unless a request leaves."""
        ...

    def due(self, number: int) -> Arrivals:
        """The next requests, in order of time. number: of the first of them."""
        ...

    def leave(self, numbers: list[int], now: float, piece: Arrivals, position: int) -> bool:
        """Requests have left. Whether those of `piece` from `position` on are to be asked for again, as another one
        comes before."""
        ...
