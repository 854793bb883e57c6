"""The page of `codesign --search`: the chip to build, the front, regrets over futures, features, the nearest chips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashstill.report.axes import Axis
from flashstill.report.heat import heat
from flashstill.report.pages import Page
from flashstill.report.scatter import Front, Point, scatter
from flashstill.report.sections import Document, Section

_SHOWN = ("objectives", "objective", "best", "futures", "regret", "front", "insurance", "searched", "infeasible")
_UNITS = {"usd": ("dollars per million tokens", "USD"), "joules": ("joules per token", "J"),
          "latency": ("seconds per token", "s")}  # fmt: skip


def chip_search_page(document: Document) -> Page:
    """Keys: as `flashstill codesign --search --json` prints them."""
    best, found = document["best"], document["searched"]
    facts = [
        ("the chip to build", best["words"]),
        ("a package, with board and host", f"${best['purchase_usd']:,.0f}"),
        ("once, for the design", f"${best['design_usd'] / 1e6:,.0f} million"),
        ("designs", f"{found['designs']:,} searched, {found['priced_in_full']:,} priced in full"),
        ("between the points of the grid", f"{found['refined']:,} more, {_percent(-found['refined_saves'])}"),
    ]
    sections = [_front(document), _served(best), *_regrets(document), *_features(document), _nearest(best),
                _counts(document)]  # fmt: skip
    words, *_ = _UNITS.get(document["objective"], (document["objective"],))
    return Page(
        title="Which chip to build",
        subtitle=f"By {words}: every design of the space is bounded from below, and priced in full until no bound left"
        " is below the best price.",
        facts=facts,
        sections=sections,
        shown=_SHOWN,
    )


def _front(document: Document) -> Section:
    front = document["front"]
    points = [Point(x=one["latency"], y=one["usd"], words=one["words"], series=1) for one in front]
    axes = {name: Axis(title=title, unit=unit, log=True) for name, (title, unit) in _UNITS.items()}
    more = [Point(x=one["joules"], y=one["usd"], words=one["words"], series=2) for one in front]
    lines = [Front(points=_least([(one["latency"], one["usd"]) for one in front]), is_step=True)]
    return Section(
        title="The front",
        text="Designs, each on a deployment, that no other design priced in full beats in dollars, joules and seconds.",
        charts=[
            ("Dollars and seconds per token", scatter(points, axes["latency"], axes["usd"],
                                                      "Dollars against seconds per token", fronts=lines)),
            ("Dollars and joules per token", scatter(more, axes["joules"], axes["usd"],
                                                     "Dollars against joules per token")),
        ],
        headings=["$/Mtok", "J/token", "s/token", "design"],
        rows=[[f"{one['usd']:.4g}", f"{one['joules']:.4g}", f"{one['latency']:.4g}", one["words"]] for one in front],
    )  # fmt: skip


def _least(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points below which none lies further left."""
    kept: list[tuple[float, float]] = []
    for place in sorted(points):
        if not kept or place[1] < kept[-1][1]:
            kept.append(place)
    return kept


def _served(best: Mapping[str, Any]) -> Section:
    rows = [
        [one["load"], str(one["chips"]), f"{one['tp']} {one['pp']} {one['ep']} {one['dp']}", str(one["batch"]),
         f"{one['usd'] * 1e6:.4g}", f"{one['joules']:.4g}", f"{one['latency']:.4g}", f"{one['ttft_s']:.4g}"]
        for one in best["loads"]
    ]  # fmt: skip
    headings = ["load", "chips", "tp pp ep dp", "batch", "$/Mtok", "J/token", "s/token", "ttft, s"]
    return Section(title="How it serves each load", headings=headings, rows=rows)


def _regrets(document: Document) -> list[Section]:
    regret = document["regret"]
    if regret is None:
        return []
    names = [future["name"] for future in document["futures"]]
    rows = [" and ".join(one["best_for"]) for one in regret["designs"]]
    values = [[one["regret"][name] for name in names] for one in regret["designs"]]
    chart = heat(rows, names, values, "What each design costs more than the best of a future", _percent)
    return [
        Section(
            title="Having guessed wrong",
            text="Rows: designs that are best for something. Columns: the future that comes. The rise of a token's cost"
            " over that on the best design of that future.",
            charts=[("Regret", chart)],
            headings=["best for", *names, "largest", "design"],
            rows=[
                [row, *(_percent(value) for value in line), _percent(one["largest"]), one["design"]["words"]]
                for row, line, one in zip(rows, values, regret["designs"], strict=True)
            ],
        )
    ]


def _features(document: Document) -> list[Section]:
    rows = [
        [one["name"], _percent(one["area"]), _percent(one["multipliers"]), _percent(one["premium"]),
         _percent(one["gain"]), one["world"], "never" if one["pays_above"] is None else f"{one['pays_above']:.1%}"]
        for one in document["insurance"]
    ]  # fmt: skip
    headings = ["feature", "area", "multipliers", "costs", "saves", "where", "worth it above a probability of"]
    text = "What a few per cent of area cost while no model uses them, and save where one does."
    return [Section(title="Features as insurance", text=text, headings=headings, rows=rows)] if rows else []


def _nearest(best: Mapping[str, Any]) -> Section:
    near = best["nearest"]
    names = list(dict.fromkeys(name for one in near for name in one["ratios"]))
    rows = [
        [one["title"], str(one["year"]), f"{one['distance']:.2f}",
         *(f"{one['ratios'][name]:.2f}" if name in one["ratios"] else "" for name in names)]
        for one in near
    ]  # fmt: skip
    text = "Ratio of each number of the design to that of the chip; distance: root mean square of their logarithms."
    return Section(
        title="Chips that exist nearest to it", text=text, headings=["chip", "year", "distance", *names], rows=rows
    )


def _counts(document: Document) -> Section:
    rows = [[reason, f"{count:,}"] for reason, count in document["infeasible"].items()]
    return Section(title="Designs that cannot be made or cannot serve", headings=["reason", "designs"], rows=rows)


def _percent(ratio: float | None) -> str:
    return "cannot" if ratio is None else f"{ratio * 100:+.1f} %"
