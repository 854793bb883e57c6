"""What a page shows of a finished run that it was started with: a family's or a study's charts, as its report has them.

The records are checked as they are for the report: what is missing or damaged is named in one sentence.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput, shortened
from flashstill.explore.view import Cell, Chart, Table, View
from flashstill.records import Record, read_records
from flashstill.report import kept
from flashstill.report.claims import judged
from flashstill.report.figures import (
    COST_LABELS,
    LEVEL_GROUPS,
    METRIC_LABELS,
    chosen_batches,
    energy,
    pareto,
    predicted_against_measured,
)
from flashstill.report.findings import View as Family
from flashstill.report.findings import findings
from flashstill.report.kinds import marker_words, shapes
from flashstill.report.points import points
from flashstill.report.study import figure_rows, intervals_of, plots_of, ran
from flashstill.report.thought import thought_points, thought_row
from flashstill.report.whole import check_whole

RECORDS, SUMMARY = "records.jsonl", "summary.json"
TITLES = {
    "bits_per_byte": "Quality against cost",
    "kl_to_teacher": "KL against cost",
    "agreement": "Agreement against cost",
}


def directory_views(path: Path) -> tuple[View, ...]:
    """The views of a run's directory; BadInput for one that is of no finished run."""
    if (path / SUMMARY).is_file():
        return study_views(path)
    if (path / RECORDS).is_file():
        return family_views(path)
    shown = shortened(str(path), 200)
    raise BadInput(f"{shown} holds no {RECORDS} and no {SUMMARY}; give the --out directory of a finished run")


def family_views(path: Path) -> tuple[View, ...]:
    """Quality against cost by each measure, where the joules go, and predictions beside measurements."""
    records = read_records(path / RECORDS)
    family = Family.of(records)
    check_whole(family, path / RECORDS)
    name = str(tomllib.loads(kept.recipe_text(path / "family.toml"))["name"])
    lines = findings(records)
    command = f"flashstill report {path}"
    marks = "; ".join(f"{marker_words(mark)}: {stands}" for mark, stands in shapes(list(family.models.values())))
    key = f"{marks[:1].upper()}{marks[1:]}. A dotted line joins what no other model beats at the same batch."
    views = [
        View(
            name=f"family-{metric.replace('_', '-')}",
            title=f"{TITLES[metric]}: {name}",
            lead=lines[1],
            charts=tuple(
                _against(records, family, chip, metric, cost) for chip in family.chips for cost in COST_LABELS
            ),
            command=command,
            notes=(f"Quality: {words}.", key, *lines),
        )
        for metric, words in METRIC_LABELS.items()
    ]
    joules = View(
        name="family-joules",
        title=f"Where each joule goes: {name}",
        lead=lines[-1],
        charts=tuple(chart for chip in family.chips for chart in _joules(family, chip)),
        command=command,
        notes=("The chips' own energy; host and building come on top.",),
    )
    measured = View(
        name="family-measured",
        title=f"Predicted and measured: {name}",
        lead=lines[3],
        charts=(_measured(family),),
        command=command,
        notes=("The prediction knows only this machine's peak, bandwidth and least time of an operation.",),
    )
    return (*views, joules, measured)


def _against(records: Sequence[Record], family: Family, chip: str, metric: str, cost: str) -> Chart:
    rows: list[tuple[Cell, ...]] = [
        (each.model, each.role, each.batch, each.cost, each.quality, each.low, each.high, each.on_front)
        for batch in chosen_batches(family, chip)
        for each in points(records, chip, batch, "heldout", metric, cost)
    ]
    columns = ("model", "role", "batch", cost, metric, "low", "high", "on the front")
    title = f"{COST_LABELS[cost].capitalize()}, {chip}"
    table = Table(
        caption=f"{METRIC_LABELS[metric]} against {COST_LABELS[cost]}, {chip}", columns=columns, rows=tuple(rows)
    )
    return Chart(
        name=f"{cost.replace('_', '-')}-{chip}",
        title=title,
        svg=pareto(records, family, chip, metric, cost),
        table=table,
    )


def _joules(family: Family, chip: str) -> list[Chart]:
    rows: list[tuple[Cell, ...]] = []
    for batch in chosen_batches(family, chip):
        for model in ("teacher", *family.students):
            cell = family.cost[model, chip, "decode", batch]
            parts = [sum(cell.joules_per_token[level] for level in levels) for levels in LEVEL_GROUPS.values()]
            rows.append((model, batch, cell.joules_per_token["total"], *parts, cell.bound))
    columns = ("model", "batch", "joules a token", *LEVEL_GROUPS, "bound by")
    table = Table(caption=f"Joules of a token, {chip}", columns=columns, rows=tuple(rows))
    return [
        Chart(name=f"joules-{number}-{chip}", title=f"{title}, {chip}", svg=svg, table=table)
        for number, (title, svg) in enumerate(energy(family, chip).items())
    ]


def _measured(family: Family) -> Chart:
    rows: list[tuple[Cell, ...]] = []
    for (model, phase, batch), each in family.measured.items():
        guess = family.cost[model, each.machine, phase, batch]
        rows.append((model, phase, batch, each.context, each.seconds, each.low, each.high, guess.seconds, guess.bound))
    columns = ("model", "phase", "batch", "context", "measured s", "smallest s", "largest s", "predicted s", "bound by")
    table = Table(caption="Time of a step on this machine", columns=columns, rows=tuple(rows))
    return Chart(
        name="measured",
        title="Predicted against measured time of a step",
        svg=predicted_against_measured(family),
        table=table,
    )


def study_views(path: Path) -> tuple[View, ...]:
    """The figures with their intervals, and of a deep-think study quality against tokens and dollars."""
    summary = kept.summary(path / SUMMARY)
    heading = tomllib.loads(kept.recipe_text(path / "study.toml"))
    claim, _ = judged(str(heading.get("study", "")), summary["figures"], len(summary["seeds"]))
    name, command = str(heading["name"]), f"flashstill report {path}"
    figures = _table("Every figure with its interval over the seeds", figure_rows(summary))
    charts = tuple(
        Chart(name=f"figures-{number}", title=drawn, svg=svg, table=figures)
        for number, (drawn, svg) in enumerate(intervals_of(summary))
    )
    first = View(name="study", title=f"Study {name}", lead=claim, charts=charts, command=command, notes=(ran(summary),))
    thought = thought_points(list(summary["details"].values()))
    if not thought:
        return (first,)
    title = "Quality against tokens thought"
    table = _table(f"{title} for an answer", [thought_row(point) for point in thought])
    plots = tuple(
        Chart(name=f"thought-{number}", title=f"Accuracy: {drawn}", svg=svg, table=table)
        for number, (drawn, svg) in enumerate(plots_of(thought))
    )
    return (first, View(name="study-thought", title=title, lead=claim, charts=plots, command=command))


def _table(caption: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = tuple(rows[0]) if rows else ()
    return Table(caption=caption, columns=columns, rows=tuple(tuple(str(row[key]) for key in columns) for row in rows))
