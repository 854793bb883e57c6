"""The page of a study: figures with intervals and claimed minima; for deep think, quality against tokens per answer."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flashstill.files import write_text
from flashstill.frontier import on_front
from flashstill.records import QualityRecord
from flashstill.report import kept
from flashstill.report.figures import Figure, drawn
from flashstill.report.page import render_page
from flashstill.units import show
from flashstill.useful_range import range_warnings

_COLOURS = ("#2a78d6", "#8a8a86", "#1baf7a", "#eb6834", "#eda100")
_LARGEST_SHARE = 2.0
"""figures beyond this get a separate chart; shares can exceed 1"""


def write_study_report(out: Path) -> Path:
    """Write report.html of a study from its summary.json and study.toml; BadInput names a damaged file."""
    summary = kept.summary(out / "summary.json")
    recipe = kept.recipe_text(out / "study.toml")
    path = out / "report.html"
    write_text(path, render_study(summary, recipe))
    return path


def render_study(summary: Mapping[str, Any], recipe: str) -> str:
    """The whole page as HTML."""
    parts = _parts(summary["figures"])
    figures: dict[str, Figure] = {name: _intervals(part, name != "accuracies") for name, part in parts.items()}
    points = _points(list(summary["details"].values()))
    priced = all(point["dollars"] is not None for point in points)
    if points:
        figures["tokens"] = _quality(points, "tokens", "tokens thought for an answer")
        if priced:
            figures["dollars"] = _quality(points, "dollars", "predicted dollars per million answers")
    return render_page(
        "study.html.j2",
        figures,
        name=tomllib.loads(recipe)["name"],
        ran=ran(summary),
        bars=[_sentence(name, found) for name, found in summary["figures"].items() if "bar" in found],
        rows=[_row(name, found) for name, found in summary["figures"].items()],
        priced=priced,
        thought=[_thought_row(point) for point in points],
        warnings=[warning.message for warning in range_warnings(_accuracies(summary["figures"], points))],
        heights={name: _height(part) for name, part in parts.items()},
        recipe=recipe,
    )


def ran(summary: Mapping[str, Any]) -> str:
    """The seeds and their run time, which is a minimum if some work was done before an interruption."""
    seeds, resumed = summary["seeds"], summary.get("resumed")
    which = f"{'Seed' if len(seeds) == 1 else 'Seeds'} {', '.join(map(str, seeds))}"
    count = round(summary["seconds"] / 60)
    minutes = f"{count:,} minute{'' if count == 1 else 's'}"
    if not resumed:
        return f"{which}; {minutes} in all."
    interrupted = ", ".join(map(str, resumed))
    return f"{which}; at least {minutes}: what was done before an interruption (seed {interrupted}) is not counted."


def _sentence(name: str, figure: Mapping[str, Any]) -> str:
    verdict = "holds" if figure["holds"] else "is missed"
    return f"{_words(name)}: {_shown(figure['value'], 3)}; at least {figure['bar']:g} was wanted, which {verdict}."


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shown(value: float | None, digits: int) -> str:
    """A formatted figure; "none" for a share with a zero denominator."""
    return "none" if value is None else f"{value:.{digits}f}"


def _row(name: str, figure: Mapping[str, Any]) -> dict[str, str]:
    return {
        "name": _words(name),
        "value": _shown(figure["value"], 4),
        "reach": "" if figure["low"] is None else f"{figure['low']:.4f} to {figure['high']:.4f}",
        "bar": f"{figure['bar']:g}, {'holds' if figure['holds'] else 'missed'}" if "bar" in figure else "",
        "seeds": ", ".join(_shown(value, 4) for value in figure["values"]),
    }


def _parts(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Charts: shares and the like; accuracies, which differ by little; what is of another size than either, such as a
    number of standard errors, and would squeeze them on one axis."""
    charts: dict[str, dict[str, Any]] = {"figures": {}, "accuracies": {}, "others": {}}
    for name, figure in figures.items():
        ends = [abs(figure[key]) for key in ("value", "bar") if figure.get(key) is not None]
        part = "others" if max(ends, default=0.0) > _LARGEST_SHARE else "figures"
        charts["accuracies" if "accuracy" in name else part][name] = figure
    return {name: part for name, part in charts.items() if part}


def _height(figures: Mapping[str, Any]) -> float:
    """Height of a chart, in rem."""
    return max(9.0, 4.0 + 1.6 * len(figures))


def _intervals(figures: Mapping[str, Any], from_zero: bool) -> Figure:
    """A dot and an interval per figure, and a line at its claimed minimum."""
    import plotly.graph_objects as go

    names = list(figures)[::-1]
    shown = [figures[name] for name in names]
    reach = [0.0 if figure["low"] is None else figure["high"] - figure["value"] for figure in shown]
    barred = [name for name in names if "bar" in figures[name]]
    traces = [
        go.Scatter(
            x=[figure["value"] for figure in shown], y=[_words(name) for name in names], mode="markers", name="value",
            error_x={"type": "data", "array": reach, "thickness": 1, "width": 3},
            marker={"size": 8, "color": _COLOURS[0]},
        ),
        go.Scatter(
            x=[figures[name]["bar"] for name in barred], y=[_words(name) for name in barred], mode="markers",
            name="bar", marker={"symbol": "line-ns-open", "size": 16, "color": _COLOURS[3], "line": {"width": 2}},
        ),
    ]  # fmt: skip
    return drawn(
        traces,
        xaxis={"rangemode": "tozero" if from_zero else "normal"},
        yaxis={"automargin": True, "categoryorder": "array", "categoryarray": [_words(n) for n in names]},
    )


