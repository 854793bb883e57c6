"""The process that runs lm-eval: it reads a task, asks for a model's answers, and returns scores by item.

    in    {"name", "fields", "data", "format", "items", "chat"}   a task file as plain data (files.py), or the name of
                                                                  a task of lm-eval or of a file that may run code
    out   {"tasks": [{"name", "digest", "items", "generation"}, ...], "groups": [name, ...]}     or {"refused": why}
    in    {"run": name}
    out   {"ask": kind, "arguments": [...]}                 then in: {"answers": [...]}, as often as the task asks
    out   {"scores": [{"metric", "filter", "kind", "values", "whole", "higher"}, ...], "chance": c}
    in    {"whole": group, "tasks": {name: scores}}
    out   {"wholes": [{"metric", "filter", "value", "stderr", "count", "tasks", "chance", "is_share"}, ...]}

Templates of all tasks are rendered by Jinja's sandbox: lm-eval itself would let them reach any Python object.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput
from flashstill.harness.groups import aggregating, check_place, group_of_file, wholes_of
from flashstill.harness.rows import dataset
from flashstill.harness.tables import bounded_memory
from flashstill.harness.templates import sandbox

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TQDM_DISABLE": "1"}
OWN_MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "system"}  # other pools reserve more than they use, which is limited
FEWSHOT_SEED = 1234
"""lm-eval's own"""
MOST_REPEATED = 2**20


class Refused(Exception):
    """A task that is refused, with the reason as a sentence."""


def main() -> None:
    """Serve one task, or one group of tasks, until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what lm-eval prints must not mix with the answers
    os.environ.update(OFFLINE | OWN_MEMORY)

    def reply(document: Mapping[str, Any]) -> None:
        print(json.dumps(document), file=answers, flush=True)

    def answer(kind: str, arguments: list[list[Any]]) -> list[Any]:
        reply({"ask": kind, "arguments": arguments})
        found: list[Any] = json.loads(sys.stdin.readline())["answers"]
        return found

    job = json.loads(sys.stdin.readline())
    try:
        tasks, groups = tasks_of(job)
        described = [{"name": name, **_described(task, job["items"])} for name, task in tasks.items()]
        reply({"tasks": described, "groups": aggregating(groups)})
        for line in sys.stdin:
            asked = json.loads(line)
            if "whole" in asked:
                reply({"wholes": wholes_of(groups[asked["whole"]], asked["tasks"])})
            else:
                name = asked["run"]
                reply(scores_of(name, tasks[name], answer, job["items"], job["chat"]))
    except (Refused, BadInput) as refusal:
        reply({"refused": str(refusal)})
    except Exception as error:  # a task can raise anything
        reply({"refused": f"lm-eval cannot run it: {type(error).__name__}: {_short(error)}"})


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def tasks_of(job: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tasks of a job and its groups, by name; Refused if there is none, or its data are not on this machine."""
    import logging

    import datasets
    from lm_eval import utils

    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    utils.env = sandbox(utils.env)
    if job["fields"] is not None:
        return {job["name"]: _from_file(job)}, {}
    from lm_eval.tasks import TaskManager

    name = job["name"]
    is_path = name.lower().endswith((".yaml", ".yml"))
    group, members = group_of_file(Path(name)) if is_path else ("", [])  # whose tasks may lie beside it
    manager = TaskManager(include_path=str(Path(name).parent)) if group else TaskManager()
    if group:
        check_place(group, Path(name), manager.task_index)
    name = group or name
    for each in members if is_path else [name]:
        if each not in manager.task_index:
            raise Refused(json.dumps({"unknown": each, "known": sorted(manager.task_index)}))
    try:
        loaded: dict[str, Any] = manager.load([name])
    except Exception as error:
        if _is_offline(error):
            config = getattr(manager.task_index.get(name), "cfg", None) or {}
            source = config.get("dataset_path") or _short(error)
            raise Refused(_absent(source, "a task file with local data")) from error
        raise
    return loaded["tasks"], loaded["groups"]


def _is_offline(error: BaseException) -> bool:
    words = ("offline", "couldn't reach", "couldn't find", "doesn't exist on the hub", "cannot be accessed", "connect")
    return isinstance(error, (ConnectionError, OSError)) or any(word in str(error).lower() for word in words)


def _absent(source: str, instead: str) -> str:
    return (
        f"its data set ({source}) is not on this machine, and nothing is downloaded here: load it once with the package"
        f" `datasets` where there is a network, or give {instead}"
    )


