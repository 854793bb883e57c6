"""Overheads that engines add to their kernels, fitted to served models, all engines in one fit (pooled.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from flashstill.facts import Fact, Facts
from flashstill.hardware import Software
from flashstill.validation.anchors.serving import Served, stack_name
from flashstill.validation.calibration.fit import Fit
from flashstill.validation.calibration.pooled import Observed, Pooled, Prior, fit_pooled, priced
from flashstill.validation.calibration.rows import SCRIPT, fact, fitted_row, left_out_row
from flashstill.validation.calibration.trials import Trial, trials
from flashstill.validation.comparison import Values

SOFTWARE_START: Mapping[str, float] = {
    "step_s": 5e-4,
    "layer_s": 1e-5,
    "sequence_s": 5e-6,
    "norm_ratio": 0.5,
    "logit_s": 1e-10,
    "matmul_ratio": 1.0,
    "experts_ratio": 1.0,
    "collective_ratio": 1.0,
    "quantise_ratio": 0.3,
    "interference_ratio": 1.0,
}
"""start values of what the time per output token determines"""
FIRST_START: Mapping[str, float] = {"first_s": 0.01, "first_block_s": 7e-4, "first_ratio": 1.0}
"""Start values of what the time to first token determines: 10 ms of HTTP, tokeniser and scheduler, as public figures of
small models leave room for no more (chosen with the rows of serving_unseen_second in view); launches as mixtures show
them; a prompt takes what its kernels take alone."""
MEAN_WIDTH: Mapping[str, float] = {
    "step_s": 1.0,
    "layer_s": 0.7,
    "sequence_s": 1.0,
    "norm_ratio": 0.7,
    "logit_s": 1.5,
    "matmul_ratio": 0.15,
    "experts_ratio": 0.4,
    "collective_ratio": 0.4,
    "quantise_ratio": 0.7,
    "interference_ratio": 0.4,
    "first_s": 0.7,
    "first_block_s": 1.0,
    "first_ratio": 0.15,
}
"""Prior standard deviations in logs of the mean over engines around the start: ratios of kernels stay near 1, as the
kernels were timed in isolation, matrix products nearest, as all engines call the same libraries for them."""
ENGINE_WIDTH: Mapping[str, float] = {
    "step_s": 0.6,
    "layer_s": 0.4,
    "sequence_s": 0.6,
    "norm_ratio": 0.3,
    "logit_s": 2.0,
    "matmul_ratio": 0.1,
    "experts_ratio": 0.2,
    "collective_ratio": 0.2,
    "quantise_ratio": 0.5,
    "interference_ratio": 0.2,
    "first_s": 0.5,
    "first_block_s": 0.7,
    "first_ratio": 0.1,
}
"""the same of an engine around the mean: engines share kernel libraries, less so hosts and schedulers"""
FREE_MEAN, FREE_ENGINE = 1.0, 0.6
"""widths of a coefficient without an entry above"""
NOISE = {"tpot_s": 0.08, "ttft_s": 0.25}
"""standard deviation of the log error of a row; repeats of one configuration differ by 3 to 8 % and 5 to 18 %"""
GROWTH = 0.5
"""exponent of a stack's weight in its rows: a hundred rows weigh more than three, but less than proportionally"""
EVIDENCE = 0.05
"""Weight of a stack with one row. The rows of a stack share an error of a tenth that no coefficient describes, so that
all of them together say little more of an engine than one.  Chosen by the error of models and chips left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedRows:
    """Served rows prepared for fits. tpot_s, ttft_s: measured, NaN where a row has none."""

    rows: Sequence[Served]
    blocks: Sequence[Trial]
    stacks: npt.NDArray[np.int64]
    tpot_s: Values
    ttft_s: Values

    @classmethod
    def of(cls, facts: Facts, rows: Sequence[Served]) -> ServedRows:
        """Resolve the rows; those that are invalid stay without a price."""
        _, stacks = np.unique([stack_name(facts, row) for row in rows], return_inverse=True)
        return cls(
            rows=rows,
            blocks=trials(facts, rows),
            stacks=stacks,
            tpot_s=np.array([row.tpot_s for row in rows]),
            ttft_s=np.array([row.ttft_s or np.nan for row in rows]),
        )

    @property
    def rate(self) -> Values:
        """Output tokens per second, NaN where a row has no time to first token."""
        return np.array([row.output_tokens_per_s or np.nan for row in self.rows])

    def weights(self, kept: npt.NDArray[np.bool_]) -> Values:
        """Weight of each row: those of a stack have together EVIDENCE times their number to the power GROWTH."""
        counts = np.bincount(self.stacks[kept], minlength=int(self.stacks.max(initial=0)) + 1)
        return np.where(kept, EVIDENCE * np.maximum(counts[self.stacks], 1.0) ** (GROWTH - 1.0), 0.0)


def software_prior() -> Prior:
    """The prior of all fitted coefficients."""
    start = {**SOFTWARE_START, **FIRST_START}
    return Prior(
        start=start,
        mean_width={name: MEAN_WIDTH.get(name, FREE_MEAN) for name in start},
        width={name: ENGINE_WIDTH.get(name, FREE_ENGINE) for name in start},
    )


def fit_engines(served: ServedRows, kept: npt.NDArray[np.bool_], near: Pooled | None = None) -> Pooled:
    """Coefficients of all engines from the rows `kept`. near: a fit to almost the same rows, to start from."""
    observed = [
        Observed(quantity="tpot_s", values=served.tpot_s, names=tuple(SOFTWARE_START), noise=NOISE["tpot_s"]),
        Observed(quantity="ttft_s", values=served.ttft_s, names=tuple(FIRST_START), noise=NOISE["ttft_s"]),
    ]
    return fit_pooled(served.blocks, observed, served.weights(kept), served.stacks, software_prior(), near)


def fitted_names(served: ServedRows, engine: str) -> list[str]:
    """The coefficients that rows of an engine bear on: seconds per logit only if some draw samples, seconds per block
    only if it runs prompts as single kernels."""
    mine = [block.setup.conditions for block in served.blocks if block.engine == engine]
    counts = {
        "logit_s": any(each.sampled for each in mine),
        "first_block_s": any(each.software.eager_ratio for each in mine),
    }
    return [name for name in software_prior().names if counts.get(name, True)]


def engine_fit(served: ServedRows, pooled: Pooled, engine: str) -> Fit:
    """The fit of one engine, with the median error of its rows."""
    mine = np.array([row.case.deployment.engine == engine for row in served.rows])
    chosen = fitted_names(served, engine)
    predicted = priced(served.blocks, pooled, ("tpot_s",), len(mine))["tpot_s"]
    values, spread = pooled.values(engine), pooled.spread(engine)
    return Fit(
        values={name: values[name] for name in chosen},
        spread={name: spread[name] for name in chosen},
        n=int((mine & np.isfinite(predicted)).sum()),
        median_absolute_error=float(np.nanmedian(np.abs(predicted[mine] / served.tpot_s[mine] - 1.0))),
        held=pooled.held(engine),
    )


def with_software(facts: Facts, engines: Sequence[str], values: Mapping[str, float]) -> Facts:
    """Facts with the rows of some engines replaced."""
    known = {field.name for field in fields(Software)}
    assert values.keys() <= known
    return facts.with_rows(
        fact(
            owner=f"engine-{engine}",
            quantity=name,
            value=value,
            low=value,
            high=value,
            per="engine",
            kind="what-if",
            source="fit",
        )
        for name, value in values.items()
        for engine in engines
    )


def software_rows(engine: str, fit: Fit) -> list[Fact]:
    """The calibration fact rows of a fitted engine."""
    source = f"fit of {fit.n} published serving measurements with {engine}, pooled with other engines {SCRIPT}"
    note = f"median absolute error of the fit {fit.median_absolute_error:.1%}"
    return [fitted_row(f"engine-{engine}", name, "", fit, name, source, note, per="engine") for name in fit.values]


def left_out_rows(engine: str, values: Mapping[str, float], condition: str) -> list[Fact]:
    """Fact rows of an engine's coefficients fitted without a group, with a condition that names it."""
    return [
        left_out_row(
            f"engine-{engine}", name, value, condition, "engine", f"fit of published serving measurements, {condition}"
        )
        for name, value in values.items()
    ]
