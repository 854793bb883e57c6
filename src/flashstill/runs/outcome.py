"""Results of one distillation: records.jsonl for other tools, summary.json for readers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flashstill.checked import json_object
from flashstill.files import write_text
from flashstill.progress import Advance, Progress
from flashstill.recipes import DistillRecipe
from flashstill.records import QualityRecord, write_records
from flashstill.runs import budget, kept
from flashstill.runs.texts import RECORDS
from flashstill.runs.validating import outcome_of
from flashstill.runs.workdir import Workdir

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.models.arithmetic import Arithmetic
    from flashstill.distill.signals import Signals


def leave_summary(
    recipe: DistillRecipe,
    workdir: Workdir,
    models: Mapping[str, Any],
    records: list[QualityRecord],
    arithmetic: Arithmetic,
) -> None:
    """Write both files; the summary last. records: every metric of every model on every text."""
    write_records(workdir.out / "records.jsonl", list(records))
    rows = kept.steps(workdir.training)
    summary = {
        "name": recipe.name,
        "student": str(workdir.student),
        "parameters": {name: sum(each.numel() for each in model.parameters()) for name, model in models.items()},
        "arithmetic": asdict(arithmetic),
        "steps": len(rows),
        "training_s": round(kept.seconds(rows), 2),
        "tokens_per_s": float(np.median([row["tokens_per_s"] for row in rows])),
        "quality": as_table(records),
        "records": json_object(workdir.data / RECORDS) if (workdir.data / RECORDS).is_file() else {},
        "made": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }
    if outcome := outcome_of(recipe, rows):
        summary["validation"] = outcome
    segments = kept.segments(workdir.training)
    if len(segments) > 1:
        summary["segments"] = segments
    if recipe.student.adapter.rank:
        summary["adapter"] = {"path": str(workdir.adapter), "parameters": parameters_of_adapter(workdir.adapter)}
    if recipe.budget.is_set:
        summary["budget"] = budget.outcome(recipe, workdir, models["student"], summary)
    write_text(workdir.out / "summary.json", json.dumps(summary, indent=1))


def parameters_of_adapter(path: Path) -> int:
    """Number of weights of an adapter that was written, from the header of its file."""
    import math

    from safetensors import safe_open

    from flashstill.arch.lora_base import WEIGHTS

    with safe_open(path / WEIGHTS, framework="np") as opened:
        return sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118


def judge(
    models: Mapping[str, Callable[[], Any]], texts: Mapping[str, tuple[Packed, Signals]], seed: int, progress: Progress
) -> list[QualityRecord]:
    """Every metric of the teacher and of every model on every text. The teacher is scored from its stored signals.

    models: functions that load them; each is loaded when its turn comes and let go after it, so that one at a time is
    in memory.  texts: with the teacher's exact signals, or with those of a server, which give only a lower bound of the
    KL.
    """
    found: dict[str, list[QualityRecord]] = {domain: [] for domain in texts}
    tokens = sum(packed.token_count for packed, _ in texts.values())
    with progress.task("evaluate", (len(models) + 1) * tokens, "tokens") as advance:
        for place, (name, load) in enumerate(models.items()):
            # the teacher together with the first model, whose arithmetic it takes
            run = ("teacher", name) if place == 0 else (name,)
            for domain, records in _judged(run, load, texts, seed, advance).items():
                found[domain] += records
    return [record for records in found.values() for record in records]


def _judged(
    names: tuple[str, ...],
    load: Callable[[], Any],
    texts: Mapping[str, tuple[Packed, Signals]],
    seed: int,
    advance: Advance,
) -> dict[str, list[QualityRecord]]:
    """The records of one model, the last of the names, and of the teacher if it is among them, by domain."""
    from flashstill.evaluate import score_tokens, summarise

    model, found = load(), {}
    for domain, (packed, signals) in texts.items():
        run = {name: model if name == names[-1] else None for name in names}
        scores = score_tokens(run, packed, signals, advance)
        found[domain] = [
            record for name in names for record in summarise(scores[name], name, domain, seed, signals.head is not None)
        ]
    return found


def as_table(records: list[QualityRecord]) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """[model][domain][metric] -> value, low and high, which are None of a single document."""
    table: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for record in records:
        place = table.setdefault(record.model, {}).setdefault(record.domain, {})
        place[record.metric] = [record.value, record.low, record.high]
    return table
