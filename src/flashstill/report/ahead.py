"""The pages of `trends`, `ceiling` and `arrays`: lines with their bands, a map of ceilings, arrays by edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashstill.report.axes import YEAR, Axis
from flashstill.report.heat import heat
from flashstill.report.line_chart import line_chart
from flashstill.report.pages import Page
from flashstill.report.scatter import Front, Point, scatter
from flashstill.report.sections import Document, Section
from flashstill.report.stacks import Stack, stacks
from flashstill.report.svg import Line
from flashstill.report.whiskers import Whisker, whiskers
from flashstill.units import show

_DRAWN = ("flops_per_s.16 bits", "memory_bytes", "memory_bytes_per_s", "power_limit_w", "link_bytes_per_s")
"""trends of chips with a drawing of their own"""


def trends_page(document: Document) -> Page:
    """Keys: as `flashstill trends --json` prints them."""
    plan = document["roadmap"]
    sections = [_doubling(document), *_lines(document), _memories(document), _back_test(document)]
    return Page(
        title=f"A chip that lands in {plan['year']}",
        subtitle=f"What it can be made of, by what was known at the end of {plan['as_of']}. Bands hold one further chip"
        " with the probability of the fact row band_ratio.",
        facts=[
            ("process", f"{plan['node_nm']:g} nm"),
            ("a wafer", show(plan["usd_per_wafer"]["value"], "USD")),
            ("watts of a package", _band(plan["package_w"])),
            ("link rate of a chip", _band(plan["link_bytes_per_s"])),
        ],
        sections=[each for each in sections if each is not None],
        shown=("roadmap", "trends", "back_test"),
    )


def _band(spread: Mapping[str, Any]) -> str:
    value, low, high = (show(spread[name], spread["unit"]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _doubling(document: Document) -> Section:
    found = [(trend["what"], trend["doubling_years"]) for trend in document["trends"].values()]
    rows = [Whisker(name=name, **times) for name, times in found]
    return Section(
        title="How fast what doubles",
        text="Years of a doubling, of lines through the logarithms of dated rows, with their bands; a band without an"
        " upper end holds no doubling at all.",
        charts=[("Years of a doubling", whiskers(rows, Axis(title="years", from_zero=True), "years of a doubling"))],
        headings=("what", "years", "from", "to"),
        rows=[[name, *(_years(times[end]) for end in ("value", "low", "high"))] for name, times in found],
    )


def _years(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"


def _lines(document: Document) -> list[Section]:
    plan, found = document["roadmap"], []
    for name in _DRAWN:
        trend, coming = document["trends"].get(name), plan["chips"].get(name)
        if trend is None or coming is None:
            continue
        seen = [Point(x=point["year"], y=point["value"], label=point["name"]) for point in trend["points"]]
        ahead = Point(
            x=plan["year"], y=coming["value"], y_low=coming["low"], y_high=coming["high"], label=str(plan["year"]),
            series=2, is_strong=True,
        )  # fmt: skip
        y = Axis(title=trend["what"], unit=trend["unit"], log=True)
        drawn = scatter(
            [*seen, ahead],
            Axis(title="year", unit=YEAR),
            y,
            f"{trend['what']} by year",
            fronts=[_front(seen, ahead, trend["doubling_years"]["value"])],
        )
        found.append(
            Section(
                title=trend["what"],
                text=coming["basis"],
                charts=[(trend["what"], drawn)],
                headings=("chip", "year", "value"),
                rows=[[point.label, f"{point.x:.0f}", show(point.y, trend["unit"])] for point in [*seen, ahead]],
            )
        )
    return found


def _front(seen: Sequence[Point], ahead: Point, years: float | None) -> Front:
    """The fitted line from the first year that was seen to the one that is asked for."""
    first = min(point.x for point in seen)
    times = 1.0 if not years else 2.0 ** ((first - ahead.x) / years)
    return Front(points=[(first, ahead.y * times), (ahead.x, ahead.y)], series=2)


def _memories(document: Document) -> Section:
    kinds = document["roadmap"]["memories"]
    names = ("stack_bytes", "stack_bytes_per_s", "pj_per_bit", "usd_per_byte")
    return Section(
        title="Memories in volume by then",
        headings=("memory", "bytes of a stack", "bytes a second", "pJ a bit", "dollars a byte"),
        rows=[[name, *(_number(kind[each]) for each in names)] for name, kind in kinds.items()],
        sources=sorted({kind["stack_bytes_per_s"]["basis"] for kind in kinds.values()}),
    )


def _number(spread: Mapping[str, Any]) -> str:
    return f"{spread['value']:.3g}" if spread["unit"].startswith("USD") else _band(spread)


def _back_test(document: Document) -> Section | None:
    guesses = document["back_test"]["guesses"]
    if not guesses:
        return None
    came = list(document["back_test"]["came"])
    rows = [Whisker(name=guess["name"], value=min(guess["distances"].values())) for guess in guesses]
    axis = Axis(title="distance to the nearest that came, doublings", from_zero=True)
    return Section(
        title="Back-test",
        text="Root of the mean square of log2 of the four ratios (16-bit FLOP/s, memory, bandwidth, watts).",
        charts=[("Distance to what came", whiskers(rows, axis, "distance of each guess"))],
        headings=("guess", *(f"from {name}" for name in came)),
        rows=[[guess["name"], *(f"{guess['distances'][name]:.2f}" for name in came)] for guess in guesses],
    )


def ceiling_page(document: Document) -> Page:
    """Keys: as `flashstill ceiling --json` prints them."""
    rows = document["rows"]
    sections = []
    for context in dict.fromkeys(row["context"] for row in rows):
        found = {(row["memory"], row["sync_s"]): row for row in rows if row["context"] == context}
        memories = list(dict.fromkeys(memory for memory, _ in found))
        syncs = list(dict.fromkeys(sync for _, sync in found))
        values = [[_rate(found.get((memory, sync))) for sync in syncs] for memory in memories]
        names = [show(sync, "s") for sync in syncs]
        drawn = heat(memories, names, values, f"tokens a second at {context:,} cached tokens", log=True)
        sections.append(
            Section(
                title=f"{context:,} cached tokens",
                text="Tokens a second for one user, by memory (rows) and least time of a collective (columns).",
                charts=[("Tokens a second", drawn)],
                headings=("memory", *names),
                rows=[
                    [memory, *("does not fit" if value is None else f"{value:,.0f}" for value in line)]
                    for memory, line in zip(memories, values, strict=True)
                ],
            )
        )
    return Page(
        title=f"The ceiling of one user of {document['model']}",
        subtitle="At any cost, all peaks reached, over all layouts.",
        facts=[
            (f"reach {document['wanted_tokens_per_s']:,.0f} tokens a second", f"{document['reached']} of {len(rows)}")
        ],
        sections=sections,
        shown=("reached", "wanted_tokens_per_s"),
    )


def _rate(row: Mapping[str, Any] | None) -> float | None:
    return None if row is None else float(row["tokens_per_s"])


def arrays_page(document: Document) -> Page:
    """Keys: as `flashstill arrays --json` prints them."""
    rows = document["rows"]
    names = [f"{row['arrays']:,} x {row['edge']} x {row['edge']}" for row in rows]
    parts = [Stack(name=name, parts=row["joules"]) for name, row in zip(names, rows, strict=True)]
    line = Line(name="energy x delay", points=[(row["edge"], row["energy_delay_js"]) for row in rows], dots=True)
    edge = Axis(title="edge of an array", log=True)
    curve = line_chart([line], edge, Axis(title="joules x seconds", unit="J s", log=True), "energy x delay by edge")
    heading = ("arrays", "seconds", "busy", "joules", "J s", "best in draws")
    return Page(
        title=f"Systolic arrays for {document['model']}",
        subtitle=f"{document['tokens']:,} tokens in {document['precision']} at {document['node_nm']} nm.",
        facts=[("best energy x delay", f"{document['best_edge']} x {document['best_edge']}")],
        sections=[
            Section(
                title="By edge",
                charts=[("Energy x delay", curve), ("Energy by part", stacks(parts, "J", "energy by part"))],
                headings=heading,
                rows=[
                    [name, f"{row['seconds']:.3g}", f"{row['utilisation']:.0%}", f"{row['total_joules']:.3g}",
                     f"{row['energy_delay_js']:.3g}", f"{row['best_share']:.0%}"]
                    for name, row in zip(names, rows, strict=True)
                ],
            )
        ],
        shown=("best_edge",),
    )  # fmt: skip
