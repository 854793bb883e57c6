"""What a chip that lands in a year can be made of, by what was known when it was decided.

    process     the newest that is in volume by then (node_lag_years of the rows `roadmap` before the chip lands)
    price       of a wafer or a byte of memory: the fact row, from the year of its as_of on; in an earlier year the
                latest quote of then, or for a process without one the trend of wafer prices over the years of
                processes, for a memory without one the latest quote of its kind
    memory      kinds in volume by then; beside them the next generation of HBM by trend (hbm-trend), if none that is
                known comes within the usual gap between two of them
    package     the largest interposer that is offered by then, or the trend of those offered so far
    cooling     the line through the largest power limit of each year: what could be cooled
    the rest    trends of chips (trends.py), each with its band

A user's own row (--set, --facts) of the interposer or the cooling counts as it is, from the year of its as_of on.
`facts_of` gives the same as fact rows, so that everything that reads facts can price such a chip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from flashstill.codesign.dated import check_year, known_by, known_until
from flashstill.codesign.future import MemoryKind, Roadmap, Spread
from flashstill.codesign.roadmap_prices import (
    byte_usd,
    largest_offered,
    priced_memories,
    reticle_mm2,
    spread_of,
    users_own,
    wafer_usd,
)
from flashstill.codesign.trends import (
    CHIPS,
    chip_trend,
    generations,
    limit_trend,
    stack_trend,
)
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import Fact, Facts

NEXT = "hbm-trend"
"""name of the generation of HBM that is extrapolated"""
_PER_MM2 = "flops_per_s_per_mm2."
_NEEDED = (f"{_PER_MM2}16 bits", "stacks", "link_bytes_per_s", "power_limit_w")
"""trends without which there is no roadmap"""
SOURCE = "flashstill trends: extrapolated from dated rows (docs/futures.md)"


def roadmap(facts: Facts, year: int, as_of: int | None = None) -> Roadmap:
    """What a chip that lands in `year` can be made of. as_of: the last year whose rows may be used; None for all.

    Raises BadInput for a year that is not after as_of or beyond the calendar, MissingFact where too few dated rows
    are known for a trend.
    """
    known, last = _known(facts, year, as_of)
    node = _node(known, year)
    others: dict[str, Spread] = {}
    lacking: list[str] = []
    for key, (what, _, _) in CHIPS.items():
        try:
            others[key] = chip_trend(known, key).at(year)
        except MissingFact:
            if key in _NEEDED:
                raise
            lacking.append(what)
    return Roadmap(
        year=year,
        as_of=last,
        node_nm=node,
        flops_per_s_per_mm2={
            key.removeprefix(_PER_MM2): value for key, value in others.items() if key.startswith(_PER_MM2)
        },
        mac_energy_ratio=spread_of(known.get(f"node-{node:g}", "logic_energy_ratio")),
        usd_per_wafer=wafer_usd(known, f"node-{node:g}", last),
        memories=_memories(known, year, last),
        stacks=others["stacks"],
        link_bytes_per_s=others["link_bytes_per_s"],
        package_w=users_own(facts, "cooling", "package_w", last) or limit_trend(known, "power_limit_w").at(year),
        die_mm2=reticle_mm2(known),
        package_mm2=users_own(facts, "cowos", "carrier_mm2", last)
        or largest_offered(known, "cowos", "carrier_mm2_offered", year),
        others=others,
        notes=(*((few_rows(last, lacking),) if lacking else ()), *_left_out(known, year, last, node)),
    )


def _left_out(facts: Facts, year: int, last: int, node: float) -> tuple[str, ...]:
    """Notes on what a chip of that year will have and no row tells of: memories without a price, a newer process."""
    notes = []
    unpriced = [name for name, what in facts.rows if what == "volume_year" and facts.find(name, "usd_per_byte")]
    missing = [
        name
        for name in unpriced
        if name not in priced_memories(facts, last) and facts.value(name, "volume_year") <= year
    ]
    if missing:
        notes.append(f"left out, as no price was quoted by {last}: {', '.join(missing)}")
    years = sorted(
        {
            rows[0].value
            for (name, what), rows in facts.rows.items()
            if what == "volume_year" and name.startswith("node-")
        }
    )
    gap = (years[-1] - years[0]) / (len(years) - 1) if len(years) > 1 else np.inf
    if years and facts.value(f"node-{node:g}", "volume_year") + gap < year - facts.value("roadmap", "node_lag_years"):
        notes.append(f"no row tells of a process after {node:g} nm, and a chip of {year} will be made in a newer one")
    return tuple(notes)


def few_rows(last: int, lacking: Sequence[str]) -> str:
    """The note on trends for which too few dated rows are known."""
    return f"too few dated rows at the end of {last} for trends of {', '.join(lacking)}"


def facts_of(facts: Facts, year: int, as_of: int | None = None) -> Facts:
    """The facts as known at the end of `as_of`, with the roadmap's own rows for a chip that lands in `year`.

    Replaced: dollars of wafers and of bytes of memory, the largest interposer, the watts of a package.  Added:
    hbm-trend.
    """
    known, last = _known(facts, year, as_of)
    plan = roadmap(facts, year, as_of)
    rows = [
        _fact("cowos", "carrier_mm2", plan.package_mm2, "package"),
        _fact("cooling", "package_w", plan.package_w, "package"),
    ]
    for name in [owner for owner, what in known.rows if what == "volume_year"]:
        if known.find(name, "usd_per_wafer"):
            rows.append(_fact(name, "usd_per_wafer", wafer_usd(known, name, last), "wafer"))
    for name in priced_memories(known, last):
        if known.find(name, "usd_per_byte"):
            rows.append(_fact(name, "usd_per_byte", byte_usd(known, name, last), "stack"))
    if NEXT in plan.memories:
        coming = plan.memories[NEXT]
        rows += [_fact(NEXT, name, getattr(coming, name), "stack") for name in (*_STACK, "usd_per_byte")]
    return known.with_rows(rows)


_STACK = ("stack_bytes", "stack_bytes_per_s", "pj_per_bit")


def _known(facts: Facts, year: int, as_of: int | None) -> tuple[Facts, int]:
    check_year("year", year)
    last = known_until(facts, as_of)
    if year < last:
        raise BadInput(f"the year must be {last} or later, the last of which the rows tell, not {year}")
    return known_by(facts, last), last


def _node(facts: Facts, year: int) -> float:
    """Nanometres of the newest process in volume early enough for a chip of `year`; it needs the rows of a design."""
    lag = facts.value("roadmap", "node_lag_years")
    found = [
        (rows[0].value, -float(name.removeprefix("node-")))
        for (name, quantity), rows in facts.rows.items()
        if quantity == "volume_year" and name.startswith("node-") and rows[0].value + lag <= year
    ]
    if not found:
        raise MissingFact(f"no process with a row volume_year is in volume {lag:g} years before {year}")
    return -max(found)[1]


def _memories(facts: Facts, year: int, last: int) -> Mapping[str, MemoryKind]:
    lag = facts.value("roadmap", "memory_lag_years")
    names = [name for name in priced_memories(facts, last) if facts.find(name, "stack_bytes")]
    kinds = {name: _memory(facts, name, last) for name in names if facts.value(name, "volume_year") + lag <= year}
    coming = generations(facts, year - lag)
    gap = (coming[-1][1] - coming[0][1]) / (len(coming) - 1) if len(coming) > 1 else np.inf
    if coming and coming[-1][1] <= year - lag - gap:
        kinds[NEXT] = _next(facts, year, last, kinds[coming[-1][0]])
    return kinds


def _memory(facts: Facts, name: str, last: int) -> MemoryKind:
    beneath = facts.find(name, "beneath_mm2")
    return MemoryKind(
        name=name,
        stack_bytes=spread_of(facts.get(name, "stack_bytes")),
        stack_bytes_per_s=spread_of(facts.get(name, "stack_bytes_per_s")),
        pj_per_bit=spread_of(facts.get(name, "pj_per_bit")),
        usd_per_byte=byte_usd(facts, name, last),
        since=spread_of(facts.get(name, "volume_year")),
        stacked=beneath is not None and beneath.value > 0.0,
    )


def _next(facts: Facts, year: int, last: int, newest: MemoryKind) -> MemoryKind:
    """The generation of HBM of a year by trend; a byte costs what one of the newest known does."""
    since = Spread(value=year, low=year, high=year, unit="year", basis="the year that is asked for")
    size, rate, energy = (stack_trend(facts, name, last).at(year) for name in _STACK)
    return replace(newest, name=NEXT, since=since, stack_bytes=size, stack_bytes_per_s=rate, pj_per_bit=energy)


def _fact(name: str, quantity: str, spread: Spread, per: str) -> Fact:
    return Fact(
        name=name,
        quantity=quantity,
        value=spread.value,
        low=spread.low,
        high=spread.high,
        unit=spread.unit,
        per=per,
        condition="",
        kind="estimate",
        source=SOURCE,
        as_of="by trend",
        note=spread.basis,
    )