Point = dict[str, Any]
"""who, how, and the means over seeds of accuracy, se, hard, tokens and dollars an answer; tokens_front, dollars_front:
no other answers as well for less"""


def _points(details: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Everything with an accuracy and tokens, of a study of deep think; nothing of any other."""
    if not details or not all(isinstance(each, Mapping) and "teacher_best_of" in each for each in details):
        return []
    points = [_point("teacher", "one greedy pass", [each["teacher_greedy"] for each in details], details)]
    for key, how in (("teacher_best_of", "best of {}"), ("teacher_majority_of", "majority of {}")):
        counts = [count for count in details[0][key] if count != "1"]
        points += [_point("teacher", how.format(n), [each[key][n] for each in details], details) for n in counts]
    for name in details[0]["student_greedy"]:
        role = "student" if name == details[0]["student"] else "arm"
        points.append(_point(role, name, [each["student_greedy"][name] for each in details], details))
    counts = [count for count in details[0]["student_best_of"] if count != "1"]
    points += [
        _point("student", f"best of {n}", [each["student_best_of"][n] for each in details], details) for n in counts
    ]
    errors = [1.0 - point["accuracy"] for point in points]
    for cost in ("tokens", "dollars"):
        if any(point[cost] is None for point in points):
            points = [{**point, f"{cost}_front": False} for point in points]
            continue
        costs = [(point[cost], error) for point, error in zip(points, errors, strict=True)]
        for point, unbeaten in zip(points, on_front(costs), strict=True):
            point[f"{cost}_front"] = unbeaten
    return points


def _point(who: str, how: str, seeds: Sequence[Mapping[str, Any]], details: Sequence[Mapping[str, Any]]) -> Point:
    model = "teacher" if who == "teacher" else "student"
    prices = [each["usd_per_token"][model] for each in details]
    dollars = None if None in prices else float(np.mean(prices))
    tokens = float(np.mean([seed["tokens"] for seed in seeds]))
    return {
        "who": who,
        "how": how,
        "accuracy": float(np.mean([seed["value"] for seed in seeds])),
        "se": float(np.mean([seed["se"] for seed in seeds])),
        "hard": float(np.mean([seed["hard_half"]["value"] for seed in seeds])),
        "tokens": tokens,
        "dollars": None if dollars is None else tokens * dollars * 1e6,
    }


def _accuracies(figures: Mapping[str, Any], points: Sequence[Point]) -> list[QualityRecord]:
    """Mean accuracies of a study as records: of a deep-think study its points, else the figures named accuracy."""
    if points:
        rows = [(f"{each['who']} ({each['how']})", each["accuracy"], 1.96 * each["se"]) for each in points]
    else:
        rows = [
            (_words(name.removesuffix("_accuracy")), found["value"], found["value"] - (found["low"] or found["value"]))
            for name, found in figures.items()
            if name.endswith("_accuracy") and found["value"] is not None
        ]
    return [
        QualityRecord(
            model=who, domain="test", metric="accuracy", value=value, low=value - reach, high=value + reach, tokens=0,
            documents=0,
        )
        for who, value, reach in rows
    ]  # fmt: skip


def _thought_row(point: Point) -> dict[str, str]:
    return {
        "who": point["who"],
        "how": point["how"],
        "accuracy": f"{point['accuracy']:.3f}",
        "se": f"{point['se']:.3f}",
        "hard": f"{point['hard']:.3f}",
        "tokens": f"{point['tokens']:,.1f}",
        "dollars": "no price is known" if point["dollars"] is None else show(point["dollars"], "USD"),
        "front": " and ".join(cost for cost in ("tokens", "dollars") if point[f"{cost}_front"]),
    }


def _quality(points: Sequence[Point], cost: str, title: str) -> Figure:
    import plotly.graph_objects as go

    groups: dict[str, Callable[[Point], bool]] = {
        "teacher, greedy": lambda p: p["who"] == "teacher" and "greedy" in p["how"],
        "teacher, best of N": lambda p: p["who"] == "teacher" and p["how"].startswith("best"),
        "teacher, majority of N": lambda p: p["who"] == "teacher" and p["how"].startswith("majority"),
        "the student, one pass and best of N": lambda p: p["who"] == "student",
        "other arms, one pass": lambda p: p["who"] == "arm",
    }
    front = sorted((point for point in points if point[f"{cost}_front"]), key=lambda point: point[cost])
    traces = [
        go.Scatter(
            x=[point[cost] for point in front], y=[point["accuracy"] for point in front], mode="lines", name="frontier",
            line={"width": 7, "color": "rgba(42, 120, 214, 0.18)"}, hoverinfo="skip",
        )
    ]  # fmt: skip
    for (name, belongs), colour in zip(groups.items(), _COLOURS, strict=True):
        own = [point for point in points if belongs(point)]
        traces.append(
            go.Scatter(
                x=[point[cost] for point in own],
                y=[point["accuracy"] for point in own],
                error_y={"type": "data", "array": [point["se"] for point in own], "thickness": 1, "width": 3},
                mode="lines+markers" if " of N" in name else "markers",
                line={"width": 1.5, "dash": "dot", "color": colour},
                marker={"size": 9, "color": colour, "symbol": "star" if "greedy" in name else "circle"},
                name=name,
                text=[f"{point['who']}, {point['how']}" for point in own],
                hovertemplate="%{text}<br>%{x:.3g}<br>accuracy %{y:.3f}<extra></extra>",
            )
        )
    return drawn(
        traces,
        xaxis={"type": "log", "title": {"text": title}, "exponentformat": "power"},
        yaxis={"title": {"text": "accuracy on test problems"}, "rangemode": "tozero"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        margin={"l": 60, "r": 16, "t": 80, "b": 56},
    )
