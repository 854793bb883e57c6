"""Arms of a study: distillations of one seed that share text, signals and first weights, judged together.

data/ signals/ starts/NAME/   shared; arms that begin alike name the same start
arms/NAME/                    what run_distillation leaves, without its own evaluation
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.progress import Progress
from flashstill.recipes import DistillRecipe
from flashstill.runs.distillation import run_distillation
from flashstill.runs.engine import Distillation
from flashstill.runs.outcome import as_table, judge
from flashstill.runs.workdir import ARITHMETIC, Workdir

if TYPE_CHECKING:
    from flashstill.distill.models.arithmetic import Arithmetic

Quality = dict[str, dict[str, dict[str, list[float]]]]
"""[model][domain][metric] -> value, low and high"""

DOMAINS = {"heldout": "held out", "out-of-domain": "other domain"}


def train_arms(arms: Mapping[str, DistillRecipe], starts: Mapping[str, str], place: Path, progress: Progress) -> None:
    """Every arm that is not trained yet. starts: arm -> the start it shares."""
    for name, recipe in arms.items():
        run_distillation(recipe, Workdir.arm(place, name, starts[name]), progress, judged=False)


def arithmetic_of(place: Path) -> Arithmetic:
    """In which the arms of a seed were begun, and so everything else of it runs."""
    from flashstill.distill.models.arithmetic import begun, in_use

    return in_use(begun(place / ARITHMETIC))


def trained(place: Path, arm: str) -> Path:
    """The directory of an arm's student."""
    return Workdir.arm(place, arm, arm).student


def judged(models: Mapping[str, Any], recipe: DistillRecipe, start: str, place: Path, progress: Progress) -> Quality:
    """The teacher and `models` on held-out text and on that of another domain. recipe: one of the arms."""
    from flashstill.distill.training import World

    work = Distillation(recipe, Workdir.arm(place, recipe.name, start), progress, World())
    return as_table(judge({"teacher": None, **models}, work.held_texts(), recipe.seed, progress))


def nats(quality: Quality, model: str, domain: str = "heldout") -> float:
    """Mean loss of a model, nats a token."""
    return math.log(quality[model][domain]["perplexity"][0])


def losses(quality: Quality, models: Mapping[str, str]) -> dict[str, float]:
    """Loss in nats by domain and model, in words; models: name -> words."""
    return {
        f"loss, {where}: {who}": nats(quality, model, domain)
        for domain, where in DOMAINS.items()
        for model, who in models.items()
    }


def measured(
    quality: Quality, models: Mapping[str, str], metrics: Mapping[str, str], domains: Iterable[str] = tuple(DOMAINS)
) -> Iterator[tuple[str, float]]:
    """(words, value) of every metric, domain and model; models and metrics: name -> words."""
    for metric, what in metrics.items():
        for domain in domains:
            for model, who in models.items():
                yield f"{what}, {DOMAINS[domain]}: {who}", quality[model][domain][metric][0]
