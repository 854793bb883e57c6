"""Conversations of a trace in a closed loop: a turn comes when the one before it is answered.

    in-order      at its published time, or return_s after the end of the turn before it, whichever is later (as AIPerf
                  sends the turns of a conversation with time stamps)
    closed-loop   return_s and the published think time after the end of the turn before it.  The think time is the
                  turn's delay, or the time from the published end of an answer to the next turn; of a trace that tells
                  no ends, from turn to turn, which is longer by the time in which the answer came

A turn with a delay in place of a time comes so long after the end of the turn before it, whichever it is.

First turns, and those whose earlier turn is not in the trace, come at their published times.  A request that is refused
or given up counts as answered.  Requests are read as their times come, so that memory holds those that are in flight or
wait, `MOST_HELD` at most, and the last that have left (turns.py).  Only where answers may end earlier than they did
when they were published (closed-loop with ends), or where turns have delays, all are read at once.

Where a trace does not name the blocks of its prompts, a turn is taken to begin with what was said before it (texts.py).
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np

from flashstill.errors import BadInput
from flashstill.simulate.arrivals import NO_KEYS, Arrivals
from flashstill.simulate.selection import WithinContext
from flashstill.simulate.state import Limits
from flashstill.simulate.traffic import CLOSED_LOOP, IN_ORDER, Traffic
from flashstill.simulate.turns import Sent, Turns, wait_after
from flashstill.traces.reader import Trace

BATCH, MOST_HELD, MOST_TOKENS = 64, 2_000_000, 2**40
"""requests given to the loop at a time; most that are held until they leave"""
LATE_S = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What became of the turns of a trace. turns: requests that follow another one; late: those that came later than
    published, by late_mean_s on average; unknown: turns that name an earlier one which is not in what was read of the
    trace, does not fit the model, or left long ago (where all turns of a conversation have one name, such a turn cannot
    be told from a first one, and is none of them)."""

    replay: str
    turns: int
    late: int
    late_mean_s: float
    unknown: int


