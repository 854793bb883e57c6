"""The page of `codesign`: tornadoes of one chip's numbers, or heat maps of many chips, and what binds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashstill.report.amounts import dollars
from flashstill.report.chip_search import chip_search_page
from flashstill.report.elasticities import LEAST, OBJECTIVES, elasticity_tornado
from flashstill.report.heat import heat
from flashstill.report.pages import Page
from flashstill.report.sections import Document, Section

_SHOWN = ("objectives", "step", "elasticities", "binding", "doubling", "factors", "by_chip", "pairs", "parameters")


def codesign_page(document: Document) -> Page:
    """Keys: as `flashstill codesign --json` prints them, or as it does with --search."""
    if "searched" in document:
        return chip_search_page(document)
    pairs = document["pairs"]
    models, chips = (list(dict.fromkeys(pair[key] for pair in pairs)) for key in ("model", "chip"))
    draw = _tornado if len(chips) == 1 else _heat
    sections = [draw(document, objective) for objective in OBJECTIVES]
    subject = f"{_listed(models)} on {_listed(chips)}"
    return Page(
        title=f"Which number of the chip buys most: {subject}",
        subtitle="Per cent of the cost per token for one per cent of a number of the chip, the deployment chosen anew"
        f" for each. {'Means over the models. ' if len(models) > 1 else ''}Each cost has its own best configuration.",
        facts=_facts(document),
        sections=[*(each for each in sections if each is not None), *_doublings(document), *_optima(document)],
        shown=_SHOWN,
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} others"


def _facts(document: Document) -> list[tuple[str, str]]:
    return [
        (f"binds {OBJECTIVES[objective]}", f"{one['parameter']} ({one['gain']:.2f} % less for 1 %)")
        for objective, one in document["binding"].items()
    ]


def _tornado(document: Document, objective: str) -> Section | None:
    found = {name: of[objective] for name, of in document["elasticities"].items() if of.get(objective) is not None}
    if not any(abs(value) >= LEAST for value in found.values()):
        return None
    name = OBJECTIVES[objective]
    jumping = {number for pair in document["pairs"] for number, of in pair["jumps"].items() if objective in of}
    chart, left_out = elasticity_tornado(found, jumping, name)
    ordered = sorted(found.items(), key=lambda item: -abs(item[1]))
    return Section(
        title=f"{name.capitalize()} per token",
        text=f"{document['objectives'][objective].capitalize()}. {left_out}".strip(),
        charts=[(f"Elasticities of {name}", chart)],
        headings=["number of the chip", "d ln(cost) / d ln(number)"],
        rows=[[number, f"{value:+.4f}"] for number, value in ordered],
    )


def _heat(document: Document, objective: str) -> Section | None:
    table: Mapping[str, Mapping[str, Any]] = document["by_chip"]
    names = [
        name
        for name in dict.fromkeys(name for of in table.values() for name in of)
        if any(abs(of.get(name, {}).get(objective) or 0.0) >= LEAST for of in table.values())
    ]
    if not names:
        return None
    values = [[of.get(name, {}).get(objective) for name in names] for of in table.values()]
    name = OBJECTIVES[objective]
    # Jumps of a configuration can be large: colours stop at one per cent for one per cent.
    drawn = [[None if value is None else max(-1.0, min(1.0, value)) for value in row] for row in values]
    chart = heat(
        list(table), names, drawn, f"{name}: d ln(cost) / d ln(number), means over models", _hundredths, 0.0,
        legend=("cheaper with more", "dearer with more"),
    )  # fmt: skip
    return Section(
        title=f"{name.capitalize()} per token",
        text=f"{document['objectives'][objective].capitalize()}. Beyond 1 in size, where a larger batch or another"
        " configuration comes into reach, the colour stays that of 1.",
        charts=[(f"Elasticities of {name}", chart)],
        headings=["chip", *names],
        rows=[
            [chip, *("" if value is None else f"{value:+.3f}" for value in row)]
            for chip, row in zip(table, values, strict=True)
        ],
    )


def _hundredths(value: float) -> str:
    """An elasticity in two digits, which a cell has room for; the table has more."""
    return "0" if abs(value) < 0.005 else f"{value:+.2f}"


def _doublings(document: Document) -> list[Section]:
    found: Mapping[str, Mapping[str, float | None]] = document["doubling"]
    if not found:
        return []
    factors = document["factors"]
    rows = [
        [name, f"x {factors[name]:g}", *(_saved(of.get(objective)) for objective in OBJECTIVES)]
        for name, of in sorted(found.items(), key=lambda item: min((one or 1.0) for one in item[1].values()))
    ]
    text = "Change of the cost per token with the number twice as good, the deployment chosen anew from all."
    return [
        Section(title="What a doubling buys", text=text, headings=["number", "factor", *OBJECTIVES.values()], rows=rows)
    ]


def _optima(document: Document) -> list[Section]:
    keys = ("chips", "tp", "pp", "ep", "dp", "batch", "precision", "weights_in", "kv_in")
    rows = [
        [
            pair["model"],
            pair["chip"],
            OBJECTIVES[objective],
            _cost(objective, one["cost"]),
            *(str(one[key]) for key in keys),
        ]
        for pair in document["pairs"]
        for objective, one in pair["optima"].items()
    ]
    headings = ["model", "chip", "best for", "cost", *keys]
    sources = list(dict.fromkeys(f"{pair['chip']}: {pair['price_basis']}" for pair in document["pairs"]))
    return [Section(title="The configurations", headings=headings, rows=rows, sources=sources)]


def _cost(objective: str, cost: float) -> str:
    return f"{dollars(cost)} a million" if objective == "usd" else f"{cost:.4g} {'J' if objective == 'joules' else 's'}"


def _saved(ratio: float | None) -> str:
    return "" if ratio is None else f"{(ratio - 1.0) * 100.0:+.1f} %"
