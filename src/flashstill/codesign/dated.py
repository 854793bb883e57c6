"""What was known at the end of a year: facts without later chips, memories, processes and quotes.

    chip       known from its year in machines.csv on
    memory     known from its row known_year on, in volume from volume_year on; processes (node-5) alike
    quote      a row whose condition begins with a year, as in "2022" or "2025 for 2027": known in the first, true of
               the second
    price      dollars of a wafer and of a byte of memory are those of the latest quote known by then; a process or
               memory without one takes the trend of the quotes (roadmap.py)

Not dated, and so the same in every year: coefficients of kernels and of the area model, electricity, interest, prices
of servers.  They describe kinds of machines and places rather than the progress of a year.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from flashstill.errors import BadInput
from flashstill.facts import Fact, Facts

EARLIEST, LATEST = 1990, 2100
_DATED = re.compile(r"((?:19|20)\d\d)(?: for ((?:19|20)\d\d))?(?![\w-])", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """A row with dates. known, true: the year in which it was published, and the year that it speaks of."""

    known: int
    true: int
    row: Fact


def check_year(name: str, year: int) -> int:
    """The year; BadInput if it lies beyond the calendar of the trends."""
    if not EARLIEST <= year <= LATEST:
        raise BadInput(f"{name} must lie between {EARLIEST} and {LATEST}, not {year}")
    return year


def quotes(facts: Facts, name: str, quantity: str) -> tuple[Quote, ...]:
    """The dated rows of one quantity, oldest first; rows without a year in their condition are left out."""
    rows = ((_DATED.match(row.condition), row) for row in facts.rows.get((name, quantity), ()))
    found = [Quote(known=int(date[1]), true=int(date[2] or date[1]), row=row) for date, row in rows if date]
    return tuple(sorted(found, key=lambda quote: (quote.true, quote.known)))


def latest_quote(facts: Facts, name: str, quantity: str) -> Quote | None:
    """The last published one, or None."""
    return max(quotes(facts, name, quantity), key=lambda quote: (quote.known, quote.true), default=None)


def last_year(facts: Facts) -> int:
    """The year of the newest machine: rows are known up to its end."""
    return max(machine.year for machine in facts.machines.values())


def known_until(facts: Facts, as_of: int | None) -> int:
    """The last year whose rows may be used: as_of, or the newest machine's; BadInput if none tells of it."""
    last = last_year(facts)
    if as_of is None:
        return last
    if check_year("as_of", as_of) > last:
        raise BadInput(f"as_of is {as_of}, and no row tells what was known after {last}; leave it out for all rows")
    return as_of


def known_by(facts: Facts, year: int) -> Facts:
    """The facts without chips, memories, processes and quotes that were not known at the end of `year`."""
    check_year("as_of", year)
    machines = {name: machine for name, machine in facts.machines.items() if machine.year <= year}
    unknown = set(facts.machines) - set(machines)
    unknown |= {name for (name, what), rows in facts.rows.items() if what == "known_year" and rows[0].value > year}
    kept = {
        (name, quantity): left
        for (name, quantity), rows in facts.rows.items()
        if name not in unknown and (left := tuple(row for row in rows if not _is_later(row, year)))
    }
    return Facts(rows=kept, machines=machines, edits=facts.edits)


def _is_later(row: Fact, year: int) -> bool:
    dated = _DATED.match(row.condition)
    return dated is not None and int(dated[1]) > year
