"""The page of `asic`: the volume from which a chip of one's own pays, what it costs, and what that depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashstill.report.amounts import dollars, tokens
from flashstill.report.bands import bands
from flashstill.report.money import driven_by, ends_of, made_of, value
from flashstill.report.money_curves import crossing_of, curve_rows, curves_of, ranged
from flashstill.report.pages import Page
from flashstill.report.sections import Document, Section
from flashstill.report.tornado import tornado, width_of
from flashstill.units import show

CURVE = {"asic": "own chip", "alternative": "best alternative"}
_SHOWN = (
    "pays", "probability_that_it_pays", "break_even_tokens_per_day", "break_even_date", "usd_per_million_tokens",
    "usd_per_million_tokens_interval", "nre_usd", "nre_usd_interval", "nre", "package", "joules_per_token", "drivers",
    "at_values", "curve", "variants", "nodes", "as_share_of_training_run", "net_present_usd", "payback_years",
)  # fmt: skip


def asic_page(document: Document) -> Page:
    """Keys: as `flashstill asic --json` prints them."""
    asked = document.get("question") or {}
    model = document.get("model") or asked.get("model") or "one model"
    sections = [
        _curve(document), _choices(document, "variants"), _choices(document, "nodes"), _nre(document),
        _package(document), _joules(document), _volumes(document), _drivers(document), _shares(document),
    ]  # fmt: skip
    return Page(
        title=f"A chip for {model}",
        subtitle="Whether silicon made for one model pays, against the best that can be rented or bought."
        " Figures without a range are medians over the draws of the fact rows.",
        facts=_facts(document),
        sections=[each for each in sections if each is not None],
        shown=_SHOWN,
    )


def _facts(document: Document) -> list[tuple[str, str]]:
    money = document.get("usd_per_million_tokens_interval") or document["usd_per_million_tokens"]
    likely = document.get("probability_that_it_pays")
    dates = document.get("break_even_date") or {}
    facts = [
        ("pays at this volume", value("", document["pays"])),
        ("chance that it pays", "" if likely is None else f"{likely:.0%}"),
        ("break-even, tokens a day (P10 to P90)", ranged(document["break_even_tokens_per_day"])),
        ("has paid by", str(dates.get("p50") or "never")),
        ("own chip, per million tokens", _dollars(money.get("asic"))),
        ("best alternative, per million tokens", _dollars(money.get("alternative"))),
        ("spent before the first chip", _dollars(document.get("nre_usd_interval") or document["nre_usd"])),
        ("present value of deciding for it", _dollars(document.get("net_present_usd"))),
    ]
    return [(name, text) for name, text in facts if text]


def _dollars(held: Any) -> str:
    if isinstance(held, Mapping):
        return ranged(held, dollars)
    return "never" if held is None else dollars(float(held))


def _curve(document: Document) -> Section | None:
    curves = curves_of(document.get("curve") or (), "tokens_per_day", CURVE)
    if not curves:
        return None
    headings, rows = curve_rows(curves)
    title = "dollars per million tokens over tokens a day"
    chart = bands(curves, "tokens a day", title, crossing_of(document["break_even_tokens_per_day"], "break-even"))
    return Section(
        title="Where it pays",
        text="Bands hold 80 % of the draws over the ranges of the fact rows; the shaded range is the break-even's.",
        charts=[("Dollars per million tokens", chart)],
        headings=["tokens a day", *headings],
        rows=rows,
    )


def _choices(document: Document, kind: str) -> Section | None:
    """The variants or the nodes side by side."""
    choices = document.get(kind)
    if not isinstance(choices, Mapping) or not choices:
        return None
    rows = []
    for name, each in choices.items():
        money = each["usd_per_million_tokens"]
        rows.append([
            name, value("", each["pays"]), ranged(each["break_even_tokens_per_day"]),
            _dollars(money.get("asic")), _dollars(money.get("alternative")), _dollars(each["nre_usd"]),
            value("", each.get("dies")),
        ])  # fmt: skip
    headings = [
        kind[:-1], "pays", "break-even, tokens a day", "own chip, $ per million", "alternative, $ per million",
        "spent once", "dies of a machine",
    ]  # fmt: skip
    text = "hardwired: the weights are wires, and the chip is of use as long as its model is." if kind[0] == "v" else ""
    return Section(title=f"The {kind}", text=text, headings=headings, rows=rows)


def _nre(document: Document) -> Section | None:
    parts = _plain((document.get("nre") or {}).get("parts_usd"))
    if not parts:
        return None
    again = (document.get("nre") or {}).get("rewiring_usd_per_model") or 0.0
    text = f"For each further model {dollars(again)} of masks and mapping come on top." if again else ""
    return made_of("Before the first chip", parts, "all", "$", text)


def _package(document: Document) -> Section | None:
    held = _plain(document.get("package"))
    sums = ("bill_of_materials", "bought", "with_board")
    parts = {name: part for name, part in held.items() if name not in sums}
    if not parts:
        return None
    further = {"maker's margin": ("bill_of_materials", "bought"), "board and host": ("bought", "with_board")}
    more = {name: held[end] - held[begin] for name, (begin, end) in further.items() if {begin, end} <= held.keys()}
    return made_of("One package", {**parts, **more}, "a package on its board", "$")


def _joules(document: Document) -> Section | None:
    parts = {name: part for name, part in _plain(document.get("joules_per_token")).items() if name != "total"}
    return (
        made_of("Where a token's joules go", parts, "a token", "J", show=lambda joules: show(joules, "J"))
        if parts
        else None
    )


def _volumes(document: Document) -> Section | None:
    """A tornado of the break-even itself, where it is finite."""
    drivers = document.get("drivers") or ()
    base = (document.get("at_values") or {}).get("break_even_tokens_per_day")
    if base is None or not drivers or "break_even_at_low" not in drivers[0]:
        return None
    drawn = ends_of(drivers, "break_even_at_low", "break_even_at_high")
    figure = "break-even, tokens a day"
    rows = sorted(drawn, key=lambda each: -width_of(each, base))
    return Section(
        title="What moves the break-even",
        text="One fact row at either end of its range; a paler bar to the edge means that the chip then never pays.",
        charts=[(figure, tornado(drawn, base, figure, f"{figure}, by what drives it", tokens))],
        headings=["fact row", "at low", "at high"],
        rows=[
            [each.name, *("never" if end is None else tokens(end) for end in (each.low, each.high))] for each in rows
        ],
    )


def _drivers(document: Document) -> Section | None:
    at = document.get("at_values") or {}
    base = at.get("net_usd", (document.get("net_present_usd") or {}).get("p50"))
    figure = "present value of deciding for the chip"
    return driven_by(document.get("drivers") or (), base, figure, dollars)


def _shares(document: Document) -> Section | None:
    rows = document.get("as_share_of_training_run")
    if not rows:
        return None
    return Section(
        title="As a share of a training run",
        text="What is spent before the first chip over the cost of training the model.",
        headings=["training run", "share, P10", "P50", "P90"],
        rows=[
            [dollars(each["training_usd"]), *(_percent(each["nre_ratio"].get(at)) for at in ("p10", "p50", "p90"))]
            for each in rows
        ],
    )


def _percent(ratio: float | None) -> str:
    return "never" if ratio is None else f"{ratio:.3g}x" if ratio >= 10.0 else f"{ratio:.1%}"


def _plain(parts: Any) -> dict[str, float]:
    """The numbers of an object."""
    if not isinstance(parts, Mapping):
        return {}
    return {name: float(part) for name, part in parts.items() if isinstance(part, int | float)}
