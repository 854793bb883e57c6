"""Conversations of a trace against a server: a turn is sent when the one before it is answered, with all that was said.

The times are those of simulate/sessions.py.  A turn's prompt is the prompt before it, the answer that the server gave,
and new words up to the tokens of the trace; one that is shorter than that (of a context that was cut) is a prompt of
its own.  Where no answer came, words stand in its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.load_test.client import Reply
from flashstill.load_test.prompts import Prompts
from flashstill.load_test.talk import Marks, Said, answered
from flashstill.simulate.traffic import CLOSED_LOOP, IN_ORDER
from flashstill.simulate.turns import wait_after
from flashstill.traces.requests import Row

LATE_S = 1e-3


@dataclass(frozen=True, slots=True)
class Conversations:
    """Which requests of a run follow each other. before: number of the one before, or -1; wait_s: after its answer at
    least; has_time: whether a request has a time of its own.

    new_tokens: of the prompt beside all that was said before, or -1 for a prompt of its own.
    """

    replay: str
    before: np.ndarray
    wait_s: np.ndarray
    has_time: np.ndarray
    new_tokens: np.ndarray

    def next_turns(self) -> dict[int, list[int]]:
        """The requests that follow each one."""
        found: dict[int, list[int]] = {}
        for number, before in enumerate(self.before.tolist()):
            if before >= 0:
                found.setdefault(before, []).append(number)
        return found

    def talk(self, prompts: Prompts, arrival_s: np.ndarray, seed: int) -> Talk:
        """A run of these conversations."""
        return Talk(self, prompts, arrival_s)

    def due_s(self, number: int, arrival_s: float, ended_s: float) -> float:
        """When a turn is due whose earlier one has ended; seconds from the start of the run."""
        due_s = ended_s + float(self.wait_s[number])
        return max(arrival_s, due_s) if self.replay == IN_ORDER else due_s


def conversations_of(rows: Iterable[Row], replay: str, speed: float) -> Conversations:
    """The conversations of a trace's requests."""
    known: dict[object, tuple[int, Row]] = {}
    before, wait_s, has_time, new_tokens = [], [], [], []
    for number, row in enumerate(rows):
        turn = row.turn
        earlier = None if turn is None or turn.before is None else known.get(turn.before)
        before.append(-1 if earlier is None else earlier[0])
        wait, new = 0.0, -1
        if earlier is not None:
            other = earlier[1]
            wait = _wait_s(row, other, replay)
            new = max(row.prompt - other.prompt - other.output, -1)
        wait_s.append(wait / speed)
        has_time.append(turn is None or turn.has_time)
        new_tokens.append(new)
        if turn is not None:
            known[turn.name] = number, row
    columns = (np.array(column) for column in (before, wait_s, has_time, new_tokens))
    return Conversations(replay, *columns)


def _wait_s(row: Row, before: Row, replay: str) -> float:
    """Seconds from an answer to the turn after it: its delay, or as they were published."""
    assert row.turn is not None
    assert before.turn is not None
    answer_s = 0.0 if math.isnan(before.turn.answer_s) else before.turn.answer_s
    published_s = row.arrival_s - before.arrival_s - answer_s
    return wait_after(replay, row.turn.delay_s, row.turn.has_time, published_s)


class Talk:
    """What was said in the conversations of a run, as long as a turn may still go on with it.

    A turn gets as many new words as its prompt lacks beside what was said, by the server's count of that, and beside
    what the server adds for a turn (the marks of roles in a chat), which is learnt from the turns before.
    """

    def __init__(self, conversations: Conversations, prompts: Prompts, arrival_s: np.ndarray) -> None:
        self._conversations, self._prompts, self._arrival_s = conversations, prompts, arrival_s
        self.firsts: Sequence[int] = np.flatnonzero(conversations.before < 0).tolist()
        self.next_turns = conversations.next_turns()
        self._open = {number: len(turns) for number, turns in self.next_turns.items()}
        self._said: dict[int, tuple[Said, int]] = {}
        self._asked: dict[int, tuple[Said, int]] = {}
        self._marks = Marks()

    def _before(self, number: int) -> tuple[Said, int]:
        """What was said before a turn and its tokens, empty if its prompt does not begin with it."""
        earlier = int(self._conversations.before[number])
        if earlier < 0:
            return (), 0
        said = self._said.get(earlier, ((), 0))
        self._open[earlier] -= 1
        if not self._open[earlier]:
            self._said.pop(earlier, None)
        return said if self._conversations.new_tokens[number] >= 0 else ((), 0)

    def text(self, number: int, prompt: int, cached: int, drawn: np.random.Generator, least: int) -> tuple[Said, str]:
        """What was said before a request, and its new words, at least so many, for a prompt of so many tokens."""
        before, tokens = self._asked[number] = self._before(number)
        if not before:
            return (), self._prompts.make(prompt, cached, drawn)
        return before, self._prompts.more(max(prompt - tokens - self._marks.tokens, least), drawn)

    def ended(self, number: int, prompt: str, answer: str, reply: Reply) -> None:
        """Keep what was said, if a turn follows."""
        said, said_tokens = self._asked.pop(number)
        if said:
            self._marks.learn(reply, said_tokens, prompt)
        if number in self.next_turns:
            text, output = answered(answer, reply, self._prompts, number)
            self._said[number] = (*said, (prompt, text)), (reply.prompt_tokens or reply.wanted_prompt) + output

    def after(self, number: int, ended_s: float) -> Iterator[tuple[int, float, float]]:
        """The turns after one that has ended: number, when it is due, and by how much later than published."""
        for each in self.next_turns.get(number, ()):
            arrival_s = float(self._arrival_s[each])
            due_s = self._conversations.due_s(each, arrival_s, ended_s)
            late_s = due_s - arrival_s if self._conversations.has_time[each] else 0.0
            yield each, due_s, late_s if late_s > LATE_S else 0.0


def note_of(replay: str, tells_answers: bool) -> tuple[str, ...]:
    """What a user should know of a replay."""
    if replay == CLOSED_LOOP and not tells_answers:
        return ("the trace does not tell when answers ended: think times are the times from turn to turn",)
    return ()
