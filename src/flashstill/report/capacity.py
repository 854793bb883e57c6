"""The page of `capacity`: who has which chips hour by hour, when runs finish, what binds, and what cannot be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flashstill.report.amounts import short
from flashstill.report.axes import Axis
from flashstill.report.duals import duals_of
from flashstill.report.hours import COLOURS, DAY, Layer, hours, mean_day, mean_of, stretches
from flashstill.report.line_chart import line_chart
from flashstill.report.money import plain, table, value
from flashstill.report.pages import Page
from flashstill.report.sections import Document, Section
from flashstill.report.svg import Line

TRAIN = "train "
ROWS = 200
"""rows of the table beside a chart; a longer plan has means over whole days"""
_SHOWN = ("status", "allocation", "chip_hours", "training_finishes", "duals", "violations", "frontier", "fits")


def capacity_page(document: Document) -> Page:
    """Keys: as `flashstill capacity PLAN.toml --json` prints them."""
    allocation = document.get("allocation") or {}
    kinds: Mapping[str, Any] = allocation.get("kinds") or {}
    step = float(allocation.get("step_hours") or 1.0)
    colours = _colours(kinds)
    sections = [
        _violations(document), *(_kind(name, held, step, colours) for name, held in kinds.items()),
        _demand(allocation, step, colours),
        _runs(document), _chip_hours(document), *duals_of(document, step), _frontier(document),
    ]  # fmt: skip
    count = len(allocation.get("hours") or ())
    return Page(
        title="A fleet, hour by hour",
        subtitle=f"{len(kinds)} kinds of chip over {count * step:,.0f} hours: who has which chips, and what binds.",
        facts=_facts(document, kinds),
        sections=[each for each in sections if each is not None],
        warnings=_warnings(document),
        shown=_SHOWN,
    )


def _facts(document: Document, kinds: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("status", str(document["status"]))]
    for key, name in (("cost_usd", "cost"), ("cost_hours", "hours of runs")):
        if document.get(key) is not None:
            facts.append((name, value(key, float(document[key]))))
    if document.get("gap"):
        facts.append(("gap to the bound", f"{document['gap']:.2%}"))
    facts.append(("solved in", f"{document['seconds']:.3g} s"))
    for name, held in kinds.items():
        there, idle = sum(held["available"]), sum(held.get("idle") or ())
        if there:
            facts.append((f"{name} idle", f"{idle / there:.1%}"))
    for run in document.get("training_finishes") or ():
        at = run.get("finishes")
        facts.append((f"{run['run']} finishes", "not in this plan" if at is None else f"hour {at:,.0f}"))
    return facts


def _warnings(document: Document) -> list[str]:
    broken = document.get("violations") or ()
    return [f"{len(broken):,} demands or deadlines cannot be kept; what would mend them is below."] if broken else []


def _violations(document: Document) -> Section | None:
    rows = []
    for each in document.get("violations") or ():
        mend = each.get("mend") or {}
        rows.append({
            **{key: held for key, held in each.items() if not isinstance(held, Mapping | list)},
            "what_would_mend_it": _mend(mend),
        })  # fmt: skip
    return table("What cannot be kept", rows) if rows else None


def _mend(mend: Mapping[str, Any]) -> str:
    parts = []
    for key, held in mend.items():
        if isinstance(held, Mapping):
            inner = ", ".join(f"{name} {value('', each)}" for name, each in held.items() if each is not None)
            parts += [f"{key.replace('_', ' ')}: {inner}"] if inner else []
        elif held is not None:
            parts.append(f"{key.replace('_', ' ')}: {value('', held)}")
    return "; ".join(parts)


def _colours(kinds: Mapping[str, Any]) -> dict[str, int]:
    """A colour for every product and run, the same in all charts; none where there are more than colours."""
    names = [name for part in ("products", "runs") for held in kinds.values() for name in held.get(part) or ()]
    found = {name: number for number, name in enumerate(dict.fromkeys(names), start=1)}
    return found if len(found) <= COLOURS else {}


def _layers(held: Mapping[str, Any], colours: Mapping[str, int]) -> list[Layer]:
    """Products lowest, runs above them, idle chips on top."""
    layers = [
        Layer(name=f"{word}{name}", values=chips, colour=colours.get(name, 0))
        for part, word in (("products", ""), ("runs", TRAIN))
        for name, chips in (held.get(part) or {}).items()
        if any(chips)
    ]
    idle = held.get("idle") or ()
    return [*layers, *([Layer(name="idle", values=idle, is_idle=True)] if any(idle) else [])]


def _kind(name: str, held: Mapping[str, Any], step: float, colours: Mapping[str, int]) -> Section | None:
    """The chart of a kind of chip, its mean day where there are several, and the numbers."""
    layers = _layers(held, colours)
    if not layers:
        return None
    charts = [("Over the plan", hours(layers, f"what chips of {name} do in each hour", step_hours=step))]
    count, steps = len(layers[0].values), round(DAY / step)
    text = ""
    if steps > 1 and abs(steps * step - DAY) < 1e-9 and count >= 2 * steps:
        day = [replace(each, values=mean_day(each.values, steps)) for each in layers]
        charts.append(("The mean day", hours(day, f"what chips of {name} do on the mean day", step_hours=step)))
        lasting = {each.name for each in layers if sum(chips > 0.0 for chips in each.values) >= 2 * steps}
        text = " ".join(_by_night(each, step) for each in day if each.name.startswith(TRAIN) and each.name in lasting)
    drawn = stretches(count, step, ROWS)
    columns = [*(layer.values for layer in layers), held["available"]]
    rows = [[f"{each.start * step:g}", *(plain(mean_of(values, each)) for values in columns)] for each in drawn]
    return Section(
        title=f"Chips of {name}",
        text=text,
        charts=charts,
        headings=["hour" if len(drawn) == count else "mean from hour", *(each.name for each in layers), "there"],
        rows=rows,
    )


def _by_night(layer: Layer, step: float) -> str:
    """How the chips of a run move over the day."""
    least, most = (end(range(len(layer.values)), key=layer.values.__getitem__) for end in (min, max))
    low, high = layer.values[least], layer.values[most]
    if high - low < 0.01 * high:
        return ""
    return (
        f"{layer.name[:1].upper()}{layer.name[1:]}: {short(float(f'{high:.3g}'))} chips at hour {most * step:g} of the"
        f" mean day, {short(float(f'{low:.3g}'))} at hour {least * step:g}."
    )


def _demand(allocation: Mapping[str, Any], step: float, colours: Mapping[str, int]) -> Section | None:
    products: Mapping[str, Any] = allocation.get("products") or {}
    layers = [
        Layer(name=name, values=each["served_tokens_per_s"], colour=colours.get(name, 0))
        for name, each in products.items()
    ]
    if not layers or not any(any(each.values) for each in layers):
        return None
    owed = [sum(at) for at in zip(*(each["owed_tokens_per_s"] for each in products.values()), strict=True)]
    chart = hours(layers, "tokens a second that are served and owed", ("owed", owed), step, y_title="tokens/s")
    drawn = stretches(len(owed), step, ROWS)
    columns = [(f"{name}, {word}", each[f"{word}_tokens_per_s"]) for name, each in products.items()
               for word in ("owed", "served")]  # fmt: skip
    return Section(
        title="Demand",
        text="Output tokens a second of all products; the line is what is owed.",
        charts=[("Served and owed", chart)],
        headings=["hour" if len(drawn) == len(owed) else "mean from hour", *(name for name, _ in columns)],
        rows=[[f"{each.start * step:g}", *(plain(mean_of(values, each)) for _, values in columns)] for each in drawn],
    )


def _runs(document: Document) -> Section | None:
    rows = document.get("training_finishes") or ()
    return table("Training runs", rows, "In hours from the beginning of the plan.") if rows else None


def _chip_hours(document: Document) -> Section | None:
    rows: Sequence[Document] = document.get("chip_hours") or ()
    shown = [{name: each for name, each in row.items() if name != "ratio"} | {"share": _share(row)} for row in rows]
    return table("Chip-hours", shown) if shown else None


def _share(row: Document) -> str:
    return f"{row['ratio']:.1%}"


def _frontier(document: Document) -> Section | None:
    """When training finishes against how many users are served."""
    rows: Sequence[Document] = document.get("frontier") or ()
    if not rows:
        return None
    runs = list(dict.fromkeys(run for row in rows for run in row["finishes"]))
    series = [
        Line(name=run, points=[(row["served_ratio"], row["finishes"].get(run)) for row in rows], dots=True)
        for run in runs[:COLOURS]
    ]
    title = "hour at which runs finish, over the demand that is served"
    served = Axis(title="demand served", unit="ratio")
    chart = line_chart(series, served, Axis(title="finishes at hour", from_zero=True), title)
    return Section(
        title="Users served against training finished",
        text="The earliest hour at which each run finishes, if so much of the demand must be served.",
        charts=[("Finishes at hour", chart)] if chart else [],
        headings=["demand served", "requests/s at the peak", *runs],
        rows=[
            [f"{row['served_ratio']:.1%}", plain(row["peak_requests_per_s"]),
             *("not in this plan" if row["finishes"].get(run) is None else plain(row["finishes"][run]) for run in runs)]
            for row in rows
        ],
    )  # fmt: skip
