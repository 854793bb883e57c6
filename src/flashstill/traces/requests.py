"""A request of a trace, what reading has met so far, and the keys of the blocks of its prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """Where a request stands in its conversation (turns.py): its name, that of the one before it, None without one, and
    the seconds in which it was answered, nan if the trace does not tell.

    delay_s: from the answer before it until it comes, nan if the trace does not tell.  has_time: whether it has a time
    of its own as well; the arrival of one without is that of the turn before it.
    """

    name: Any
    before: Any
    answer_s: float
    delay_s: float = math.nan
    has_time: bool = True


class Row(NamedTuple):
    """A request: seconds, tokens of the prompt, of the answer and found in a cache, keys of its whole blocks, and its
    place in a conversation, where that is read."""

    arrival_s: float
    prompt: int
    output: int
    cached: int
    keys: tuple[int, ...] = ()
    turn: Turn | None = None


@dataclass(slots=True)
class Seen:
    """What reading has met so far: requests, of them left out as failed or as none tells their tokens, and those that
    follow another one and do not wait for it. session: the column that names conversations, whose turns do not wait for
    each other either."""

    requests: int = 0
    failed: int = 0
    untold: int = 0
    following: int = 0
    session: str = ""

    def notes(self) -> tuple[str, ...]:
        """What a user should know of it."""
        told = []
        if self.failed:
            told.append(
                f"{self.failed:,} of the trace's {self.requests:,} requests failed or have no output tokens, and are"
                " left out"
            )
        if self.untold:
            told.append(
                f"{self.untold:,} of the trace's {self.requests:,} requests have no counts of tokens, and are left out"
            )
        if self.following:
            told.append(
                f"open loop: {self.following:,} of the trace's {self.requests:,} requests go on with an earlier one;"
                " they arrive when they did, whether or not that one is answered by then (simulate --replay)"
            )
        if self.session:
            told.append(
                f"open loop: requests with the same {self.session} are turns of a conversation; they arrive when they"
                " did, whether or not the one before is answered by then (simulate --replay)"
            )
        return tuple(told)


def keys_of(names: Sequence[Any], prompt: int, output: int, block: int) -> tuple[int, ...]:
    """Keys of whole blocks, each a hash of its name and of all before it, so that equal keys mean equal prefixes.

    Raises ValueError if the prompt and its answer have fewer blocks than there are names.
    """
    if len(names) > -(-(prompt + output) // block):
        raise ValueError
    whole = (prompt if len(names) <= -(-prompt // block) else prompt + output) // block
    keys, key = [], 0
    for name in names[:whole]:
        key = hash((key, name)) & 0x7FFFFFFFFFFFFFFF
        keys.append(key)
    return tuple(keys)


def are_of_blocks(count: int, prompt: int, output: int, block: int) -> bool:
    """Whether a prompt, or it and its answer, has so many blocks, whole or with the one that it ends in."""
    return any(count in (tokens // block, -(-tokens // block)) for tokens in (prompt, prompt + output))
