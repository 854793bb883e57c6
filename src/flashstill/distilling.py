"""Distil, run and evaluate from Python; the functions return frozen results.

torch and transformers are imported when a function is called; if they are not installed, BadInput names the extra to
install.  After an interruption, the same call resumes the work.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flashstill.distilled import DistillResult, EvaluationResult, FamilyResult, StudyResult
from flashstill.errors import BadInput
from flashstill.extras import missing_package
from flashstill.progress import Progress, Silent

if TYPE_CHECKING:
    from flashstill.recipes import DistillRecipe
    from flashstill.recipes.study import StudyRecipe
    from flashstill.records import AcceptanceRecord

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

    return called


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


@says_what_is_missing
def evaluate(
    models: str | Sequence[str] | Mapping[str, str],
    texts: str | Sequence[str] | Mapping[str, str] = (),
    *,
    teacher: str = "",
    control: str = "",
    base: str = "",
    metrics: str | Sequence[str] = (),
    tokens: int = 32_768,
    window_tokens: int = 512,
    seed: int = 0,
    arithmetic: str = "auto",
    out: str | Path | None = None,
    chat_template: str | Path = "",
    tasks: str | Path | Sequence[str | Path] = (),
    items: int | None = None,
    attempts: int = 0,
    chat: bool = False,
    allow_task_code: bool = False,
    progress: bool | Progress = False,
) -> EvaluationResult:
    """Evaluate models on texts and tasks: bits per byte, accuracy, calibration; KL, agreement and gap closed.

    models: Hugging Face directories, .gguf files or names of packaged models; a mapping gives each one a name.
    texts: built-in corpora, or files or directories of text, JSON, CSV, Parquet or Arrow; also as a mapping.  Of
    conversations the answers are scored, with the chat_template in a file or the model's own.  teacher: the model that
    others are compared with.  control: the student trained on hard labels.  base: the base model of the LoRA
    adapters among the models, if not the ones that they name.  tokens: number used of each text;
    window_tokens: length of one forward pass.  tasks: lm-eval's task files (YAML) or names, "gym:NAME" of
    reasoning-gym, or .toml files with a table [task]; items: at most so many of each; attempts: at each problem of the
    latter two, for best of N and majority of N; chat: ask through each model's chat template; allow_task_code: whether
    task files may run the Python code that they name.  out: file for the records; results of finished models are kept
    beside it, so an interrupted evaluation resumes.
    """
    from flashstill.evaluate import evaluate_models

    evaluation = evaluate_models(
        [models] if isinstance(models, str) else models, [texts] if isinstance(texts, str) else texts,
        teacher=teacher, control=control, base=base, metrics=[metrics] if isinstance(metrics, str) else metrics,
        tokens=tokens, window_tokens=window_tokens, seed=seed, arithmetic=arithmetic,
        out=None if out is None else Path(out), chat_template=str(chat_template),
        tasks=[str(tasks)] if isinstance(tasks, str | Path) else [str(task) for task in tasks], items=items,
        attempts=attempts, chat=chat, allow_task_code=allow_task_code, progress=progress_of(progress),
    )  # fmt: skip
    return EvaluationResult(
        records=evaluation.records, left_out=evaluation.left_out, warnings=evaluation.warnings,
        reliability=evaluation.reliability,
    )  # fmt: skip


@says_what_is_missing
def acceptance(
    target: str,
    drafts: str | Sequence[str],
    data: str,
    *,
    draft_tokens: int = 4,
    temperatures: float | Sequence[float] = 1.0,
    top_p: float = 1.0,
    documents: int = 32,
    prompt_tokens: int = 64,
    new_tokens: int = 64,
    counted: bool = True,
    seed: int = 0,
    arithmetic: str = "auto",
    out: str | Path | None = None,
    progress: bool | Progress = False,
) -> tuple[AcceptanceRecord, ...]:
    """Measure how often a target accepts the tokens of drafts, by position, on its own continuations of a text.

    target, drafts: Hugging Face directories, .gguf files or names of packaged models; a draft may be a drafting head
    (student kind eagle).  data: a built-in corpus, or a file or directory of text; one prompt of each of `documents`
    documents.  counted: also decode speculatively, and count.  out: file for the records; `acceptance.jsonl` in a
    draft's directory is found by `predict(draft=DIRECTORY)`.
    """
    from flashstill.evaluate.drafts import measure_acceptance

    return measure_acceptance(
        target, [drafts] if isinstance(drafts, str) else drafts, data, draft_tokens=draft_tokens,
        temperatures=[temperatures] if isinstance(temperatures, int | float) else temperatures, top_p=top_p,
        documents=documents, prompt_tokens=prompt_tokens, new_tokens=new_tokens, counted=counted, seed=seed,
        arithmetic=arithmetic, out=None if out is None else Path(out), progress=progress_of(progress),
    )  # fmt: skip
