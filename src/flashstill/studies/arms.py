"""Arms of a study: distillations of one seed that share text, signals and initial weights, evaluated together.

data/ signals/ starts/NAME/   shared; arms with the same initial weights have the same start NAME
arms/NAME/                    files of run_distillation, without evaluation
records.jsonl                 the models of the seed and their quality, in the format of families
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.records import write_records
from flashstill.runs.distillation import run_distillation
from flashstill.runs.engine import Distillation
from flashstill.runs.evaluating import held_texts
from flashstill.runs.outcome import as_table, judge
from flashstill.runs.workdir import ARITHMETIC, Workdir
from flashstill.studies.arm_records import arm_records, teacher_record
from flashstill.studies.seeds import RECORDS

if TYPE_CHECKING:
    from flashstill.distill.models.arithmetic import Arithmetic

Quality = dict[str, dict[str, dict[str, list[float]]]]
"""[model][domain][metric] -> value, low and high"""

DOMAINS = {"heldout": "held out", "out-of-domain": "other domain"}


def train_arms(arms: Mapping[str, DistillRecipe], starts: Mapping[str, str], place: Path, progress: Progress) -> None:
    """Train every arm that is not trained yet. starts: arm -> name of its start."""
    for name, recipe in arms.items():
        run_distillation(recipe, Workdir.arm(place, name, starts[name]), progress, judged=False)


def arithmetic_of(place: Path) -> Arithmetic:
    """The arithmetic of a seed's arms, also used by all other work of the seed."""
    from flashstill.distill.models.arithmetic import begun, in_use

    return in_use(begun(place / ARITHMETIC))


def loads(directories: Mapping[str, Path], place: Path) -> dict[str, Callable[[], Any]]:
    """Functions that load the models of these directories in the arithmetic of a seed's arms."""
    from flashstill.distill.models import load_model

    dtype = arithmetic_of(place).dtype
    return {name: functools.partial(load_model, directory, dtype) for name, directory in directories.items()}


def trained(place: Path, arm: str) -> Path:
    """The directory of an arm's student."""
    return Workdir.arm(place, arm, arm).student


def evaluate_arms(
    models: Mapping[str, Callable[[], Any]],
    arms: Mapping[str, DistillRecipe],
    starts: Mapping[str, str],
    place: Path,
    progress: Progress,
    untrained: Mapping[str, str] | None = None,
) -> Quality:
    """Evaluate the teacher and `models` on held-out and out-of-domain text; writes records.jsonl.

    models: functions that load them, by arm; one at a time is in memory.  starts: arm -> name of its start; untrained:
    untrained model -> arm that starts from it.
    """
    from flashstill.distill.training import World

    name, recipe = next(iter(arms.items()))  # text, teacher and seed are the same for all arms
    work = Distillation(recipe, Workdir.arm(place, name, starts[name]), progress, World())
    arithmetic = str(work.arithmetic)
    records = [teacher_record(work.directories[0], arithmetic)]

    def noted(name: str, load: Callable[[], Any]) -> Callable[[], Any]:
        def loaded() -> Any:
            model = load()
            records.extend(arm_records({name: model}, arms, starts, untrained or {}, place, arithmetic))
            return model

        return loaded

    quality = judge({name: noted(name, load) for name, load in models.items()}, held_texts(work), recipe.seed, progress)
    write_records(place / RECORDS, [*records, *quality])
    return as_table(quality)


def nats(quality: Quality, model: str, domain: str = "heldout") -> float:
    """Mean NLL of a model in nats per token."""
    return math.log(quality[model][domain]["perplexity"][0])


def losses(quality: Quality, models: Mapping[str, str]) -> dict[str, float]:
    """Loss in nats by domain and model, with readable names; models: name -> readable name."""
    return {
        f"loss, {where}: {who}": nats(quality, model, domain)
        for domain, where in DOMAINS.items()
        for model, who in models.items()
    }


def measured(
    quality: Quality, models: Mapping[str, str], metrics: Mapping[str, str], domains: Iterable[str] = tuple(DOMAINS)
) -> Iterator[tuple[str, float]]:
    """(readable name, value) of every metric, domain and model; models and metrics: name -> readable name."""
    for metric, what in metrics.items():
        for domain in domains:
            for model, who in models.items():
                yield f"{what}, {DOMAINS[domain]}: {who}", quality[model][domain][metric][0]
