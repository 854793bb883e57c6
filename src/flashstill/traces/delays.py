"""Turns that come a delay after the answer before them, and prompts that are told by what a turn adds.

AIPerf's multi-turn traces (github.com/ai-dynamo/aiperf, docs/benchmark-modes/trace-replay.md) have a `delay` in place
of a later turn's timestamp; it sends all that was said before beside the tokens of the turn.  Other replays of such
files (Dynamo's) take the same tokens for the whole prompt, so the user says which they are.

added     prompt = all earlier prompts and answers of the conversation + the tokens of the turn.  Names of blocks count
          for the first turn, which may share its prompt with other conversations; what is said later is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.errors import BadInput
from flashstill.traces.formats import Format
from flashstill.traces.order import Requests
from flashstill.traces.reading import ADDED
from flashstill.traces.requests import Row, Turn
from flashstill.traces.turns import session_of

MOST_CONVERSATIONS, MOST_KEYS, MOST_TOKENS = 2_000_000, 2**24, 2**24
"""conversations and keys of their first prompts held in memory; tokens of one conversation"""


@dataclass(slots=True)
class _Conversation:
    """Its number, its last time, tokens said, keys of its first prompt, and whether its last turn had a time."""

    number: int
    arrival_s: float
    tokens: int
    keys: tuple[int, ...]
    has_time: bool


def check_lengths(shown: str, form: Format, columns: Sequence[str], lengths: str | None, with_turns: bool) -> None:
    """BadInput where nobody says what the tokens of later turns are, or where that cannot be followed."""
    has_delays = bool(form.delay) and form.delay in columns
    if has_delays and lengths is None:
        replay = "" if with_turns else " and --replay in-order or closed-loop (of simulate and measure)"
        raise BadInput(
            f"does {form.prompt} of later turns in {shown} count the tokens that they add, as AIPerf sends them, or"
            f" whole prompts? say it with --turn-lengths added or whole{replay}"
        )
    if lengths is not None and not session_of(form, columns):
        raise BadInput(f"turn_lengths is of conversations, and {shown} has no column that names them")
    if lengths == ADDED and not with_turns:
        raise BadInput(
            f"turns of {shown} that tell the tokens they add can only be replayed in their conversations: give simulate"
            " or measure --replay in-order or closed-loop"
        )


def placed(rows: Requests, added: bool, block: int, where: Callable[[int], str]) -> Requests:
    """The same requests with the time of the turn before for those without one, and whole prompts.

    block: tokens of the blocks that requests name, 0 where they name none or their names cover whole prompts.
    """
    known: dict[Any, _Conversation] = {}
    keys = 0
    for line, row, count in rows:
        turn = row.turn
        if turn is None:
            yield line, row, count
            continue
        before = known.get(turn.name)
        row = (
            _checked(row, turn, before, where(line))
            if before is None or not (turn.has_time and before.has_time)
            else row
        )
        if before is None:
            known[turn.name] = before = _Conversation(len(known), 0.0, 0, row.keys if block else (), True)
            keys += len(before.keys)
            if len(known) > MOST_CONVERSATIONS or keys > MOST_KEYS:
                raise BadInput(
                    f"{where(line)}: over {MOST_CONVERSATIONS:,} conversations, or {MOST_KEYS:,} blocks of their first"
                    " prompts, which are held in memory; take a part of the trace"
                )
        if added:
            row = row._replace(prompt=before.tokens + row.prompt)
            if row.prompt + row.output > MOST_TOKENS:
                raise BadInput(f"{where(line)}: a conversation of over {MOST_TOKENS:,} tokens")
            if block:
                row = row._replace(keys=_keys(before, (row.prompt + row.output) // block))
        before.arrival_s, before.tokens, before.has_time = row.arrival_s, row.prompt + row.output, turn.has_time
        yield line, row, count


def _checked(row: Row, turn: Turn, before: _Conversation | None, where: str) -> Row:
    """A request at the time of the turn before it, if it has none of its own."""
    if before is None:
        if not turn.has_time:
            raise BadInput(f"{where}: the first turn of a conversation has no timestamp; say when it comes")
        return row
    if turn.has_time and math.isnan(turn.delay_s):
        raise BadInput(
            f"{where}: a turn with a timestamp after one with a delay alone; give it a delay as well, or both to all"
        )
    return row if turn.has_time else row._replace(arrival_s=before.arrival_s)


def _keys(conversation: _Conversation, blocks: int) -> tuple[int, ...]:
    """Keys of the first blocks of a conversation: those of its first prompt, then its own."""
    shared = conversation.keys[:blocks]
    own = (hash((conversation.number, -1, at)) & 0x7FFFFFFFFFFFFFFF for at in range(len(shared), blocks))
    return (*shared, *own)