def _from_file(job: Mapping[str, Any]) -> Any:
    """A task of plain data: fields, and rows that are read here."""
    from lm_eval.api.task import ConfigurableTask

    fields = dict(job["fields"])
    _check_names(fields)
    if not 1 <= int(fields.get("repeats") or 1) <= MOST_REPEATED:
        raise Refused("`repeats` must be at least 1")
    for key in ("tag", "group"):
        fields.pop(key, None)
    if job["format"]:
        with bounded_memory():
            rows = {split: dataset(files, job["format"]) for split, files in job["data"].items()}
        fields |= {"custom_dataset": lambda **_: rows, "dataset_kwargs": None, "metadata": None}
    else:
        fields["dataset_kwargs"] = None
    try:
        return ConfigurableTask(config=fields)
    except Exception as error:
        if not job["format"] and _is_offline(error):
            raise Refused(_absent(fields["dataset_path"], "local files")) from error
        raise


def _check_names(fields: Mapping[str, Any]) -> None:
    """Refused for metrics and filters that are not lm-eval's own: it would load them from the hub or a directory."""
    from lm_eval.api.registry import filter_registry, metric_registry

    metrics = fields.get("metric_list") or []
    asked = [("metric", metric_registry, None if each.get("hf_evaluate") else each.get("metric")) for each in metrics]
    filters = [step for each in fields.get("filter_list") or [] for step in each.get("filter") or []]
    asked += [("filter", filter_registry, step.get("function")) for step in filters]
    for kind, registry, name in asked:
        if name not in registry or name == "custom":
            raise Refused(json.dumps({f"unknown {kind}": str(name), "known": sorted(map(str, registry))}))


def _text(value: Any) -> str:
    return json.dumps(value, default=str, sort_keys=True)


def _described(task: Any, items: int | None) -> dict[str, Any]:
    """Number of items, a digest of all that is asked about them, and how texts are generated, None if none are."""
    config = {key: value for key, value in task.dump_config().items() if key != "metadata"}
    digest = hashlib.sha256(f"[{_text(config)}, [".encode())
    total = 0
    for document in task.eval_docs:  # which may lie on the disk
        digest.update(f"{', ' if total else ''}{_text(document)}".encode())
        total += 1
    digest.update(b"]]")
    count = min(total, items or total)
    generation = task.config.generation_kwargs if task.OUTPUT_TYPE == "generate_until" else None
    plain = json.loads(json.dumps(generation, default=str))
    return {"items": count, "digest": digest.hexdigest(), "generation": plain}


def scores_of(name: str, task: Any, answer: Any, items: int | None, chat: bool) -> dict[str, Any]:
    """Run a task with lm-eval's own evaluator, and its scores by metric and filter. chat: through chat templates."""
    import numpy as np
    from lm_eval.evaluator import evaluate

    from flashstill.harness.lm import HarnessModel

    random.seed(0)  # lm-eval's own seeds
    np.random.seed(FEWSHOT_SEED)
    task.set_fewshot_seed(FEWSHOT_SEED)
    if task.get_config("num_fewshot") is None:
        task.set_config("num_fewshot", 0)
    model = HarnessModel(answer)
    found = evaluate(
        model, {"tasks": {name: task}, "groups": {}}, limit=items, bootstrap_iters=0, log_samples=True,
        apply_chat_template=chat, fewshot_as_multiturn=chat,
    )  # fmt: skip
    samples = found["samples"][name]
    return {"scores": _scores(task, samples), "chance": _chance(task, samples)}


def _scores(task: Any, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from lm_eval.api import metrics

    kinds = {
        metrics.mean: "mean", metrics.perplexity: "perplexity", metrics.weighted_perplexity: "weighted_perplexity",
        metrics.bits_per_byte: "bits_per_byte",
    }  # fmt: skip
    values: dict[tuple[str, str], list[Any]] = {}
    for sample in samples:
        for metric in sample["metrics"]:
            values.setdefault((metric, sample["filter"]), []).append(sample[metric])
    scores = []
    for (metric, chosen), own in values.items():
        combine = task.aggregation().get(metric, metrics.mean)
        kind = kinds.get(combine, "other")
        pairs = [] if kind == "other" else [list(each) if isinstance(each, tuple) else [each, 1] for each in own]
        scores.append({
            "metric": metric, "filter": chosen, "kind": kind, "count": len(own), "whole": float(combine(own)),
            "values": [[float(value), float(weight)] for value, weight in pairs],
            "higher": bool(task.higher_is_better().get(metric, True)),
        })  # fmt: skip
    return scores


def _chance(task: Any, samples: list[dict[str, Any]]) -> float:
    """Mean over items of the share of choices that are right: what guessing scores; 0 for free answers."""
    if task.OUTPUT_TYPE != "multiple_choice" or not samples:
        return 0.0
    shares = []
    for sample in samples:
        right = task.doc_to_text(sample["doc"]) if task.multiple_input else task.doc_to_target(sample["doc"])
        shares.append((len(right) if isinstance(right, list) else 1) / len(task.doc_to_choice(sample["doc"])))
    return sum(shares) / len(shares)


if __name__ == "__main__":
    main()
