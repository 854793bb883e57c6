"""The figures of the report as Plotly JSON; the page sets the colours of text and paper, for light and for dark."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from flashstill.records import Record
from flashstill.report.findings import View
from flashstill.report.kinds import kind_words, marker
from flashstill.report.points import PricedModel, points

METRIC_LABELS = {
    "bits_per_byte": "bits per byte on held-out text (lower is better)",
    "kl_to_teacher": "KL to the teacher in nats (lower is better)",
    "agreement": "agreement with the teacher (higher is better)",
}
COST_LABELS = {
    "usd_per_million_tokens": "predicted dollars per million tokens",
    "joules_per_token": "predicted joules per token",
}
LEVEL_GROUPS = {
    "arithmetic and its operands": ("arithmetic", "near_sram"),
    "weights": ("weights",),
    "KV cache": ("kv",),
    "idle": ("idle",),
    "clocks and leakage": ("active",),
    "activations and links": ("far_sram", "activations", "links"),
}
_LEVEL_COLOURS = ("#1baf7a", "#2a78d6", "#eda100", "#8a8a86", "#c4c4bf", "#e87ba4")
_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}  # grows upwards, never over the plot
_BATCH_COLOURS = ("#2a78d6", "#eb6834", "#1baf7a")

Figure = dict[str, Any]


def drawn(traces: list[Any], **layout: Any) -> Figure:
    """Plotly JSON of traces, with the margins that all figures share."""
    import plotly.graph_objects as go

    plotted = go.Figure(traces, layout={"template": "none", "margin": {"l": 60, "r": 16, "t": 16, "b": 56}, **layout})
    result: Figure = _escaped(json.loads(plotted.to_json()))
    return result


def _escaped(value: Any) -> Any:
    """Escape all text of a figure: Plotly would render `<a href>` and `<b>` in a label as HTML.

    Hover templates are our own and keep their markup.
    """
    if isinstance(value, dict):
        return {key: entry if key == "hovertemplate" else _escaped(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_escaped(entry) for entry in value]
    return html.escape(value, quote=False) if isinstance(value, str) else value


def chosen_batches(view: View, chip: str) -> list[int]:
    """Batches 1, 16 and 256 if they were priced, else the smallest, a middle and the largest batch."""
    priced = sorted({key[3] for key in view.cost if key[1] == chip and key[2] == "decode"})
    usual: list[int] = [batch for batch in (1, 16, 256) if batch in priced]
    return usual if len(usual) == 3 else sorted({priced[0], priced[len(priced) // 2], priced[-1]})


def pareto(records: Sequence[Record], view: View, chip: str, metric: str, cost: str) -> Figure:
    """Quality against cost at three batches; a line joins the Pareto front of each batch."""
    import plotly.graph_objects as go

    traces: list[Any] = []
    for batch, colour in zip(chosen_batches(view, chip), _BATCH_COLOURS, strict=False):
        models = points(records, chip, batch, "heldout", metric, cost)
        front = sorted((point for point in models if point.on_front), key=lambda point: point.cost)
        traces.append(
            go.Scatter(
                x=[point.cost for point in front],
                y=[point.quality for point in front],
                mode="lines",
                line={"color": colour, "width": 1.5, "dash": "dot"},
                hoverinfo="skip",
                name=f"batch {batch}",
            )
        )
        traces.append(_models(models, view, batch, colour, go))
    direction = "normal" if metric == "agreement" else "reversed"
    return drawn(
        traces,
        xaxis={"type": "log", "title": {"text": f"{COST_LABELS[cost]}, {chip}"}, "exponentformat": "power"},
        yaxis={"title": {"text": METRIC_LABELS[metric]}, "autorange": True if direction == "normal" else "reversed"},
        legend=_LEGEND,
        margin={"l": 60, "r": 16, "t": 40, "b": 56},
    )


def _models(models: Sequence[PricedModel], view: View, batch: int, colour: str, go: Any) -> Any:
    kinds = {point.model: kind_words(view.models[point.model]) for point in models}
    titles = {name: f"{name} ({kind})" if kind else name for name, kind in kinds.items()}
    return go.Scatter(
        x=[point.cost for point in models],
        y=[point.quality for point in models],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [point.high - point.quality for point in models],
            "arrayminus": [point.quality - point.low for point in models],
            "thickness": 1,
            "width": 3,
        },
        mode="markers",
        showlegend=False,
        marker={
            "symbol": [marker(view.models[point.model]) for point in models],
            "size": [14 if point.role == "control" else 10 for point in models],
            "color": colour,
            "line": {"width": 1.5, "color": colour},
        },
        text=[
            f"{titles[point.model]}, batch {batch}{', on the frontier' if point.on_front else ''}" for point in models
        ],
        hovertemplate="%{text}<br>cost %{x:.3g}<br>quality %{y:.3f}<extra></extra>",
    )


def energy(view: View, chip: str) -> Figure:
    """Energy per token by component, for teacher and students at three batches; totals in the labels."""
    import plotly.graph_objects as go

    names = ["teacher", *view.students]
    cells = [view.cost[name, chip, "decode", batch] for batch in chosen_batches(view, chip) for name in names]
    labels = [[f"batch {cell.batch}" for cell in cells], [cell.model for cell in cells]]
    traces = []
    for (group, levels), colour in zip(LEVEL_GROUPS.items(), _LEVEL_COLOURS, strict=True):
        joules = [sum(cell.joules_per_token[level] for level in levels) for cell in cells]
        traces.append(
            go.Bar(
                x=labels,
                y=[100.0 * part / cell.joules_per_token["total"] for part, cell in zip(joules, cells, strict=True)],
                customdata=joules,
                name=group,
                marker={"color": colour},
                hovertemplate="%{x[1]}, %{x[0]}<br>"
                + group
                + ": %{y:.1f} %, %{customdata:.3g} J a token<extra></extra>",
            )
        )
    return drawn(
        traces,
        barmode="stack",
        yaxis={"title": {"text": f"share of a token's joules, {chip} (%)"}, "range": [0, 100]},
        xaxis={"type": "multicategory", "tickangle": -90, "automargin": True},
        legend=_LEGEND,
        margin={"l": 60, "r": 16, "t": 40, "b": 90},
    )


def predicted_against_measured(view: View) -> Figure:
    """Seconds of a step on this machine; the diagonal is a perfect prediction."""
    import plotly.graph_objects as go

    traces: list[Any] = []
    seen: list[float] = []
    for phase, colour in (("decode", "#2a78d6"), ("prefill", "#eb6834")):
        rows = [record for key, record in view.measured.items() if key[1] == phase]
        guessed = [view.cost[row.model, row.machine, phase, row.batch].seconds for row in rows]
        seen += [*guessed, *(row.seconds for row in rows)]
        traces.append(
            go.Scatter(
                x=[row.seconds for row in rows],
                y=guessed,
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [row.high - row.seconds for row in rows],
                    "arrayminus": [row.seconds - row.low for row in rows],
                    "thickness": 1,
                    "width": 3,
                },
                mode="markers",
                name=phase,
                marker={"color": colour, "size": 9},
                text=[f"{row.model}, batch {row.batch}" for row in rows],
                hovertemplate="%{text}<br>measured %{x:.3g} s<br>predicted %{y:.3g} s<extra></extra>",
            )
        )
    ends = [min(seen), max(seen)]
    traces.append(go.Scatter(x=ends, y=ends, mode="lines", name="exact", line={"color": "#8a8a86", "dash": "dot"}))
    return drawn(
        traces,
        xaxis={"type": "log", "title": {"text": "measured seconds a step"}, "exponentformat": "power"},
        yaxis={"type": "log", "title": {"text": "predicted seconds a step"}, "exponentformat": "power"},
        legend=_LEGEND,
        margin={"l": 70, "r": 16, "t": 40, "b": 56},
    )
