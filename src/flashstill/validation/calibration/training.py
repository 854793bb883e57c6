"""Overheads of training frameworks, fitted to published runs; and again without each model.

NeMo runs Megatron-Core, so one fit serves both.  Ratios below 1 are what overlap hides: of the collectives within a
layer (collective_ratio) and of those among replicas (exposed_ratio).  experts_ratio is the time of routed experts
over that of a serving engine's fused kernel: training permutes the tokens, runs one product per expert with activation
and bias between them, pads experts to a capacity or waits for the fullest, and does the same twice in the backward
pass.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flashstill.facts import Fact, Facts
from flashstill.validation.anchors.serving import without
from flashstill.validation.anchors.trained import TrainedRun, predicted
from flashstill.validation.anchors.training import training_runs
from flashstill.validation.calibration.fit import Fit, Measured, least
from flashstill.validation.calibration.rows import SCRIPT, fitted_row, left_out_row
from flashstill.validation.calibration.software import GROWTH, with_software
from flashstill.validation.comparison import Values

FRAMEWORKS: Mapping[tuple[str, ...], Mapping[str, float]] = {
    ("nemo", "megatron"): {
        "matmul_ratio": 1.0,
        "experts_ratio": 1.3,
        "collective_ratio": 1.0,
        "exposed_ratio": 0.3,
        "layer_s": 2e-5,
    },
    ("maxtext",): {"matmul_ratio": 1.0, "experts_ratio": 1.3, "exposed_ratio": 0.5, "sync_ratio": 0.03},
}
"""frameworks fitted together, and the values at which the fit of each coefficient starts"""
PRIOR = {
    "matmul_ratio": 0.1,
    "experts_ratio": 0.5,
    "collective_ratio": 0.3,
    "exposed_ratio": 0.7,
    "sync_ratio": 0.7,
    "layer_s": 1.0,
}
"""prior standard deviations in logs, around the start values"""


def training_rows(facts: Facts, directory: Path) -> tuple[list[Fact], list[Fact]]:
    """Fact rows of all frameworks, and those fitted without each model; errors on standard error."""
    runs = training_runs(facts, directory)
    rows: list[Fact] = []
    left_out: list[Fact] = []
    for frameworks, start in FRAMEWORKS.items():
        own = [run for run in runs if run.framework in frameworks]
        if not own:
            continue
        whole = fit_training(facts, frameworks, own, start)
        rows += _rows(frameworks, whole, own)
        errors = []
        for model in sorted({run.model for run in own}):
            rest = [run for run in own if run.model != model]
            fit = fit_training(facts, frameworks, rest, start, whole.values)
            left_out += _left_out_rows(frameworks, fit, model)
            errors.append(_tell(facts, frameworks, fit.values, [run for run in own if run.model == model], model))
        known = np.concatenate(errors)
        fitted = _errors(with_software(facts, frameworks, whole.values), own)
        print(
            f"training with {frameworks[0]}: {len(own)} rows, mean error {np.nanmean(np.abs(fitted)):.1%} fitted,"
            f" {np.nanmean(np.abs(known)):.1%} with the model left out",
            file=sys.stderr,
            flush=True,
        )
    return rows, left_out


def fit_training(
    facts: Facts,
    frameworks: Sequence[str],
    runs: Sequence[TrainedRun],
    start: Mapping[str, float],
    near: Mapping[str, float] | None = None,
) -> Fit:
    """Coefficients of `frameworks`, fitted to their runs. near: values at which the search starts."""
    models = sorted({run.model for run in runs})
    members = [[index for index, run in enumerate(runs) if run.model == model] for model in models]

    def answers(values: Mapping[str, float]) -> list[Values]:
        everything = predicted(with_software(facts, frameworks, values), runs)
        return [everything[indices] for indices in members]

    measured = [
        Measured(
            group=model,
            values=np.array([runs[index].measured for index in indices]),
            clusters=np.zeros(len(indices), dtype=np.int64),
        )
        for model, indices in zip(models, members, strict=True)
    ]
    return least(start, answers, measured, PRIOR, GROWTH, near)


def _errors(facts: Facts, runs: Sequence[TrainedRun]) -> Values:
    errors: Values = predicted(facts, runs) / np.array([run.measured for run in runs]) - 1.0
    return errors


def _tell(
    facts: Facts, frameworks: Sequence[str], values: Mapping[str, float], runs: Sequence[TrainedRun], model: str
) -> Values:
    errors = _errors(with_software(facts, frameworks, values), runs)
    print(
        f"training without {model}: {len(runs)} rows, mean error {np.nanmean(np.abs(errors)):.1%},"
        f" bias {np.nanmedian(errors):+.1%}",
        file=sys.stderr,
        flush=True,
    )
    return errors


def _rows(frameworks: Sequence[str], fit: Fit, runs: Sequence[TrainedRun]) -> list[Fact]:
    models = len({run.model for run in runs})
    source = f"fit of {fit.n} published figures of training {models} models with {' and '.join(frameworks)} {SCRIPT}"
    note = f"median absolute error of the fit {fit.median_absolute_error:.1%}"
    return [
        fitted_row(f"engine-{framework}", name, "", fit, name, source, note, per="engine")
        for framework in frameworks
        for name in fit.values
    ]


def _left_out_rows(frameworks: Sequence[str], fit: Fit, model: str) -> list[Fact]:
    return [
        left_out_row(
            f"engine-{framework}",
            name,
            value,
            without(("model", model)),
            "engine",
            f"fit of {fit.n} published training figures, without those of {model}",
        )
        for framework in frameworks
        for name, value in fit.values.items()
    ]