class Sessions:
    """The requests of a trace and what comes next. unit: tokens that a key of the prefix cache stands for, 0 without
    one; return_s: from the last token of an answer until the next request reaches the scheduler.  room, prompt_room:
    most tokens of a request and of its prompt that a replica can hold; larger ones are refused when they come."""

    def __init__(
        self, trace: Trace, traffic: Traffic, unit: int, return_s: float, room: float = math.inf,
        prompt_room: float = math.inf, taken: WithinContext | None = None,
    ) -> None:  # fmt: skip
        self.trace, self._traffic, self._unit, self._return_s = trace, traffic, unit, return_s
        self._room, self._prompt_room = room, prompt_room
        self._refused: list[int] = []
        self.taken = taken or WithinContext(MOST_TOKENS)
        self._read = Turns(trace, traffic.speed, unit, self.taken)
        self._coming: list[tuple[float, int, Sent]] = []
        self._handed: list[tuple[float, int, Sent]] = []
        self._running: dict[int, Sent] = {}
        self._first = self._held = 0
        self._turns = self._late = 0
        self._late_s = 0.0
        self._whole = (trace.tells_answers and traffic.replay == CLOSED_LOOP) or trace.has_delays
        self._next = self._read.next()
        self._admit()

    @property
    def is_last(self) -> bool:
        """Whether nothing comes unless a request leaves."""
        return not (self._coming or self._next is not None or self._refused)

    @property
    def replayed(self) -> Replayed:
        """What has become of the turns so far."""
        mean_s = self._late_s / self._late if self._late else 0.0
        return Replayed(
            replay=self._traffic.replay,
            turns=self._turns,
            late=self._late,
            late_mean_s=mean_s,
            unknown=self._read.unknown,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the replay."""
        told = []
        if self._traffic.replay == CLOSED_LOOP and not (self.trace.tells_answers or self.trace.has_delays):
            told.append("the trace does not tell when answers ended: think times are the times from turn to turn")
        if self._read.unknown:
            told.append(
                f"{self._read.unknown:,} turns go on with a request that is not in what was read of the trace, and come"
                " at their own times"
            )
        return tuple(told)

    def due(self, number: int) -> Arrivals:
        """The next requests, in order of time and of the file; those that come at one moment are never parted."""
        self._refuse()
        self._handed, self._first = [], number
        while self._coming and (
            (len(self._handed) < BATCH and not self._refused) or self._coming[0][0] == self._handed[-1][0]
        ):
            self._handed.append(heapq.heappop(self._coming))
            self._running[number] = sent = self._handed[-1][2]
            self._admit()
            assert sent.row is not None
            if sent.tokens > self._room or sent.row.prompt > self._prompt_room:
                self._refused.append(number)
            number += 1
        return self._arrivals()

    def leave(self, numbers: list[int], now: float, piece: Arrivals, position: int) -> bool:
        """Requests have left: the turns after them get their times. Whether one comes before the rest of `piece`."""
        if position == len(self._handed):
            self._refuse()
        for number in sorted(numbers):
            self._end(self._running.pop(number), now)
        rest = self._handed[position:] if len(piece.arrival_s) else []
        if not (rest and self._coming and self._coming[0][0] <= rest[-1][0]):
            return False
        for place in range(position, len(self._handed)):
            del self._running[self._first + place]
            heapq.heappush(self._coming, self._handed[place])
        self._handed, self._refused = self._handed[:position], []
        return True

    def _refuse(self) -> None:
        """What was given to the loop last has come, and no replica could ever hold these: that ends them."""
        numbers, self._refused = self._refused, []
        for number in numbers:
            self._end(self._running.pop(number), self._handed[-1][0])

    def _end(self, sent: Sent, now: float) -> None:
        sent.row, sent.left_s = None, now
        self._held -= 1
        self._read.has_left(sent)
        for each in sent.next_turns:
            self._comes(each, self._time_after(sent, each))
        sent.next_turns = []

    def _time_after(self, before: Sent, sent: Sent) -> float:
        """When a turn comes whose earlier one has left."""
        start_s = before.published_s if math.isnan(before.answered_s) else before.answered_s
        replay = self._traffic.replay
        wait_s = wait_after(replay, sent.delay_s, sent.has_time, sent.published_s - start_s)
        time_s = before.left_s + self._return_s + wait_s
        return max(sent.published_s, time_s) if replay == IN_ORDER else time_s

    def _comes(self, sent: Sent, time_s: float) -> None:
        if sent.follows:
            self._turns += 1
            if time_s > sent.published_s + LATE_S and sent.has_time:
                self._late += 1
                self._late_s += time_s - sent.published_s
        heapq.heappush(self._coming, (time_s, sent.order, sent))

    def _admit(self) -> None:
        """Read the requests that may come before all that are known to come, or all at once."""
        while self._next is not None:
            sent, before = self._next
            if not self._whole and self._coming and self._coming[0][0] < sent.published_s:
                return
            self._held += 1
            if self._held > MOST_HELD:
                why = "while they wait for those before them"
                if self._whole:
                    why = "with their delays" if self.trace.has_delays else "with the ends of their answers"
                other = f" it {IN_ORDER}, or" if self._whole and not self.trace.has_delays else ""
                raise BadInput(
                    f"{self.trace.path} has over {MOST_HELD:,} requests that would be in memory at a time, {why};"
                    f" replay{other} a part of it with --trace-until"
                )
            if before is None:
                self._comes(sent, sent.published_s)
            elif math.isnan(before.left_s):
                before.next_turns.append(sent)
            else:
                self._comes(sent, self._time_after(before, sent))
            self._next = self._read.next()

    def _arrivals(self) -> Arrivals:
        rows = [sent.row for _, _, sent in self._handed if sent.row is not None]
        prompt, output, cached = (np.array([row[at] for row in rows], dtype=np.int64) for at in (1, 2, 3))
        found = Arrivals(np.array([each[0] for each in self._handed]), prompt, output, cached)
        if self.trace.hash_block:
            keys = [np.array(row.keys, dtype=np.int64) for row in rows]
        elif self._unit:
            keys = [self._read.texts.names(sent.text) for _, _, sent in self._handed if sent.text is not None]
        else:
            return found
        ends = np.cumsum([len(each) for each in keys], dtype=np.int64)
        return found._replace(key_ends=ends, keys=np.concatenate([NO_KEYS, *keys]))


def sessions_of(
    traffic: Traffic, limits: Limits, filling: Limits | None, taken: WithinContext | None = None
) -> Sessions:
    """The conversations of the traffic's trace before their first turns. limits: of a replica; filling: of one that
    prefills for it; taken: counts the requests that the model does not take.  BadInput for a trace without any.
    """
    assert traffic.trace is not None
    trace = Trace(traffic.trace, traffic.reading, with_turns=True)
    prompt_room = math.inf if filling is None else filling.blocks * filling.block
    unit = (filling or limits).unit
    return Sessions(trace, traffic, unit, limits.return_s, limits.blocks * limits.block, prompt_room, taken)
