"""Quality against tokens thought, of a deep-think study: the teacher's N attempts against a student's single one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flashstill.frontier import on_front
from flashstill.report.axes import Axis
from flashstill.report.scatter import Front, scatter
from flashstill.report.scatter import Point as Mark
from flashstill.units import show

Point = dict[str, Any]
"""who, how, and the means over seeds of accuracy, se, hard, tokens and dollars an answer; tokens_front, dollars_front:
no other answers as well for less"""


def thought_points(details: Sequence[Mapping[str, Any]]) -> list[Point]:
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


def thought_row(point: Point) -> dict[str, str]:
    """The cells of a row, by heading."""
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


_AXES = {
    "tokens": Axis(title="tokens thought for an answer", unit="tokens", log=True, word="tokens"),
    "dollars": Axis(title="predicted dollars per million answers", unit="USD", log=True, word="cost"),
}


def quality(points: Sequence[Point], cost: str) -> str:
    """Accuracy against tokens or dollars, with one standard error; the wide line joins what no other beats."""
    groups: dict[str, Callable[[Point], bool]] = {
        "teacher, greedy": lambda p: p["who"] == "teacher" and "greedy" in p["how"],
        "teacher, best of N": lambda p: p["who"] == "teacher" and p["how"].startswith("best"),
        "teacher, majority of N": lambda p: p["who"] == "teacher" and p["how"].startswith("majority"),
        "the student, one pass and best of N": lambda p: p["who"] == "student",
        "other arms, one pass": lambda p: p["who"] == "arm",
    }
    marks, lines, names = [], [], []
    for series, (name, belongs) in enumerate(groups.items(), start=1):
        own = [point for point in points if belongs(point)]
        names += [(name, series)] if own else []
        if " of N" in name:
            lines.append(Front(points=[(point[cost], point["accuracy"]) for point in own], series=series))
        marks += [_mark(point, cost, series, "star" if "greedy" in name else "circle") for point in own]
    best = [(point[cost], point["accuracy"]) for point in points if point[f"{cost}_front"]]
    x = _AXES[cost]
    return scatter(
        marks,
        x,
        Axis(title="accuracy on test problems", from_zero=True, word="accuracy"),
        f"accuracy against {x.title}",
        fronts=[Front(points=best, is_wide=True), *lines],
        names=names,
    )


def _mark(point: Point, cost: str, series: int, shape: str) -> Mark:
    is_best = point[f"{cost}_front"]
    return Mark(
        x=point[cost],
        y=point["accuracy"],
        y_low=point["accuracy"] - point["se"],
        y_high=point["accuracy"] + point["se"],
        label=point["how"] if is_best else "",
        words=f"{point['who']}, {point['how']}",
        series=series,
        shape=shape,
        is_strong=is_best,
    )
