"""The charts of a family's report: quality against cost, where the joules go, predicted against measured seconds."""

from __future__ import annotations

from collections.abc import Sequence

from flashstill.records import Record
from flashstill.report.axes import Axis
from flashstill.report.findings import View
from flashstill.report.kinds import kind_words, marker
from flashstill.report.points import PricedModel, is_less_better, points
from flashstill.report.scatter import Front, Point, scatter
from flashstill.report.stacks import Stack, stacks

METRIC_LABELS = {
    "bits_per_byte": "bits per byte on held-out text (lower is better)",
    "kl_to_teacher": "KL to the teacher in nats (lower is better)",
    "agreement": "agreement with the teacher (higher is better)",
}
_METRICS = {
    "bits_per_byte": ("bits per byte", "1"),
    "kl_to_teacher": ("KL to the teacher", "nats"),
    "agreement": ("agreement with the teacher", "ratio"),
}
"""metric -> words of its axis, and the unit"""
COST_LABELS = {
    "usd_per_million_tokens": "predicted dollars per million tokens",
    "joules_per_token": "predicted joules per token",
}
COST_TITLES = {"usd_per_million_tokens": "Dollars per million tokens", "joules_per_token": "Joules per token"}
_UNITS = {"usd_per_million_tokens": "USD", "joules_per_token": "J"}
LEVEL_GROUPS = {
    "arithmetic and its operands": ("arithmetic", "near_sram"),
    "weights": ("weights",),
    "KV cache": ("kv",),
    "idle": ("idle",),
    "clocks and leakage": ("active",),
    "activations and links": ("far_sram", "activations", "links"),
}
_LEVEL_COLOURS = dict(zip(LEVEL_GROUPS, (3, 1, 4, 5, 7, 6), strict=True))
_STANDING = ("idle", "clocks and leakage")
"""groups that grow with time alone"""
LOG_FROM = 30.0
"""ratio of the greatest to the least value from which an axis is logarithmic"""


def chosen_batches(view: View, chip: str) -> list[int]:
    """Batches 1, 16 and 256 if they were priced, else the smallest, a middle and the largest batch."""
    priced = sorted({key[3] for key in view.cost if key[1] == chip and key[2] == "decode"})
    usual: list[int] = [batch for batch in (1, 16, 256) if batch in priced]
    return usual if len(usual) == 3 else sorted({priced[0], priced[len(priced) // 2], priced[-1]})


def task_axes(view: View) -> dict[tuple[str, str], str]:
    """(task, metric) -> words, for every task that the teacher and all students were scored on."""
    texts = ("heldout", "out-of-domain")
    scored = dict.fromkeys((domain, metric) for _, domain, metric in view.quality if domain not in texts)
    return {
        (domain, metric): f"{metric.replace('_', ' ')} on {domain} ({_direction(metric)} is better)"
        for domain, metric in scored
        if all((name, domain, metric) in view.quality for name in ("teacher", *view.students))
    }


def _direction(metric: str) -> str:
    return "lower" if is_less_better(metric) else "higher"


def pareto(records: Sequence[Record], view: View, chip: str, metric: str, cost: str, domain: str = "heldout") -> str:
    """Quality against cost at three batches; a line joins the Pareto front of each batch; "" without a price."""
    drawn: list[Point] = []
    fronts, names = [], []
    for series, batch in enumerate(chosen_batches(view, chip), start=1):
        models = points(records, chip, batch, domain, metric, cost)
        fronts.append(Front(points=[(each.cost, each.quality) for each in models if each.on_front], series=series))
        names.append((f"batch {batch}", series))
        drawn += [_point(each, view, batch, series) for each in models]
    ends = [end for each in drawn for end in (each.y, each.y_low) if end is not None]
    is_log = bool(ends) and min(ends) > 0.0 and max(ends) >= LOG_FROM * min(ends)
    words, unit = _METRICS[metric] if domain == "heldout" else (f"{metric.replace('_', ' ')} on {domain}", "ratio")
    return scatter(
        drawn,
        Axis(title=COST_LABELS[cost], unit=_UNITS[cost], log=True, word="cost"),
        Axis(title=words, unit=unit, log=is_log, is_reversed=is_less_better(metric)),
        f"{words} against {COST_LABELS[cost]}, {chip}",
        fronts=fronts,
        names=names,
    )


def _point(model: PricedModel, view: View, batch: int, series: int) -> Point:
    kind = kind_words(view.models[model.model])
    name = f"{model.model} ({kind})" if kind else model.model
    return Point(
        x=model.cost,
        y=model.quality,
        y_low=model.low,
        y_high=model.high,
        label=model.model if model.on_front else "",
        words=f"{name}, batch {batch}{', on the frontier' if model.on_front else ''}",
        series=series,
        shape=marker(view.models[model.model]),
        is_strong=model.on_front,
        size=1.6 if model.role == "control" else 1.0,  # around the student, beside which it often lies
    )


def energy(view: View, chip: str) -> dict[str, str]:
    """Shares of a token's joules, for teacher and students at three batches, the joules beside each bar: of all
    joules, and of those that the work itself takes, which idle circuits and clocks would hide."""
    charts = {}
    for title, left_out in (("All of a token's joules", ()), ("Without idle, clocks and leakage", _STANDING)):
        rows = []
        for batch in chosen_batches(view, chip):
            for name in ("teacher", *view.students):
                joules = view.cost[name, chip, "decode", batch].joules_per_token
                parts = {
                    group: sum(joules[level] for level in levels)
                    for group, levels in LEVEL_GROUPS.items()
                    if group not in left_out
                }
                rows.append(Stack(name=name, group=f"batch {batch}", parts=parts))
        words = f"share of the joules, {chip}"
        charts[title] = stacks(rows, "J", f"{title}, {chip}", words, is_share=True, colours=_LEVEL_COLOURS)
    return charts


def predicted_against_measured(view: View) -> str:
    """Seconds of a step on this machine; the diagonal is a perfect prediction."""
    drawn = [
        Point(
            x=row.seconds,
            x_low=row.low,
            x_high=row.high,
            y=view.cost[row.model, row.machine, phase, row.batch].seconds,
            words=f"{row.model}, {phase}, batch {row.batch}",
            series=series,
            shape="circle" if phase == "decode" else "square",
        )
        for series, phase in enumerate(("decode", "prefill"), start=1)
        for key, row in view.measured.items()
        if key[1] == phase
    ]
    return scatter(
        drawn,
        Axis(title="measured time of a step", unit="s", log=True, word="measured"),
        Axis(title="predicted time of a step", unit="s", log=True, word="predicted"),
        "predicted against measured time of a step",
        names=[("decode", 1), ("prefill", 2)],
        diagonal=True,
    )
