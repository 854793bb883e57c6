"""The page of `economics --model`: what a token costs on chips rented or owned, beside the price of an API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashstill.report.amounts import dollars, tokens
from flashstill.report.bands import bands
from flashstill.report.money import driven_by, made_of, once, table, value
from flashstill.report.money_curves import crossing_of, curve_rows, curves_of, ranged
from flashstill.report.pages import Page
from flashstill.report.sections import Document, Section
from flashstill.units import show

KINDS = ("cached", "input", "output")
UNIT = "$ per million output tokens"
_ANSWERS = {"self-host": "host it", "api": "pay the API", "depends": "it depends on the volume or the ranges"}
_SURE = {
    "usd_per_request": "a request, P10 to P90 over the fact rows",
    "break_even_requests_per_day": "hosting pays from, over the fact rows",
}
_SHOWN = (
    "fits", "model", "chip", "answer", "usd_per_million", "usd_per_request", "usd_per_day", "api", "break_even",
    "corners", "steps", "power", "curve", "assumptions", "price_basis", "usd_per_chip_hour",
    "interval", "drivers",
)  # fmt: skip


def economics_page(document: Document) -> Page:
    """Keys: as `flashstill economics --model M --json` prints them."""
    chosen = document["configuration"]
    sections = [
        _prices(document), _steps(document), _power(document), _curve(document),
        driven_by(
            document.get("drivers") or (), document["usd_per_request"]["value"], "dollars of a request", dollars
        ),
        table("The ends of the ranges", document["corners"], "The first row is the middle."),
        table("What was assumed", document["assumptions"]),
    ]  # fmt: skip
    return Page(
        title=f"{document['model']} on {document['chip']}",
        subtitle=f"{chosen['chips']} chip{'' if chosen['chips'] == 1 else 's'} a replica,"
        f" {dollars(document['usd_per_chip_hour'])} a chip-hour"
        f" ({document['price_basis']}).",
        facts=_facts(document),
        sections=[each for each in sections if each is not None],
        shown=_SHOWN,
    )


def _facts(document: Document) -> list[tuple[str, str]]:
    facts = [
        (f"million {kind} tokens", ranged(document["usd_per_million"][kind], dollars))
        for kind in KINDS
        if document["usd_per_million"][kind]["value"] is not None
    ]
    facts.append(("a request", ranged(document["usd_per_request"], dollars)))
    for key, name in _SURE.items():
        if (document.get("interval") or {}).get(key):
            facts.append((name, ranged(document["interval"][key], dollars if "usd" in key else tokens)))
    if document["requests_per_day"] is not None:
        facts.append(("a day", ranged(document["usd_per_day"], dollars)))
        facts.append(("chips", value("", document["chips"])))
    if document["api"] is not None:
        facts.append(("a request at the API", ranged(document["api"]["usd_per_request"], dollars)))
        facts.append(("cheaper", _ANSWERS.get(str(document["answer"]), str(document["answer"]))))
        facts.append(("hosting pays from, requests a day", ranged(document["break_even"]["requests_per_day"])))
    return facts


def _prices(document: Document) -> Section:
    """Dollars per million tokens of each kind, here and at the API."""
    api: Mapping[str, Any] = document["api"] or {}
    asked = api.get("usd_per_million") or {}
    rows = [
        [kind, ranged(document["usd_per_million"][kind], dollars, "none"), *([dollars(asked[kind])] if api else [])]
        for kind in KINDS
    ]
    rows.append([
        "a request", ranged(document["usd_per_request"], dollars),
        *([ranged(api["usd_per_request"], dollars)] if api else []),
    ])  # fmt: skip
    return Section(
        title="Dollars per million tokens",
        text="By the step time that tokens of each kind cause; they add up to what a request costs.",
        headings=["tokens", "here", *(["API"] if api else [])],
        rows=rows,
        sources=once([str(document["price_basis"]), f"{api['source']}, {api['as_of']}" if api else ""]),
    )


def _steps(document: Document) -> Section:
    parts = {each["name"]: float(each["usd"]) for each in document["steps"]}
    sources = once(f"{each['name']}: {each['source']}" for each in document["steps"])
    text = "Prompts are paid by the output tokens, thinking included."
    return made_of("What a million output tokens costs", parts, "a million tokens", UNIT, text, sources=sources)


def _power(document: Document) -> Section | None:
    power = document["power"]
    paid = power.get("usd_per_million_output_tokens_by_place")
    if paid:
        return made_of("Where the power's dollars go", paid, "power", UNIT, "By the shares of a decode step.")
    shares = power.get("decode_share_by_place") or {}
    parts = {name: share * power["joules_per_output_token"] for name, share in shares.items()}
    text = "The chips' energy per output token, prompts included, by the shares of a decode step."
    return (
        made_of("Where a token's joules go", parts, "a token", "J", text, show=lambda joules: show(joules, "J"))
        if parts
        else None
    )


def _curve(document: Document) -> Section | None:
    """Dollars per request over requests a day, of both ways."""
    rows = [
        {"requests_per_day": row["requests_per_day"],
         "self": _over(row["self_usd_per_day"], row["requests_per_day"]),
         "api": _over(row.get("api_usd_per_day"), row["requests_per_day"])}
        for row in document.get("curve") or ()
    ]  # fmt: skip
    curves = curves_of(rows, "requests_per_day", {"self": "own replicas", "api": "API"})
    if not curves:
        return None
    headings, cells = curve_rows(curves)
    found = document.get("break_even")
    crossing = None if found is None else crossing_of(found["requests_per_day"], "pays from")
    chart = bands(curves, "requests a day", "dollars per request over requests a day", crossing)
    asked = document["requests_per_day"]
    return Section(
        title="Over the volume",
        text="Replicas are whole, so that few requests pay for chips that wait. Bands are the ranges that were asked."
        + ("" if asked is None else f" {tokens(asked)} requests a day were asked about."),
        charts=[("Dollars per request", chart)],
        headings=["requests a day", *headings],
        rows=cells,
    )


def _over(span: Mapping[str, Any] | None, volume: float) -> dict[str, float | None] | None:
    if span is None:
        return None
    return {end: None if each is None else each / volume for end, each in span.items()}
