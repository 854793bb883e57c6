"""The Python face of scaling laws: a published one by name, or one fitted on the user's own runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flashstill.bounded import named_path
from flashstill.calls import refuses_other_keywords
from flashstill.errors import BadInput, shown, unknown
from flashstill.quality import Law, published, published_names
from flashstill.quality.amounts import positive
from flashstill.quality.own_runs import Runs, from_file, from_rows

__all__ = ["quality_law"]
PERPLEXITY = "perplexity"
_FILES = (".csv", ".jsonl", ".json")


@refuses_other_keywords
def quality_law(
    law_or_runs: str | Path | Iterable[Mapping[str, Any]],
    *,
    domain: str = "",
    metric: str = PERPLEXITY,
    role: str = "",
    teacher_loss: float | None = None,
    extrapolate: bool = False,
    seed: int = 0,
) -> Law:
    """A scaling law: loss from parameters and tokens, with its interval, inverses and remarks.

    law_or_runs: the name of a published law (`besiroglu-2024`, `busbridge-2025`, ...), or at least five runs of one's
    own to fit one to: rows with the keys parameters, tokens and loss, a CSV or JSON-lines file of such rows, or the
    records.jsonl of flashstill.  domain, metric (perplexity or "bits per byte") and role (control or student) choose
    among records; they may be left out where there is only one.
    teacher_loss: of the one teacher of all runs, in their unit, where the rows do not say it.
    extrapolate: a fitted law answers beyond ten times its largest run as well, and says so.
    Raises BadInput for unknown names, fewer than five runs, runs that do not belong to one law, and choices that do not
    apply.
    """
    if isinstance(law_or_runs, str) and law_or_runs.strip().lower() in published_names():
        _refuse(
            f"{law_or_runs.strip()} is published, and {{}} is of a law fitted on runs",
            domain=domain, role=role, metric=metric != PERPLEXITY, teacher_loss=teacher_loss, extrapolate=extrapolate,
        )  # fmt: skip
        return published(law_or_runs)
    if isinstance(law_or_runs, str | Path):
        path = named_path(str(law_or_runs))
        if path.suffix.lower() not in _FILES and not path.is_file():
            problem = unknown("scaling law", str(law_or_runs), published_names())
            raise BadInput(f"{problem}; or name a .csv or .jsonl file of runs")
        runs, name = from_file(path, domain, metric, role), path.stem
    elif not isinstance(law_or_runs, Iterable):
        raise BadInput(f"a quality law is of a name, a file or rows of runs, not of {shown(law_or_runs)}")
    else:
        _refuse("{} chooses among records of flashstill, and these are rows", domain=domain, role=role)
        runs, name = from_rows(law_or_runs), "own runs"
    if teacher_loss is not None:
        runs = _taught(runs, teacher_loss)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadInput(f"seed is {shown(seed)}, not a whole number of at least 0")
    from flashstill.quality.fit import fitted

    return fitted(runs, name=name, extrapolate=extrapolate, seed=seed)


def _refuse(why: str, **given: Any) -> None:
    """BadInput for the first of `given` that says anything: it would be ignored."""
    for name, value in given.items():
        if value not in (None, "", False):
            raise BadInput(f"{why.format(name)}; leave it out")


def _taught(runs: Runs, teacher_loss: float) -> Runs:
    positive("teacher_loss", teacher_loss)
    told = [run.teacher_loss for run in runs.runs if run.teacher_loss is not None]
    if told:
        raise BadInput(f"the runs say what loss their teacher had ({told[0]:.4g}); leave teacher_loss out")
    return dataclasses.replace(
        runs, runs=tuple(dataclasses.replace(run, teacher_loss=teacher_loss) for run in runs.runs)
    )
