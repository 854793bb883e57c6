"""Requests of a trace as they are read, each with the one that it follows.

A turn after one that the model does not take follows the one before that.  Requests are known until they have left and
`REMEMBERED` others have left after them.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from flashstill.simulate.selection import WithinContext
from flashstill.simulate.texts import Text, Texts
from flashstill.simulate.traffic import CLOSED_LOOP, IN_ORDER
from flashstill.traces.reader import Trace
from flashstill.traces.requests import Row

REMEMBERED = 2**17
"""requests that have left and are known"""


def wait_after(replay: str, delay_s: float, has_time: bool, published_s: float) -> float:
    """Seconds from an answer to the turn after it: its delay (nan: none is known), or as they were published.

    published_s: from that answer's published end, or else its request's time, to the turn's.  In order, a turn that has
    a time comes at it or at once, whichever is later.
    """
    if not math.isnan(delay_s) and (replay == CLOSED_LOOP or not has_time):
        return delay_s
    return 0.0 if replay == IN_ORDER else max(published_s, 0.0)


@dataclass(slots=True, eq=False)
class Sent:
    """A request of a trace. order: in the file.  published_s: when it came, answered_s: its published end, if known, on
    the run's clock.

    row: until it leaves.  tokens: of its prompt and its answer.  follows: whether it waits for another one.  delay_s,
    has_time: as in its Turn, on the run's clock.  names: those by which later turns know it.  text: what it is made of,
    where the trace does not name blocks.
    """

    order: int
    row: Row | None
    published_s: float
    answered_s: float
    tokens: int
    follows: bool
    delay_s: float = math.nan
    has_time: bool = True
    names: list[Any] = field(default_factory=list)
    text: Text | None = None
    left_s: float = math.nan
    next_turns: list[Sent] = field(default_factory=list)


class Turns:
    """Reads the requests of a trace. unit: tokens that a name of `texts` stands for, 0 for none; taken: counts those
    that the model does not take.  unknown: turns so far that name an earlier one which is not known."""

    def __init__(self, trace: Trace, speed: float, unit: int, taken: WithinContext) -> None:
        self.unknown, self.texts = 0, Texts(unit)
        self._rows, self._speed, self._taken, self._count = trace.rows(), speed, taken, 0
        self._has_texts = bool(unit) and not trace.hash_block
        self._known: dict[Any, Sent] = {}
        self._left: deque[Sent] = deque()

    def next(self) -> tuple[Sent, Sent | None] | None:
        """The next request that the model takes, and the one that it follows."""
        row = self._next_row()
        if row is None:
            return None
        turn, published_s = row.turn, row.arrival_s / self._speed
        before = None if turn is None or turn.before is None else self._known.get(turn.before)
        answer_s = math.nan if turn is None else turn.answer_s / self._speed
        self._count += 1
        sent = Sent(self._count, row, published_s, published_s + answer_s, row.prompt + row.output, before is not None)
        if turn is not None:
            sent.delay_s, sent.has_time = turn.delay_s / self._speed, turn.has_time
            self.unknown += before is None and turn.before is not None and turn.before != turn.name
            self._name(turn.name, sent)
        if self._has_texts:
            sent.text = self.texts.goes_on(None if before is None else before.text, row.prompt, row.output)
        return sent, before

    def has_left(self, sent: Sent) -> None:
        """A request has left; the oldest of those that have are forgotten."""
        if sent.names:
            self._left.append(sent)
        while len(self._left) > REMEMBERED:
            oldest = self._left.popleft()
            for name in oldest.names:
                if self._known.get(name) is oldest:
                    del self._known[name]

    def _next_row(self) -> Row | None:
        for _, row in self._rows:
            self._taken.requests += 1
            if row.prompt + row.output <= self._taken.tokens:
                return row
            self._taken.too_long += 1
            turn = row.turn
            if turn is not None and turn.before != turn.name and turn.before in self._known:
                self._name(turn.name, self._known[turn.before])
        self._taken.check()
        return None

    def _name(self, name: Any, sent: Sent) -> None:
        self._known[name] = sent
        sent.names.append(name)
