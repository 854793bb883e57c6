"""The page of a simulation: time lines, latencies with their intervals, the knee and the runs of a sweep.

Every chart stands with its numbers; charts are inline SVG (svg.py), so that the page is small and needs no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flashstill.outputs import written_out
from flashstill.report.axes import Axis
from flashstill.report.line_chart import line_chart
from flashstill.report.pages import Page
from flashstill.report.percentiles import Bar, intervals
from flashstill.report.sections import Document, Section, cell, render_sections
from flashstill.report.svg import Line
from flashstill.units import show

_TIMELINES = (
    ("In flight", ("running", "queued"), "requests", "1"),
    ("Cache", ("cache_blocks",), "blocks in use, all replicas", "1"),
    ("Utilisation", ("utilisation",), "share of the replicas that work", "ratio"),
    ("Output", ("output_tokens",), "tokens/s", "1"),
)
PERCENTILES = ("p50", "p90", "p95", "p99")
_LOAD_CHARTS = {
    "ttft_p95_s": ("p95 of TTFT", "s"),
    "tpot_p95_s": ("p95 of TPOT", "s"),
    "output_tokens_per_s": ("Output, tokens/s of all replicas", "1"),
    "goodput_ratio": ("Goodput, share of the requests", "ratio"),
}
TIME, LATENCY = Axis(title="time", unit="s"), Axis(title="latency", unit="s", log=True)
_LOAD_COLUMNS = (
    "label", "load", "seed", "ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s", "output_tokens_per_s",
    "goodput_ratio", "steady",
)  # fmt: skip


def write_simulation_page(
    out: Path, title: str, document: Document | None, knee: Document | None, sweep: Sequence[Document]
) -> None:
    """Write the page of a simulation (its as_dict), of a knee and of the rows of a sweep, each where there is one."""
    with written_out(out) as stream:
        stream.write(render_simulation(title, document, knee, sweep))


def render_simulation(title: str, document: Document | None, knee: Document | None, sweep: Sequence[Document]) -> str:
    """The whole page as HTML."""
    page = simulation_page(title, document, knee, sweep)
    return render_sections(
        page.title,
        page.subtitle,
        page.sections,
        facts=page.facts,
        warnings=page.warnings,
        question=_question(document),
    )


def simulation_page(title: str, document: Document | None, knee: Document | None, sweep: Sequence[Document]) -> Page:
    """What the page holds; keys: as `flashstill simulate --json` prints them, those of the sections are `shown`."""
    sections: list[Section] = []
    if document is not None:
        sections += [_latencies(document), _over_time(document)]
    if knee is not None or sweep:
        sections.append(_loads(knee, sweep))
    return Page(
        title=title,
        subtitle=_subtitle(document),
        facts=[*_facts(document), *_knee_facts(knee)],
        sections=sections,
        warnings=_warnings(document, knee),
        shown=("latencies", "timeline", "moment_s", "rows", "knee", "deployment", "policy", "traffic", "steady"),
    )


def _subtitle(document: Document | None) -> str:
    if document is None:
        return "The load at which waiting begins to grow without bound."
    return f"{document['requests']:,} requests in {show(document['seconds'], 's')}; seed {document['seed']}."


def _warnings(document: Document | None, knee: Document | None) -> list[str]:
    found: list[str] = []
    if document is not None:
        if document["steady"] is not None and not document["steady"]["is_steady"]:
            found.append(
                "Not steady: waiting grows over the run, which is more than the replicas can serve; percentiles say"
                " only how long the run was."
            )
        if document["refused"]:
            found.append(f"{document['refused']:,} requests are larger than the cache and were refused.")
        found += document["notes"]
    return list(dict.fromkeys([*found, *(() if knee is None else knee["notes"])]))


def _facts(document: Document | None) -> list[tuple[str, str]]:
    if document is None:
        return []
    dollars = document["usd_per_million_output_tokens"]
    found = [
        ("output", f"{document['output_tokens_per_s']:,.0f} tokens/s"),
        ("running, on average", f"{document['mean_running']:,.1f}"),
        ("utilisation", f"{document['utilisation']:.0%}"),
        ("preemptions", f"{document['preemptions']:,}"),
        ("goodput", f"{document['goodput_per_s']:.3g} requests/s"),
        ("energy", f"{document['joules_per_output_token']:.3g} J per output token"),
        ("price", "none is known" if dollars is None else f"${dollars:,.2f} per million output tokens"),
    ]
    for kind, each in (document.get("usd_per_million") or {}).items():
        if each is not None:
            found.append((f"of {kind} tokens alone", f"${each:,.3g} per million"))
    return found


def _knee_facts(knee: Document | None) -> list[tuple[str, str]]:
    if knee is None:
        return []
    found = [
        ("knee", f"{knee['rate']:.4g} requests/s"),
        ("its 95 % interval", f"{knee['low']:.4g} to {knee['high']:.4g}"),
        ("what binds there", knee["binds"]),
    ]
    if knee["closed_form"] is not None:
        found.append(("knee in closed form", f"{knee['closed_form']:.4g} requests/s"))
    if knee["bounds"] is not None:
        found.append(
            (f"bounds hold at p{knee['bounds']['percentile']:g} up to", f"{knee['bounds']['rate']:.4g} requests/s")
        )
    return found


def _latencies(document: Document) -> Section:
    bars, rows = [], []
    for name, each in document["latencies"].items():
        shown = name.removesuffix("_s").replace("_", " ")
        bars += [Bar(row=shown, label=at, **each[at]) for at in PERCENTILES]
        ends = [
            f"{show(each[at]['value'], 's')} ({_end(each[at]['low'])} to {_end(each[at]['high'])})"
            for at in PERCENTILES
        ]
        rows.append([shown, f"{each['n']:,}", show(each["mean_s"], "s"), *ends])
    return Section(
        title="Latencies",
        text="Percentiles with their 95 % intervals. TTFT counts from the arrival, waiting included.",
        charts=[("Percentiles", intervals(bars, LATENCY, "latencies at percentiles, with intervals"))],
        headings=["latency", "n", "mean", *(f"{at} (95 % interval)" for at in PERCENTILES)],
        rows=rows,
    )


def _end(value: float | None) -> str:
    return "unknown" if value is None else show(value, "s")


def _over_time(document: Document) -> Section:
    timeline, width = document["timeline"], document["moment_s"]
    times = [width * (number + 0.5) for number in range(len(timeline["running"]))]
    charts = []
    for title, names, words, unit in _TIMELINES:
        y = Axis(title=words, unit=unit, from_zero=True)
        series = [
            Line(name=name.replace("_", " "), points=list(zip(times, timeline[name], strict=True))) for name in names
        ]
        charts.append((title, line_chart(series, TIME, y, f"{title.lower()} over time")))
    columns = list(timeline)
    return Section(
        title="Over time",
        text=f"Means over {show(width, 's')} each.",
        charts=charts,
        headings=["seconds", *(name.replace("_", " ") for name in columns)],
        rows=[[f"{at:.4g}", *(f"{timeline[name][number]:.4g}" for name in columns)] for number, at in enumerate(times)],
    )


def _loads(knee: Document | None, sweep: Sequence[Document]) -> Section:
    marks = []
    if knee is not None:
        marks.append((float(knee["rate"]), "knee"))
        if knee["bounds"] is not None and knee["bounds"]["binds"] != "waiting":
            marks.append((float(knee["bounds"]["rate"]), f"{knee['bounds']['binds']} bound"))
    answered = sorted((row for row in sweep if row.get("ttft_p95_s") is not None), key=lambda row: row["load"])
    groups: dict[str, list[Document]] = {}
    for row in answered:
        groups.setdefault(str(row["label"]), []).append(row)
    charts = []
    for name, (title, unit) in _LOAD_CHARTS.items():
        y = Axis(title=title, unit=unit, log=name == "ttft_p95_s", from_zero=True)
        series = [Line(name=label, points=_means(rows, name), dots=True) for label, rows in list(groups.items())[:4]]
        chart = line_chart(series, Axis(title="requests/s"), y, f"{title}, over the load", marks)
        if chart:
            charts.append((title, chart))
    if sweep:
        names = [name.removesuffix("_s").replace("_", " ") for name in _LOAD_COLUMNS]
        cells = [[cell(row.get(name)) for name in _LOAD_COLUMNS] for row in sweep]
    else:
        names = ["figure", "value"]
        plain = {name: value for name, value in (knee or {}).items() if name not in ("bounds", "notes")}
        cells = [[name.replace("_", " "), cell(value)] for name, value in plain.items()]
    text = "Means over the seeds of each load; the dashed line is where waiting begins to grow without bound."
    return Section(
        title="Over the load" if sweep else "The knee",
        text=text if sweep else "The load at which waiting begins to grow without bound, by simulation.",
        charts=charts,
        headings=names,
        rows=cells,
    )


def _means(rows: Sequence[Document], name: str) -> list[tuple[float, float | None]]:
    by_load: dict[float, list[float]] = {}
    for row in rows:
        if row.get(name) is not None:
            by_load.setdefault(float(row["load"]), []).append(float(row[name]))
    return [(load, sum(values) / len(values)) for load, values in by_load.items()]


def _question(document: Document | None) -> list[tuple[str, str]]:
    if document is None:
        return []
    parts = (("deployment", document["deployment"]), ("policy", document["policy"]), ("traffic", document["traffic"]))
    return [
        (f"{part}: {name.replace('_', ' ')}", cell(value))
        for part, values in parts
        for name, value in values.items()
        if value is not None
    ]
