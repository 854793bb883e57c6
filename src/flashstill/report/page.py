"""The report of a family: its charts and their numbers."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flashstill.files import write_text
from flashstill.records import NO_INTERVAL, ModelRecord, QualityRecord, Record, read_records
from flashstill.report import kept
from flashstill.report.figures import (
    COST_TITLES,
    LEVEL_GROUPS,
    METRIC_LABELS,
    chosen_batches,
    energy,
    pareto,
    predicted_against_measured,
    task_axes,
)
from flashstill.report.findings import View, findings
from flashstill.report.kinds import kind_words, shapes
from flashstill.report.marks import shape
from flashstill.report.shell import render_page
from flashstill.report.training import Steps, curves, training_of, validation_rows
from flashstill.report.whole import QUALITY, check_whole
from flashstill.units import short_count, show
from flashstill.useful_range import range_warnings

_TEMPLATE = "report.html.j2"


def write_report(out: Path) -> Path:
    """Read records.jsonl, family.toml and provenance.json of a run and write its report.html.

    Raises BadInput that names the missing or damaged file, and the line.
    """
    records = read_records(out / "records.jsonl")
    check_whole(View.of(records), out / "records.jsonl")
    provenance = kept.provenance(out / "provenance.json")
    recipe = kept.recipe_text(out / "family.toml")
    path = out / "report.html"
    trained = [record.model for record in records if isinstance(record, ModelRecord)]
    write_text(path, render(records, provenance, recipe, training_of(out, trained)))
    return path


def render(
    records: Sequence[Record], provenance: dict[str, Any], recipe: str, training: Mapping[str, Steps] | None = None
) -> str:
    """The whole page as HTML. training: the metrics of each model's steps."""
    view = View.of(records)
    family = tomllib.loads(recipe)
    axes = {("heldout", metric): label for metric, label in METRIC_LABELS.items()} | task_axes(view)
    return render_page(
        _TEMPLATE,
        script="choices.js",
        paretos=[_pareto(records, view, chip, *axis) for chip in view.chips for axis in axes],
        energies={chip: energy(view, chip) for chip in view.chips},
        most_together=max((max(chosen_batches(view, chip)) for chip in view.chips), default=1),
        fit=predicted_against_measured(view),
        name=family["name"],
        seed=family.get("seed", 0),
        findings=findings(records),
        warnings=[warning.message for warning in range_warnings(records)],
        chips=view.chips,
        metrics={_key(*axis): label for axis, label in axes.items()},
        tasks=_tasks(view),
        models=_model_rows(view),
        curves=curves(training or {}),
        validations=validation_rows(training or {}),
        shapes=[(shape(name), words) for name, words in shapes(list(view.models.values()))],
        cost_tables={chip: _cost_rows(view, chip) for chip in view.chips},
        groups=list(LEVEL_GROUPS),
        fit_rows=_fit_rows(view),
        provenance=provenance,
        arithmetic=view.models["teacher"].arithmetic,
        minutes=family.get("minutes", 0),
        recipe=recipe,
        price_bases=dict.fromkeys((record.chip, record.price_basis) for record in view.cost.values()),
    )


def _pareto(records: Sequence[Record], view: View, chip: str, domain: str, metric: str) -> dict[str, Any]:
    """Both plots of a chip and a quality."""
    charts = [(title, pareto(records, view, chip, metric, cost, domain)) for cost, title in COST_TITLES.items()]
    return {"chip": chip, "metric": _key(domain, metric), "charts": charts}


def _key(domain: str, metric: str) -> str:
    """The name of a quality among the choices of the page."""
    return metric if domain == "heldout" else f"{domain}: {metric}"


def _tasks(view: View) -> dict[str, Any] | None:
    """The table of scores on tasks, one row a model; None without tasks."""
    axes = list(task_axes(view))
    rows = [
        (name, [_interval(view.quality[name, *axis], "{:.3f}") for axis in axes])
        for name in view.models
        if axes and all((name, *axis) in view.quality for axis in axes)
    ]
    return {"headings": [_key(*axis) for axis in axes], "rows": rows} if rows else None


def _interval(record: QualityRecord, form: str) -> dict[str, str]:
    if record.low is None or record.high is None:
        return {"value": form.format(record.value), "range": NO_INTERVAL}
    return {"value": form.format(record.value), "range": f"{form.format(record.low)} to {form.format(record.high)}"}


_FORMS = {"bits_per_byte": "{:.3f}", "perplexity": "{:.2f}", "kl_to_teacher": "{:.3f}", "agreement": "{:.3f}"}


def _model_rows(view: View) -> list[dict[str, Any]]:
    return [
        {
            "record": record,
            "kind": kind_words(record),
            "parameters": short_count(record.parameters),
            "tokens": f"{record.training_tokens:,}",
            "steps": f"{record.training_steps:,}",
            "seconds": f"{record.training_s:,.0f}",
            "quality": [_interval(view.quality[name, domain, metric], _FORMS[metric]) for domain, metric in QUALITY],
        }
        for name, record in view.models.items()
    ]


def _cost_rows(view: View, chip: str) -> list[dict[str, Any]]:
    rows = []
    for batch in chosen_batches(view, chip):
        for name in ("teacher", *view.students):
            cell = view.cost[name, chip, "decode", batch]
            split = [
                show(sum(cell.joules_per_token[level] for level in levels), "J") for levels in LEVEL_GROUPS.values()
            ]
            rows.append(
                {
                    "cell": cell,
                    "step": show(cell.seconds, "s"),
                    "rate": f"{cell.tokens_per_s:,.0f}",
                    "usd": "no price"
                    if cell.usd_per_million_tokens is None
                    else show(cell.usd_per_million_tokens, "USD"),
                    "joules": show(cell.joules_per_token["total"], "J"),
                    "split": split,
                    "watts": show(cell.watts_per_chip, "W"),
                }
            )
    return rows


def _fit_rows(view: View) -> list[dict[str, Any]]:
    rows = []
    for (model, phase, batch), record in view.measured.items():
        guess = view.cost[model, record.machine, phase, batch]
        rows.append(
            {
                "model": model,
                "phase": phase,
                "batch": batch,
                "context": record.context,
                "measured": show(record.seconds, "s"),
                "range": f"{show(record.low, 's')} to {show(record.high, 's')}",
                "predicted": show(guess.seconds, "s"),
                "error": f"{guess.seconds / record.seconds - 1:+.0%}",
                "bound": guess.bound,
            }
        )
    return rows
