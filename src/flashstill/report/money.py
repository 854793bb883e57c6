"""Sections that pages about money share: what a price is made of, what drives a figure, and every other number.

They are drawn from the JSON answer of a command alone, so that a saved answer gives the same page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flashstill.report.amounts import dollars, short
from flashstill.report.sections import Document, Pairs, Section, cell
from flashstill.report.tornado import Driver, tornado, width_of
from flashstill.report.waterfall import Step, waterfall

COMMON = ("schema", "version", "question", "edits", "notes", "sources", "fits")
"""keys of an answer that no section of numbers shows"""
LONGEST = 400
"""rows of a table; a longer list is sampled evenly, and says so"""
Show = Callable[[float], str]


def words(key: str) -> str:
    """A key of an answer as words: usd_per_million_tokens is "$ per million tokens", life_years "life (years)"."""
    parts = key.split("_")
    unit = {"s": "s", "j": "J", "w": "W", "years": "years", "months": "months", "ratio": "ratio", "kg": "kg"}
    if len(parts) > 1 and parts[-1] in unit:
        return f"{' '.join(parts[:-1])} ({unit[parts[-1]]})"
    spelt = ["$" if part == "usd" else part for part in parts]
    if len(spelt) > 1 and spelt[-1] == "$":
        return f"{' '.join(spelt[:-1])} ($)"
    return " ".join(spelt)


def value(key: str, held: Any) -> str:
    """A value of an answer as text; dollars where its key says so."""
    if isinstance(held, int | float) and not isinstance(held, bool):
        if "usd" in key.split("_"):
            return dollars(float(held))
        return f"{held:,}" if isinstance(held, int) and abs(held) < 1e9 else plain(float(held))
    return cell(held)


def made_of(
    title: str,
    parts: Mapping[str, float],
    total: str,
    unit: str,
    text: str = "",
    more: Sequence[Step] = (),
    sources: Sequence[str] = (),
    show: Show = dollars,
) -> Section:
    """A waterfall of the parts of a price, their sum, and steps after it; each part's share of the sum beside it."""
    named = [Step(name=words(name), value=float(part)) for name, part in parts.items()]
    whole = sum(step.value for step in named)
    steps = [*named, Step(name=total, value=whole, is_total=True), *more]
    rows = [
        [step.name, plain(step.value), f"{step.value / whole:.1%}" if whole and step in named else ""] for step in steps
    ]
    return Section(
        title=title,
        text=text,
        charts=[(f"{total}, {unit}", waterfall(steps, unit, f"what {total} is made of, {unit}", show))],
        headings=["part", unit, "share"],
        rows=rows,
        sources=sources,
    )


def plain(number: float) -> str:
    """A number in full below ten digits: 200,000,000, 3,047.6, 1.234."""
    return f"{number:,.0f}" if 1e4 <= abs(number) < 1e12 else f"{number:,.5g}"


def driven_by(drivers: Sequence[Document], base: float | None, figure: str, show: Show = short) -> Section | None:
    """A tornado of the fact rows that move a figure, with their ranges, Sobol indices and sources; None without one.

    drivers: rows with name, quantity, unit, value, low, high, source, first, total, at_low, at_high.
    """
    if not drivers or base is None:
        return None
    drawn = ends_of(drivers, "at_low", "at_high")
    order = sorted(range(len(drawn)), key=lambda number: -width_of(drawn[number], base))
    rows = []
    for number in order:
        each = drivers[number]
        rows.append([
            drawn[number].name, f"{each['low']:.4g} to {each['high']:.4g}", f"{each['value']:.4g}", str(each["unit"]),
            _end(each["at_low"], show), _end(each["at_high"], show), _share(each, "first"), _share(each, "total"),
        ])  # fmt: skip
    return Section(
        title="What it depends on",
        text=f"{figure[:1].upper()}{figure[1:]} with one fact row at either end of its range and all others at their"
        " values. A Sobol index is the share of the variance that a row explains alone (first) or with others (total).",
        charts=[(figure, tornado(drawn, base, figure, f"{figure}, by what drives it", show))],
        headings=["fact row", "range", "value", "unit", "at low", "at high", "Sobol first", "Sobol total"],
        rows=rows,
        sources=once(f"{each['name']}: {each['source']}" for each in (drivers[number] for number in order)),
    )


