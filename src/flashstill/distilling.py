"""Distil, run and evaluate from Python; the functions return frozen results.

torch and transformers are imported when a function is called; if they are not installed, BadInput names the extra to
install.  After an interruption, the same call resumes the work.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flashstill.errors import BadInput
from flashstill.extras import missing_package
from flashstill.progress import Progress, Silent
from flashstill.records import QualityRecord, Record, to_line
from flashstill.tables import cell, flat, html_table

if TYPE_CHECKING:
    from flashstill.recipes.study import StudyRecipe

P = ParamSpec("P")
R = TypeVar("R")
SHOWN = 30
"""rows displayed in a notebook"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyResult:
    """Results of running a family. out: its directory, with report.html; findings: conclusions as sentences."""

    out: Path
    records: tuple[Record, ...]
    findings: tuple[str, ...]

    @property
    def report(self) -> Path:
        """Path of report.html."""
        return self.out / "report.html"

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per record; the column `record` is its kind."""
        return [_row(record) for record in self.records]

    def as_dict(self) -> dict[str, Any]:
        """Paths, findings and records as plain values."""
        return {
            "out": str(self.out),
            "report": str(self.report),
            "findings": list(self.findings),
            "records": self.as_records(),
        }

    def _repr_html_(self) -> str:
        return html_table(("",), [(line,) for line in self.findings], str(self.report))


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyResult:
    """Results of a study over several seeds. summary: content of summary.json, figures with their intervals."""

    out: Path
    summary: Mapping[str, Any]

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per figure: value, interval over seeds (low, high), the threshold and whether it is met."""
        return [{"figure": name, **figure} for name, figure in self.summary["figures"].items()]

    def as_dict(self) -> dict[str, Any]:
        """The summary."""
        return dict(self.summary)

    def _repr_html_(self) -> str:
        return _records_table(self.as_records(), ("figure", "value", "low", "high", "bar", "holds"), str(self.out))


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillResult:
    """Results of distilling a student. summary: content of summary.json."""

    out: Path
    summary: Mapping[str, Any]

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per model and text: each metric with the low and high end of its interval."""
        rows = []
        for model, domains in self.summary["quality"].items():
            for domain, metrics in domains.items():
                row: dict[str, Any] = {"model": model, "domain": domain}
                for name, (value, low, high) in metrics.items():
                    row |= {name: value, f"{name}_low": low, f"{name}_high": high}
                rows.append(row)
        return rows

    def as_dict(self) -> dict[str, Any]:
        """The summary."""
        return dict(self.summary)

    def _repr_html_(self) -> str:
        names = ("model", "domain", "bits_per_byte", "kl_to_teacher", "agreement")
        return _records_table(self.as_records(), names, str(self.out))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """Quality of models on texts. left_out: metric -> why it could not be computed for a comparison."""

    records: tuple[Record, ...]
    left_out: Mapping[str, str]

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per model, text and metric, with its 95 % interval."""
        return [dataclasses.asdict(record) for record in self.records if isinstance(record, QualityRecord)]

    def as_dict(self) -> dict[str, Any]:
        """All records, including those describing the models, and the metrics left out."""
        return {"records": [_row(record) for record in self.records], "left_out": dict(self.left_out)}

    def _repr_html_(self) -> str:
        return _records_table(self.as_records(), ("model", "domain", "metric", "value", "low", "high"), "")


def _row(record: Record) -> dict[str, Any]:
    """A record as a flat row; the column `record` is its kind."""
    return flat({name: value for name, value in json.loads(to_line(record)).items() if name != "schema"})


def _records_table(records: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> str:
    kept = [name for name in names if any(record.get(name) is not None for record in records)]
    return html_table(kept, [[cell(record.get(name)) for name in kept] for record in records[:SHOWN]], title)


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


def _progress(progress: bool | Progress) -> Progress:
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
    arithmetic: str | None = None,
    progress: bool | Progress = False,
) -> FamilyResult | StudyResult:
    """Distil, measure, evaluate and price a family of students, or run a study over several seeds, from a recipe.

    recipe: a family.toml or study.toml, or the name of a built-in one such as "demo".  out: directory for the results.
    seed: run only this seed.  arithmetic: auto, bf16 or fp32, overriding the recipe.
    """
    from flashstill.recipes import read_recipe
    from flashstill.recipes.arithmetic import with_arithmetic
    from flashstill.recipes.studies import kind_of, read_study, recipe_file
    from flashstill.report import findings
    from flashstill.runs import run_family

    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise BadInput(f"seed is {seed!r}, not a whole number of at least 0")
    path = recipe_file(str(recipe))
    if kind_of(path):
        study = read_study(path)
        return _study(study if arithmetic is None else with_arithmetic(study, arithmetic), Path(out), seed, progress)
    family = read_recipe(path)
    family = family if arithmetic is None else with_arithmetic(family, arithmetic)
    family = family if seed is None else dataclasses.replace(family, seed=seed)
    records = run_family(family, Path(out), _progress(progress))
    return FamilyResult(out=Path(out), records=tuple(records), findings=tuple(findings(records)))


def _study(recipe: StudyRecipe, out: Path, seed: int | None, progress: bool | Progress) -> StudyResult:
    from flashstill.studies import run_study

    seeds = range(recipe.seeds) if seed is None else [seed]
    return StudyResult(out=out, summary=run_study(recipe, seeds, out, _progress(progress)))


@says_what_is_missing
def distill(
    recipe: str | Path, out: str | Path, *, arithmetic: str | None = None, progress: bool | Progress = False
) -> DistillResult:
    """Train one student on its teachers, from a distill.toml. out: directory for the results, including the student.

    arithmetic: auto, bf16 or fp32, overriding the recipe.
    """
    from flashstill.recipes import read_distillation
    from flashstill.recipes.arithmetic import with_arithmetic
    from flashstill.runs.distillation import run_distillation

    asked = read_distillation(Path(recipe))
    asked = asked if arithmetic is None else with_arithmetic(asked, arithmetic)
    return DistillResult(out=Path(out), summary=run_distillation(asked, Path(out), _progress(progress)))


@says_what_is_missing
def evaluate(
    models: str | Sequence[str] | Mapping[str, str],
    texts: str | Sequence[str] | Mapping[str, str],
    *,
    teacher: str = "",
    control: str = "",
    metrics: str | Sequence[str] = (),
    tokens: int = 32_768,
    window_tokens: int = 512,
    seed: int = 0,
    arithmetic: str = "auto",
    out: str | Path | None = None,
    progress: bool | Progress = False,
) -> EvaluationResult:
    """Evaluate models on texts: bits per byte, perplexity, accuracy; KL to a teacher, top-1 agreement, gap closed.

    models: Hugging Face directories, .gguf files or names of packaged models; a mapping gives each one a name.
    texts: built-in corpora, or files or directories of text, JSONL or Parquet; also as a mapping.  teacher: the model
    that others are compared with.  control: the student trained on hard labels.  tokens: number used of each text;
    window_tokens: length of one forward pass.  out: file for the records; results of finished models are kept beside
    it, so an interrupted evaluation resumes.
    """
    from flashstill.evaluate import evaluate_models

    evaluation = evaluate_models(
        [models] if isinstance(models, str) else models, [texts] if isinstance(texts, str) else texts,
        teacher=teacher, control=control, metrics=[metrics] if isinstance(metrics, str) else metrics, tokens=tokens,
        window_tokens=window_tokens, seed=seed, arithmetic=arithmetic, out=None if out is None else Path(out),
        progress=_progress(progress),
    )  # fmt: skip
    return EvaluationResult(records=evaluation.records, left_out=evaluation.left_out)
