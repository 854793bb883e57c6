"""Conversations in a trace: the name of each request, the one before it, and how long that was answered.

A format names a conversation (session), whose requests follow each other in order of time, or each request and the one
that it follows (own, parent).  The time of an answer is published as its end or as a duration, or not at all.  A turn
may have a delay after the answer before it beside its time, or in place of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from flashstill.errors import BadInput
from flashstill.traces import values
from flashstill.traces.formats import FORMATS, NO_PARENT, UNITS, Format, is_among
from flashstill.traces.requests import Turn

NO_TIME = ("", None)
"""cells that tell no time"""


def _is_there(name: str, columns: Sequence[str]) -> bool:
    return bool(name) and is_among(name, columns)


def has_turns(form: Format, columns: Sequence[str]) -> bool:
    """Whether a file with these columns tells which requests follow each other."""
    return _is_there(form.session, columns) or (_is_there(form.own, columns) and _is_there(form.parent, columns))


def session_of(form: Format, columns: Sequence[str]) -> str:
    """The column that names the conversation of each request, empty without one."""
    return form.session if _is_there(form.session, columns) else ""


def has_answers(form: Format, columns: Sequence[str]) -> bool:
    """Whether it also tells how long each was answered."""
    return _is_there(form.end, columns) or _is_there(form.lasts, columns)


def check_turns(shown: str, form: Format, columns: Sequence[str]) -> None:
    """BadInput for a trace without conversations. shown: names the file."""
    if has_turns(form, columns):
        return
    if form.name == "columns":
        told = "name its column of conversations, as --trace-columns time=ts,input=prompt,output=answer,session=id"
    elif form.session or form.own:
        told = f"it has no column {form.session or form.own!r}, which says which requests belong together"
    else:
        kinds = ", ".join(each.name for each in FORMATS.values() if each.session or each.own)
        told = f"{form.title} has no conversations (these may have: {kinds})"
    raise BadInput(f"{shown} can only be replayed as an open loop: {told}")


class BadDelay(ValueError):
    """A delay that is no time."""


def _delay_s(cell: Any, has_time: bool) -> float:
    """Seconds of a delay in milliseconds; a turn without a time and a delay comes at once."""
    if cell in NO_TIME:
        return math.nan if has_time else 0.0
    try:
        delay_s = values.number(cell) / 1000
    except ValueError:
        raise BadDelay from None
    if not 0.0 <= delay_s <= values.MOST_S:
        raise BadDelay
    return delay_s


def _plain(name: Any) -> Any:
    """A name that a table can look up."""
    return str(name) if isinstance(name, list | dict) else name


class TurnColumns:
    """Reads the turns of a trace. names: of its columns: the request or conversation, the one before, the answer, the
    delay; has_delays: whether turns may come without a time."""

    def __init__(self, form: Format, columns: Sequence[str], seconds: Callable[[Any], float] | None = None) -> None:
        self._by_session = _is_there(form.session, columns)
        self._has_end = _is_there(form.end, columns)
        self._seconds, self._unit_s = seconds, UNITS[form.lasts_unit]
        answer = form.end if self._has_end else form.lasts
        self.has_delays = bool(form.delay)
        self.names = (form.session if self._by_session else form.own, form.parent, answer, form.delay)

    def read(self, cells: Sequence[Any], arrival: Any) -> Turn | None:
        """The turn of a request with these cells, None for one that names no conversation. arrival: its time's cell.

        Raises ValueError if the time of its answer is none, and BadDelay if its delay is none.
        """
        name, before, answer, delay = cells
        if name in NO_PARENT:
            return None
        name = _plain(name)
        before = name if self._by_session else None if before in NO_PARENT else _plain(before)
        has_time = not (self.has_delays and arrival in NO_TIME)
        return Turn(name, before, self._answer_s(answer, arrival), _delay_s(delay, has_time), has_time)

    def _answer_s(self, cell: Any, arrival: Any) -> float:
        if cell in NO_TIME:
            return math.nan
        if self._has_end:
            assert self._seconds is not None
            took_s = self._seconds(cell) - self._seconds(arrival)
        else:
            took_s = values.number(cell) * self._unit_s
        if not 0.0 <= took_s <= values.MOST_S:
            raise ValueError
        return took_s