def ends_of(drivers: Sequence[Document], at_low: str, at_high: str) -> list[Driver]:
    """Rows as a tornado draws them; at_low, at_high: the keys of a figure at either end."""
    return [
        Driver(name=f"{each['name']}: {each['quantity'].replace('_', ' ').replace('usd', '$')}",
               low=each[at_low], high=each[at_high])
        for each in drivers
    ]  # fmt: skip


def _end(end: float | None, show: Show) -> str:
    return "never" if end is None else show(end)


def _share(driver: Document, index: str) -> str:
    share, error = driver.get(index), driver.get(f"{index}_error")
    if share is None:
        return ""
    return f"{share:.3f}" if error is None else f"{share:.3f} ± {error:.3f}"


def table(title: str, rows: Sequence[Document], text: str = "", sources: Sequence[str] = ()) -> Section:
    """A table of records; columns that are lists or objects are left out, and of a long list every n-th is shown."""
    pace = -(-len(rows) // LONGEST)
    shown = rows[:: max(pace, 1)]
    columns = [
        key for key in dict.fromkeys(key for row in shown for key in row)
        if not any(isinstance(row.get(key), Mapping | list) for row in shown)
    ]  # fmt: skip
    thinned = f"One row in {pace} of {len(rows):,}." if pace > 1 else ""
    return Section(
        title=title,
        text=" ".join(filter(None, (text, thinned))),
        headings=[words(key) for key in columns],
        rows=[[value(key, row.get(key)) for key in columns] for row in shown],
        sources=sources,
    )


def others(document: Document, shown: Iterable[str] = ()) -> list[Section]:
    """A section for every part of an answer that is not shown elsewhere: objects as pairs, lists of objects as tables.

    Single values are one section together.
    """
    hidden = {*COMMON, *shown}
    sections, single = [], []
    for key, held in document.items():
        if key in hidden or held is None or held in ((), [], {}):
            continue
        if isinstance(held, Mapping):
            pairs = flat(held)
            sections.append(Section(title=_title(key), headings=["", "value"], rows=[list(pair) for pair in pairs]))
        elif isinstance(held, list | tuple) and all(isinstance(each, Mapping) for each in held):
            sections.append(table(_title(key), held))
        else:
            single.append([words(key), value(key, held)])
    if single:
        sections.insert(0, Section(title="More numbers", headings=["", "value"], rows=single))
    return sections


def flat(held: Document, before: str = "") -> list[tuple[str, str]]:
    """Names and values of an object, those of inner objects with both names; lists of objects are counted."""
    pairs: list[tuple[str, str]] = []
    for key, each in held.items():
        name = f"{before}{words(key)}"
        if isinstance(each, Mapping):
            pairs += flat(each, f"{name}: ")
        elif isinstance(each, list | tuple) and any(isinstance(one, Mapping | list | tuple) for one in each):
            pairs.append((name, f"{len(each):,} entries"))
        elif each is not None:
            pairs.append((name, value(key, each)))
    return pairs


def question_of(document: Document) -> Pairs:
    """What was asked, as the answer repeats it, and the rows that were edited."""
    edits = [(f"edited: {number}", cell_of_edit(edit)) for number, edit in enumerate(document.get("edits") or (), 1)]
    return [*flat(document.get("question") or {}), *edits]


def cell_of_edit(edit: Any) -> str:
    """A changed fact row in one line."""
    return ", ".join(f"{key} {cell(each)}" for key, each in edit.items()) if isinstance(edit, Mapping) else cell(edit)


def once(lines: Iterable[str]) -> list[str]:
    """The lines without repetitions, in order."""
    return list(dict.fromkeys(line for line in lines if line))


def _title(key: str) -> str:
    title = words(key)
    return f"{title[:1].upper()}{title[1:]}"
