"""Distil and run recipes from Python; the functions return frozen results.

torch and transformers are imported when a function is called; if they are not installed, BadInput names the extra to
install.  After an interruption, the same call resumes the work.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flashstill.calls import refuses_other_keywords
from flashstill.distilled import DistillResult, FamilyResult, StudyResult
from flashstill.errors import BadInput
from flashstill.extras import missing_package
from flashstill.progress import Progress, Silent

if TYPE_CHECKING:
    from flashstill.recipes import DistillRecipe
    from flashstill.recipes.study import StudyRecipe

P = ParamSpec("P")
R = TypeVar("R")
MINUTES = (0.1, 1e6)
"""the least and the most that a family's run may be given"""


def says_what_is_missing(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: a missing package raises BadInput naming the extra that installs it."""

    @functools.wraps(function)
    def called(*values: P.args, **named: P.kwargs) -> R:
        try:
            return function(*values, **named)
        except ModuleNotFoundError as error:
            missing = missing_package(error)
            if missing is None:
                raise
            raise BadInput(missing) from error

    return refuses_other_keywords(called)


def progress_of(progress: bool | Progress) -> Progress:
    """False is silent; True draws bars on standard error."""
    if not isinstance(progress, bool):
        return progress
    if not progress:
        return Silent()
    from flashstill.console import Console

    return Console()


@says_what_is_missing
def run(
    recipe: str | Path,
    out: str | Path,
    *,
    seed: int | None = None,
    minutes: float | None = None,
    arithmetic: str | None = None,
    log: str | Sequence[str] = (),
    progress: bool | Progress = False,
) -> FamilyResult | StudyResult:
    """Distil, measure, evaluate and price a family of students, or run a study over several seeds, from a recipe.

    recipe: a family.toml or study.toml, or the name of a built-in one such as "demo".  out: directory for the results.
    seed: run only this seed.  minutes: about how long a family may take; arithmetic: auto, bf16 or fp32; log: loggers
    of the students' training ("tensorboard", "trackio", "wandb"); these override the recipe.
    """
    return run_recipe(
        str(recipe), Path(out), seed=seed, minutes=minutes, arithmetic=arithmetic, log=log,
        progress=progress_of(progress),
    )  # fmt: skip


def run_recipe(
    recipe: str,
    out: Path,
    *,
    seed: int | None = None,
    minutes: float | None = None,
    arithmetic: str | None = None,
    log: str | Sequence[str] = (),
    progress: Progress,
    command: str = "",
) -> FamilyResult | StudyResult:
    """As `run`. command: the command line that started the run, kept with its results."""
    from flashstill.recipes import read_recipe
    from flashstill.recipes.arithmetic import with_arithmetic
    from flashstill.recipes.logs import with_log
    from flashstill.recipes.studies import kind_of, read_study, recipe_file
    from flashstill.report.findings import findings
    from flashstill.runs import run_family

    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise BadInput(f"seed is {seed!r}, not a whole number of at least 0")
    path = recipe_file(recipe)
    if kind_of(path):
        if minutes is not None:
            raise BadInput("minutes limit the run of a family; a study takes as long as its seeds need")
        study = with_log(read_study(path), _names(log)) if log else read_study(path)
        return _study(study if arithmetic is None else with_arithmetic(study, arithmetic), out, seed, progress)
    family = read_recipe(path)
    family = family if arithmetic is None else with_arithmetic(family, arithmetic)
    family = family if seed is None else dataclasses.replace(family, seed=seed)
    family = family if minutes is None else dataclasses.replace(family, minutes=_minutes(minutes))
    family = with_log(family, _names(log)) if log else family
    records = run_family(family, out, progress, command)
    return FamilyResult(out=out, records=tuple(records), findings=tuple(findings(records)))


def _names(log: str | Sequence[str]) -> Sequence[str]:
    return [log] if isinstance(log, str) else log


def _minutes(minutes: float) -> float:
    low, high = MINUTES
    if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not low <= minutes <= high:
        raise BadInput(f"minutes is {minutes!r}, not a number from {low:g} to {high:,.0f}")
    return float(minutes)


def _study(recipe: StudyRecipe, out: Path, seed: int | None, progress: Progress) -> StudyResult:
    from flashstill.studies import run_study

    if seed is not None:
        return StudyResult(out=out, summary=run_study(recipe, [seed], out, progress))
    return StudyResult(
        out=out, summary=run_study(recipe, range(recipe.seeds), out, progress, max(recipe.seeds, recipe.most_seeds))
    )


@says_what_is_missing
def distill(
    recipe: str | Path,
    out: str | Path,
    *,
    arithmetic: str | None = None,
    log: str | Sequence[str] = (),
    progress: bool | Progress = False,
) -> DistillResult:
    """Train one student on its teachers, from a distill.toml. out: directory for the results, including the student.

    arithmetic: auto, bf16 or fp32, log: loggers of the training ("tensorboard", "trackio", "wandb"); both override the
    recipe.
    """
    from flashstill.recipes.logs import with_log
    from flashstill.runs.distillation import run_distillation

    asked = _distillation(recipe, arithmetic)
    asked = with_log(asked, _names(log)) if log else asked
    return DistillResult(out=Path(out), summary=run_distillation(asked, Path(out), progress_of(progress)))


@says_what_is_missing
def build_signals(
    recipe: str | Path,
    out: str | Path,
    shard: tuple[int, int] = (0, 1),
    *,
    arithmetic: str | None = None,
    progress: bool | Progress = False,
) -> dict[str, Any]:
    """Run only the teachers of a distill.toml and keep their signals, or the text that they write; sizes by teacher.

    shard: (i, n), the part of the work of the i-th of n processes, from 0.
    """
    from flashstill.runs import distillation

    return distillation.build_signals(_distillation(recipe, arithmetic), Path(out), progress_of(progress), shard)


def _distillation(recipe: str | Path, arithmetic: str | None) -> DistillRecipe:
    from flashstill.recipes import read_distillation
    from flashstill.recipes.arithmetic import with_arithmetic

    asked = read_distillation(Path(recipe))
    return asked if arithmetic is None else with_arithmetic(asked, arithmetic)
