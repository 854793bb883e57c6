"""Requests of a trace, one after the other, checked: a mistake names the file and its line.

arrival     seconds from the first request, or as the file has them (formats.py)
left out    requests that failed, warm-up, those that the user does not want; how many failed is told at the end
blocks      only whole ones are used: the last name of a prompt that ends within a block is left out.  The names cover
            the prompt, or the prompt and its answer.  Where the format says how large blocks are, the names of the
            first requests must be as many as that gives, or the size is asked for
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput, nearest, shortened
from flashstill.traces import values
from flashstill.traces.delays import check_lengths, placed
from flashstill.traces.formats import ASK, DATE, NO_PARENT, WHOLE_MS, is_among
from flashstill.traces.order import checked_blocks, from_start, in_order_of_time
from flashstill.traces.reading import ADDED, DEFAULT, Reading
from flashstill.traces.requests import Row, Seen, Turn, keys_of
from flashstill.traces.sources import DOCUMENT, Source, source_of
from flashstill.traces.turns import NO_TIME, BadDelay, TurnColumns, check_turns, has_answers, session_of

WARM_UP = "warmup"


class Trace:
    """A trace whose columns are known. hash_block: tokens of the blocks that it names, 0 without; seen: what reading
    it, which begins anew every time, has met. with_turns: whether requests come with their place in a conversation
    (turns.py); tells_answers: whether also with the time in which they were answered; has_delays: or with the delay
    after the answer before them."""

    def __init__(self, path: Path, reading: Reading = DEFAULT, with_turns: bool = False) -> None:
        self.path, self.reading, self.seen, self.with_turns = path, reading, Seen(), with_turns
        with source_of(path) as source:
            self.form = reading.format_of(str(path), source.columns, source.place == DOCUMENT)
            self.place = source.place
            columns = source.columns
        if with_turns:
            check_turns(str(path), self.form, columns)
        check_lengths(str(path), self.form, columns, reading.turn_lengths, with_turns)
        self.tells_answers = with_turns and has_answers(self.form, columns)
        self.has_delays = with_turns and bool(self.form.delay)
        self._session = "" if with_turns else session_of(self.form, columns)
        has_names = bool(self.form.hashes) and is_among(self.form.hashes, columns)
        self.hash_block = (reading.hash_block or self.form.block) if has_names else 0
        if has_names and not self.hash_block:
            raise BadInput(
                f"how many tokens has a block that {self.form.hashes} of {path} names? say it with --hash-block"
            )

    def where(self, line: int) -> str:
        """A place in the file, for messages."""
        return f"{self.path}, {self.place} {line}"

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Every request, and where it stands. BadInput for a mistake."""
        self.seen = Seen(session=self._session)
        with source_of(self.path) as source:
            found = self._requests(source)
            if (
                self.hash_block
                and self.form.block
                and self.reading.hash_block is None
                and self.form.name != "flashstill"
            ):
                found = checked_blocks(found, self.hash_block, self.where)
            if self.form.sorts or self.reading.trace_sort:
                found = in_order_of_time(found, self.path)
            if self.form.delay or self.reading.turn_lengths == ADDED:
                block = self.hash_block if self.reading.turn_lengths == ADDED else 0
                found = placed(found, self.reading.turn_lengths == ADDED, block, self.where)
            yield from from_start(found, self.form, self.reading, self.where)

    def _requests(self, source: Source) -> Iterator[tuple[int, Row, int]]:
        """Line, request with its time as written, and how many blocks it names."""
        form, wanted = self.form, self.reading.wanted()
        for name in wanted:
            if not is_among(name, source.columns):
                close = nearest(name, source.columns)[:1]
                raise BadInput(f"{self.path} has no column {name!r}" + (f"; is it {close[0]!r}?" if close else ""))
        time = next((name for name in form.time if is_among(name, source.columns)), form.time[0])
        beside = (form.cached or form.hits, form.hashes, form.parent, form.failed, form.warm_up, *wanted)
        talk = TurnColumns(form, source.columns).names if self.with_turns else ()
        rows = source.rows((time, form.prompt, form.output, *beside, *talk))
        first = next(rows, None)
        if first is None:
            return
        unit = self._unit(time, first[1][0])
        seconds, tokens, seen = values.clock(unit), values.tokens, self.seen
        turns = TurnColumns(form, source.columns, seconds) if self.with_turns else None
        least = 0 if form.skips or self.reading.skip_failed else 1
        has_more, may_wait, at_s = any(beside) or self.with_turns, turns is not None and turns.has_delays, 0.0
        for line, cells in chain([first], rows):
            if has_more and not self._counts(cells[3:], wanted):
                continue
            seen.requests += 1
            try:
                at_s = at_s if may_wait and cells[0] in NO_TIME else seconds(cells[0])
                row = Row(at_s, tokens(cells[1], 1), tokens(cells[2], least), 0)
            except (ValueError, TypeError):
                if has_more and form.failed and self._failed(cells[6]):
                    seen.failed += 1
                    continue
                if form.may_lack and None in cells[1:3]:
                    seen.untold += 1
                    continue
                raise self._mistake(line, cells, seconds, time, unit, least) from None
            if row.output == 0 or (has_more and form.failed and self._failed(cells[6])):
                seen.failed += 1
                continue
            if turns is not None:
                row = row._replace(turn=self._turn(turns, line, cells))
                if row.turn is None and may_wait and cells[0] in NO_TIME:
                    raise self._wrong(line, time, None, "")
            yield (line, *self._with_cache(line, row, cells)) if has_more else (line, row, 0)

    def _turn(self, turns: TurnColumns, line: int, cells: Sequence[Any]) -> Turn | None:
        """The place of a request in its conversation."""
        try:
            return turns.read(cells[-4:], cells[0])
        except BadDelay:
            raise self._wrong(line, turns.names[3], cells[-1], "a number of milliseconds of at least 0") from None
        except (ValueError, TypeError):
            expected = "when an answer was complete, at or after its request"
            raise self._wrong(line, turns.names[2], cells[-2], expected) from None

    def _counts(self, beside: Sequence[Any], wanted: Mapping[str, str]) -> bool:
        """Whether a request is no warm-up, and has the values that are wanted."""
        if self.form.warm_up and beside[4] == WARM_UP:
            return False
        return all(str(cell) == value for cell, value in zip(beside[5:], wanted.values(), strict=False))

    @staticmethod
    def _failed(cell: Any) -> bool:
        return cell not in ("", None, False)

    def _with_cache(self, line: int, row: Row, cells: Sequence[Any]) -> tuple[Row, int]:
        """The request with what is found of it in a cache, and how many blocks it names."""
        form, (cached, named, parent) = self.form, cells[3:6]
        if form.cached or form.hits:
            hit = self._tokens(line, form.cached or form.hits, cached, 0) * (form.hit_block or 1)
            row = row._replace(cached=min(hit, row.prompt - 1))
        if form.parent and parent not in NO_PARENT and not self.with_turns:
            self.seen.following += 1
        if not self.hash_block:
            return row, 0
        names = self._names(line, named)
        return row._replace(keys=self._keys(line, names, row)), len(names)

    def _mistake(
        self, line: int, cells: Sequence[Any], seconds: Callable[[Any], float], time: str, unit: str, least: int
    ) -> BadInput:
        """What is wrong with a request's time or tokens."""
        waits = bool(self.form.delay) and cells[0] in NO_TIME
        try:
            if not (waits and self.with_turns):
                seconds(cells[0])
        except (ValueError, TypeError):
            if waits:
                return BadInput(
                    f"{self.where(line)}: {time} is missing; a turn with a delay in its place follows an answer, as"
                    " --replay in-order or closed-loop (of simulate and measure) has it"
                )
            return self._wrong(line, time, cells[0], _time_in_words(unit, time))
        try:
            self._tokens(line, self.form.prompt, cells[1], 1)
            self._tokens(line, self.form.output, cells[2], least)
        except BadInput as error:
            return error
        raise AssertionError("a request without a mistake")

    def _unit(self, column: str, cell: Any) -> str:
        """The unit of the times: as the user says, as the format has it, or as the first one shows."""
        form, asked = self.form, self.reading.time_unit
        if form.unit == DATE or values.is_date(cell):
            if asked is not None:
                raise BadInput(f"{column!r} of {self.path} has dates; leave the unit of time out")
            return DATE
        if asked is not None:
            return asked
        if form.unit == ASK:
            ending = column.rpartition("_")[2]
            if ending in ("s", "ms", "us", "ns") and "_" in column:
                return ending
            raise BadInput(
                f"are the numbers in {column!r} of {self.path} seconds or milliseconds? say it with"
                " --time-unit s, ms, us or ns"
            )
        return form.unit

    def _wrong(self, line: int, name: str, cell: Any, expected: str) -> BadInput:
        if cell is None:
            return BadInput(f"{self.where(line)}: {name} is missing")
        return BadInput(f"{self.where(line)}: {name} is {shortened(str(cell))!r}, not {expected}")

    def _tokens(self, line: int, name: str, cell: Any, least: int) -> int:
        try:
            return values.tokens(cell, least)
        except ValueError:
            raise self._wrong(line, name, cell, f"a whole number of at least {least}" + self._hint(name)) from None

    def _hint(self, name: str) -> str:
        ends = name == self.form.output and not self.form.skips and not self.reading.skip_failed
        return " (--skip-failed leaves requests without an answer out)" if ends else ""

    def _names(self, line: int, cell: Any) -> list[Any]:
        try:
            return values.names(cell)
        except ValueError:
            raise self._wrong(line, self.form.hashes, cell, "a list of numbers or texts") from None

    def _keys(self, line: int, names: Sequence[Any], row: Row) -> tuple[int, ...]:
        try:
            return keys_of(names, row.prompt, row.output, self.hash_block)
        except ValueError:
            raise BadInput(
                f"{self.where(line)}: {len(names):,} names of blocks of {self.hash_block} tokens for"
                f" {row.prompt + row.output:,} tokens; is the block of another size? say it with --hash-block"
            ) from None


def _time_in_words(unit: str, column: str) -> str:
    if unit == DATE:
        return "a date and time as 2024-05-10 00:00:00.009930+00:00, with a time zone in all lines or in none"
    if unit == WHOLE_MS:
        return "a number of at least 0 in whole milliseconds (--time-unit s if it is in seconds)"
    return "a time of at least 0 seconds" if column == "arrival_s" else "a number of at least 0"
