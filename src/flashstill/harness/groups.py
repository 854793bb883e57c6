"""The whole of a group of tasks, aggregated by lm-eval itself: the mean over its tasks, by size or not, as it says.

Its standard error is lm-eval's: pooled over items where tasks are weighted by size, else that of a mean of tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput

STDERR = "_stderr"


def group_of_file(path: Path) -> tuple[str, list[str]]:
    """The name of the group that a YAML file describes, and the tasks that it names; empty if it describes a task. Runs
    none of its code."""
    from lm_eval.tasks._yaml_loader import load_yaml

    fields = load_yaml(path, resolve_func=False)
    name, tasks = fields.get("group"), fields.get("task") or []
    if not isinstance(name, str):
        return "", []
    return name, [each for each in (tasks if isinstance(tasks, list) else [tasks]) if isinstance(each, str)]


def check_place(group: str, path: Path, index: Mapping[str, Any]) -> None:
    """BadInput if lm-eval would take a group from elsewhere than the file that was given. index: lm-eval's, by name."""
    place = getattr(index.get(group), "yaml_path", None)
    if place is None or not path.samefile(place):
        instead = "does not see it" if place is None else f"would run that of {place}"
        raise BadInput(
            f"it describes the group {group!r}, but lm-eval {instead}; give the group a name of its own, and the file"
            " the suffix .yaml"
        )


def aggregating(groups: Mapping[str, Any]) -> list[str]:
    """The names of groups of which lm-eval gives a figure of the whole."""
    return [name for name, group in groups.items() if group.has_aggregation]


def wholes_of(group: Any, tasks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Figures of a group by metric and filter. tasks: name -> {"scores", "chance"} of each (`scores_of`, child.py).

    stderr: None where lm-eval has none, of metrics that are no means and of tasks with one item.
    """
    from lm_eval.api.metrics import aggregate_subtask_metrics

    own = [each.task_name for each in group.get_all_tasks()]
    found = group.aggregate({name: _metrics(tasks[name]["scores"]) for name in own})
    by_size = {each.metric: bool(each.weight_by_size) for each in group.aggregate_metric_list}
    wholes = []
    for key, value in found.items():
        metric, comma, chosen = key.partition(",")
        if not comma or metric.endswith(STDERR):
            continue
        parts = [name for name in own if any(_key(each) == key for each in tasks[name]["scores"])]
        sizes = [max(each["count"] for each in tasks[name]["scores"]) for name in parts]
        values = [
            value
            for name in parts
            for each in tasks[name]["scores"]
            if _key(each) == key
            for value, _ in each["values"]
        ]
        chances = [tasks[name]["chance"] for name in parts]
        stderr = found.get(f"{metric}{STDERR},{chosen}")
        wholes.append({
            "metric": metric, "filter": chosen, "value": float(value), "count": sum(sizes), "tasks": parts,
            "is_share": all(0.0 <= value <= 1.0 for value in values),
            "stderr": float(stderr) if isinstance(stderr, float) else None,
            "chance": float(aggregate_subtask_metrics(chances, sizes, by_size[metric])),
        })  # fmt: skip
    return wholes


def _key(score: Mapping[str, Any], more: str = "") -> str:
    return f"{score['metric']}{more},{score['filter']}"


def _metrics(scores: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics of a task as lm-eval's groups read them."""
    from lm_eval.api.metrics import mean_stderr

    metrics: dict[str, Any] = {"sample_len": max(each["count"] for each in scores)}
    for each in scores:
        values = [value for value, _ in each["values"]]
        metrics[_key(each)] = each["whole"]
        is_mean = each["kind"] == "mean" and len(values) > 1
        metrics[_key(each, STDERR)] = mean_stderr(values) if is_mean else "N/A"
    return metrics
