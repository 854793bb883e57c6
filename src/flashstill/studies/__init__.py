"""Studies: experiments on distillation, run with several seeds, each resumable, with intervals over the seeds.

study.toml             the resolved recipe; a directory with a different one is refused
seed-0/ seed-1/ ...    files of each seed; records.jsonl: its models and their quality, in the format of families;
                       result.json when it is finished
summary.json           every measure and share with its interval, and the minimum values that the study claims
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flashstill.files import make_directory, remove_leftovers, write_text
from flashstill.progress import Progress
from flashstill.recipes.resuming import has_moved
from flashstill.recipes.study import StudyRecipe
from flashstill.report.study import write_study_report
from flashstill.runs import kept
from flashstill.runs.origins import check_models
from flashstill.runs.run_lock import adopt, claim, free_if_unused, lock
from flashstill.studies import (
    classifiers,
    deep_think,
    kd_against_labels,
    kd_by_passes,
    kd_by_size,
    moe_to_dense,
    rounding,
)
from flashstill.studies.classifiers import soft_targets
from flashstill.studies.seeds import Bar, Result, together
from flashstill.verdicts import NOT_SHOWN

__all__ = ["STUDIES", "Study", "run_study"]

RECIPE, RESULT, SUMMARY = "study.toml", "result.json", "summary.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A kind of study. run: (recipe, seed, directory, progress) -> result; bars: figure -> claimed minimum, or what
    gives them for a recipe."""

    run: Callable[[Any, int, Path, Progress], Result]
    bars: Mapping[str, Bar] | Callable[[Any], Mapping[str, Bar]]


STUDIES: Mapping[str, Study] = {
    "classifiers": Study(run=classifiers.run, bars=classifiers.BARS),
    "deep-think": Study(run=deep_think.run, bars=deep_think.bars),
    "kd-against-labels": Study(run=kd_against_labels.run, bars={}),
    "kd-by-passes": Study(run=kd_by_passes.run, bars=kd_by_passes.BARS),
    "kd-by-size": Study(run=kd_by_size.run, bars=kd_by_size.BARS),
    "moe-to-dense": Study(run=moe_to_dense.run, bars=moe_to_dense.BARS),
    "rounding": Study(run=rounding.run, bars=rounding.BARS),
    "soft-targets": Study(run=soft_targets.run, bars=soft_targets.BARS),
}
"""by the recipe's key `study`"""


def run_study(
    recipe: StudyRecipe, seeds: Sequence[int], out: Path, progress: Progress, most: int = 0
) -> dict[str, Any]:
    """Run every seed that is not finished; returns the summary, also written to summary.json.

    most: go on with the seeds that follow until the interval of every claimed figure decides, up to this many seeds.
    Raises BadInput for a directory that belongs to a different recipe or is used by another process.
    """
    study = STUDIES[recipe.study]
    changes = claim(recipe, out, RECIPE)
    with lock(out), free_if_unused(out, RECIPE):
        moved = [change.key for change in changes if has_moved(change)]
        _check_models(recipe, seeds, out, progress, moved)
        adopt(recipe, out, RECIPE, changes, progress)
        remove_leftovers(out)
        run, results = list(seeds), [_seed(study, recipe, seed, out / f"seed-{seed}", progress) for seed in seeds]
        while True:
            kept.check_alike({out / f"seed-{seed}" / RESULT: found for seed, found in zip(run, results, strict=True)})
            summary = _summary(study, recipe, run, results)
            open_ = [name for name, figure in summary["figures"].items() if figure.get("verdict") == NOT_SHOWN]
            if not open_ or len(run) >= most:
                break
            also = f" and {len(open_) - 1} more" if len(open_) > 1 else ""
            progress.say(f"{open_[0].replace('_', ' ')}{also}: not decided by {len(run)} seeds; up to {most} are run")
            run.append(max(run) + 1)
            _check_models(recipe, run[-1:], out, progress)
            results.append(_seed(study, recipe, run[-1], out / f"seed-{run[-1]}", progress))
        write_text(out / SUMMARY, json.dumps(summary, indent=1))
        write_study_report(out)
    return summary


def _check_models(
    recipe: StudyRecipe, seeds: Sequence[int], out: Path, progress: Progress, moved: Sequence[str] = ()
) -> None:
    """BadInput if seeds that are not finished would begin with other models than those before them."""
    if moved or not all((out / f"seed-{seed}" / RESULT).exists() for seed in seeds):
        check_models(recipe.models(), out, progress, moved)


def _seed(study: Study, recipe: StudyRecipe, seed: int, place: Path, progress: Progress) -> dict[str, Any]:
    path = place / RESULT
    if not path.exists():
        begun = place.is_dir() and any(place.iterdir())
        make_directory(place)
        progress.say(f"{recipe.name}, seed {seed}")
        started = time.monotonic()
        result = asdict(study.run(recipe, seed, place, progress))
        # time of this process only: that of an interrupted earlier one is unknown
        took = {"seconds": round(time.monotonic() - started, 1), "resumed": begun}
        write_text(path, json.dumps({**result, **took}, indent=1))
    return kept.seed_result(path)


def _summary(
    study: Study, recipe: StudyRecipe, seeds: Sequence[int], results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    names = ("measures", "shares", "details")
    bars = study.bars(recipe) if callable(study.bars) else study.bars
    figures = together([Result(**{name: found[name] for name in names}) for found in results], bars)
    alone = results[0]["details"] if len(results) == 1 else {}  # with a single seed, its details are top-level keys
    return {
        **alone,
        "study": recipe.study,
        "name": recipe.name,
        "seeds": list(seeds),
        "figures": figures,
        "details": {str(seed): found["details"] for seed, found in zip(seeds, results, strict=True)},
        "seconds": round(sum(found["seconds"] for found in results), 1),
        "resumed": [seed for seed, found in zip(seeds, results, strict=True) if found.get("resumed")],
    }
