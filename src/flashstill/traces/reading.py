"""What a user may say of a trace that its file does not: the format, the unit of its times, which column is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flashstill.errors import BadInput, check_counts, shortened, unknown
from flashstill.traces.formats import ASK, UNITS, Format, check_columns, found_in, named

ROLES = ("time", "input", "output", "cached", "hashes", "session")
"""what a column may be; the first three are needed"""
WHOLE, ADDED = TURN_LENGTHS = ("whole", "added")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a trace is to be read. All that is left out follows from its columns, or is asked for.

    trace_format: a name of FORMATS.  time_unit: of numbers as times.  hash_block: tokens of a block that hashes name.
    trace_columns: pairs such as "time=ts,input=prompt_tokens,output=completion_tokens"; in JSON a dot goes one level
    down.  trace_only: "column=value" that the requests read have, several with commas.  skip_failed: requests without
    output tokens are left out and counted, as it is by itself where a format says that they failed.
    trace_sort: requests are put in order of time first, in memory.
    turn_lengths: what the prompt tokens of a conversation's later turns count, one of TURN_LENGTHS: the whole prompt,
    or what the turn adds to all that was said before.  None asks for it where turns have delays, and is whole
    elsewhere.
    trace_from_s, trace_until_s: the part of the trace that is read, from its first request on; its times count from
    the beginning of the part.
    """

    trace_format: str | None = None
    time_unit: str | None = None
    hash_block: int | None = None
    trace_columns: str | None = None
    trace_only: str | None = None
    skip_failed: bool = False
    trace_sort: bool = False
    turn_lengths: str | None = None
    trace_from_s: float = 0.0
    trace_until_s: float | None = None

    def __post_init__(self) -> None:
        if self.trace_format is not None:
            named(self.trace_format)
        if self.time_unit is not None and self.time_unit not in UNITS:
            raise BadInput(unknown("unit of time", self.time_unit, UNITS))
        if self.turn_lengths is not None and self.turn_lengths not in TURN_LENGTHS:
            raise BadInput(unknown("count of turn_lengths", self.turn_lengths, TURN_LENGTHS))
        if self.trace_format is not None and self.trace_columns is not None:
            raise BadInput("give the format of the trace or its columns, not both")
        check_counts({"hash_block": self.hash_block})
        if not 0.0 <= self.trace_from_s < self.end_s:
            raise BadInput(f"a part of a trace goes from at least 0 s, not {self.trace_from_s:g}, to a later time")
        self.own_columns()
        self.wanted()

    @property
    def is_part(self) -> bool:
        """Whether only a part of the trace is read."""
        return self.trace_from_s > 0.0 or self.trace_until_s is not None

    @property
    def end_s(self) -> float:
        """Where the part that is read ends."""
        return float("inf") if self.trace_until_s is None else self.trace_until_s

    def own_columns(self) -> dict[str, str]:
        """Role -> column, of those that the user names."""
        pairs = _pairs("trace_columns", self.trace_columns)
        for role in pairs:
            if role not in ROLES:
                raise BadInput(unknown("part of trace_columns", role, ROLES))
        missing = [role for role in ROLES[:3] if role not in pairs]
        if pairs and missing:
            raise BadInput(f"trace_columns needs {' and '.join(missing)}, as in time=ts,input=prompt,output=answer")
        return pairs

    def wanted(self) -> dict[str, str]:
        """Column -> the value that requests must have."""
        return _pairs("trace_only", self.trace_only)

    def format_of(self, shown: str, columns: Sequence[str], is_document: bool) -> Format:
        """The format of a file with these columns. shown: names it.  BadInput if none fits."""
        own = self.own_columns()
        if own:
            form = Format(
                name="columns", title="your own columns", time=(own["time"],), unit=ASK, prompt=own["input"],
                output=own["output"], cached=own.get("cached", ""), hashes=own.get("hashes", ""),
                session=own.get("session", ""), skips=False, relative=True,
            )  # fmt: skip
            check_columns(shown, columns, form)
        else:
            form = found_in(shown, columns, is_document, self.trace_format)
        if self.hash_block is not None and form.name == "flashstill":
            raise BadInput(f"hash_block is of hash_ids; a column of {shown} says it itself, as block_hashes512")
        return form


def _pairs(name: str, text: str | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in (text or "").split(",") if text else ():
        key, sign, value = part.partition("=")
        if not sign or not key.strip() or key.strip() in pairs:
            raise BadInput(f"{name} is {shortened(text or '')!r}; write pairs as time=ts,input=prompt,output=answer")
        pairs[key.strip()] = value.strip()
    return pairs


DEFAULT = Reading()
READING = tuple(Reading.__dataclass_fields__)
