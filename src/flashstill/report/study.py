"""The page of a study: figures with intervals and claimed minima; for deep think, quality against tokens per answer."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flashstill.files import write_text
from flashstill.records import QualityRecord
from flashstill.report import kept
from flashstill.report.axes import Axis
from flashstill.report.claims import judged
from flashstill.report.shell import render_page
from flashstill.report.thought import Point, quality, thought_points, thought_row
from flashstill.report.whiskers import Whisker, whiskers
from flashstill.useful_range import range_warnings
from flashstill.verdicts import in_words, verdict

SHARES, ACCURACIES, OTHERS = "Shares", "Accuracies", "Other measures"
_LARGEST_SHARE = 2.0
"""figures beyond this get a separate chart; shares can exceed 1"""
_OF_MODELS = re.compile(r"(?P<measure>(?P<what>[^:,]+), [^:]+): (?P<who>.+)")
"""the name of a measure of several models, as studies/arms.py writes it: loss, held out: teacher"""
_UNITS = {"loss": "nats", "KL to the teacher": "nats", "agreement": "ratio"}
"""of measures that are no plain numbers"""


def write_study_report(out: Path) -> Path:
    """Write report.html of a study from its summary.json and study.toml; BadInput names a damaged file."""
    summary = kept.summary(out / "summary.json")
    recipe = kept.recipe_text(out / "study.toml")
    path = out / "report.html"
    write_text(path, render_study(summary, recipe))
    return path


def render_study(summary: Mapping[str, Any], recipe: str) -> str:
    """The whole page as HTML."""
    points = thought_points(list(summary["details"].values()))
    heading = tomllib.loads(recipe)
    claim, holds = judged(str(heading.get("study", "")), summary["figures"], len(summary["seeds"]))
    return render_page(
        "study.html.j2",
        claim=claim,
        holds=holds,
        plots=plots_of(points),
        charts=intervals_of(summary),
        name=heading["name"],
        ran=ran(summary),
        bars=[_sentence(name, summary["figures"]) for name, found in summary["figures"].items() if "bar" in found],
        rows=figure_rows(summary),
        thought=[thought_row(point) for point in points],
        warnings=[warning.message for warning in range_warnings(_accuracies(summary["figures"], points))],
        recipe=recipe,
    )


def plots_of(points: Sequence[Point]) -> list[tuple[str, str]]:
    """(title, SVG) of quality against tokens, and against dollars where all have a price; none of other studies."""
    priced = all(point["dollars"] is not None for point in points)
    costs = {"tokens": "Tokens an answer", **({"dollars": "Dollars per million answers"} if priced else {})}
    return [(title, quality(points, cost)) for cost, title in costs.items()] if points else []


def intervals_of(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(title, SVG) of the figures with their intervals, by what they measure or by their sizes."""
    return [(title, _intervals(part, title, summary["figures"])) for title, part in _parts(summary["figures"]).items()]


def figure_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Each figure as name, value, reach (of the interval), bar and values by seed, in words."""
    return [_row(name, summary["figures"]) for name in summary["figures"]]


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


def _sentence(name: str, figures: Mapping[str, Any]) -> str:
    figure = figures[name]
    given = f" where {figure['given']} is clear of zero" if figure.get("given") else ""
    found = in_words(verdict(figure, figures))
    return f"{_words(name)}: {_shown(figure['value'], 3)}; at least {figure['bar']:g} was wanted{given}, which {found}."


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shown(value: float | None, digits: int) -> str:
    """A formatted figure; "none" for a share with a zero denominator."""
    return "none" if value is None else f"{value:.{digits}f}"


def _row(name: str, figures: Mapping[str, Any]) -> dict[str, str]:
    figure = figures[name]
    return {
        "name": _words(name),
        "value": _shown(figure["value"], 4),
        "reach": "" if figure["low"] is None else f"{figure['low']:.4f} to {figure['high']:.4f}",
        "bar": f"{figure['bar']:g}, {verdict(figure, figures)}" if "bar" in figure else "",
        "seeds": ", ".join(_shown(value, 4) for value in figure["values"]),
    }


def _parts(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Charts by their titles: each measure of several models; of what is left, accuracies, which differ by little,
    shares and the like, and what is of another size, such as a number of standard errors, and would squeeze them."""
    charts: dict[str, dict[str, Any]] = {SHARES: {}, ACCURACIES: {}, OTHERS: {}}
    for name, figure in figures.items():
        if of_models := _OF_MODELS.fullmatch(name):
            measure = of_models["measure"]
            charts.setdefault(f"{measure[:1].upper()}{measure[1:]}", {})[of_models["who"]] = figure
            continue
        ends = [abs(figure[key]) for key in ("value", "bar") if figure.get(key) is not None]
        part = OTHERS if max(ends, default=0.0) > _LARGEST_SHARE else SHARES
        charts[ACCURACIES if "accuracy" in name else part][name] = figure
    return {title: part for title, part in charts.items() if part}


def _intervals(figures: Mapping[str, Any], title: str, everything: Mapping[str, Any]) -> str:
    """A dot and an interval per figure, and a tick at its claimed minimum; what differs by little has an axis that
    need not begin at zero."""
    rows = [
        Whisker(
            name=_words(name),
            value=each["value"],
            low=each["low"],
            high=each["high"],
            bar=each.get("bar"),
            verdict=verdict(each, everything),
        )
        for name, each in figures.items()
    ]
    unit = next((unit for what, unit in _UNITS.items() if title.lower().startswith(f"{what.lower()},")), "1")
    words = title if title.startswith("KL ") else title.lower()
    axis = Axis(title=words, unit=unit, from_zero=title in (SHARES, OTHERS))
    return whiskers(rows, axis, f"{words} with their intervals")


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
