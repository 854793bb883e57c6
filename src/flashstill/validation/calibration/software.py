"""Overheads that each engine adds to its kernels, fitted to served models.

The band of an engine's predictions and its left-out errors come from fits that exclude the chip of the predicted rows,
so overfitting to a chip's own rows cannot improve them.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from flashstill.facts import Fact, Facts
from flashstill.hardware import Software
from flashstill.hardware.software import ALONE
from flashstill.plan.predict import GREEDY, predict
from flashstill.validation.anchors.serving import Group, Served, groups, without
from flashstill.validation.calibration.fit import Fit, Measured, least
from flashstill.validation.calibration.rows import SCRIPT, fact, fitted_row, rounded
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
SOFTWARE_PRIOR = {
    "step_s": 0.7,
    "layer_s": 0.5,
    "sequence_s": 0.7,
    "norm_ratio": 0.7,
    "logit_s": 0.7,
    "matmul_ratio": 0.1,
    "experts_ratio": 0.4,
    "collective_ratio": 0.3,
    "quantise_ratio": 0.7,
    "interference_ratio": 0.3,
}
"""Prior standard deviations in logs: kernel ratios stay near those measured in isolation; other coefficients are
free."""
FIRST_START: Mapping[str, float] = {"first_s": 0.05, "first_ratio": 1.5}
FIRST_PRIOR = {"first_s": 0.7, "first_ratio": 0.3}
BAND = (0.1, 0.9)
LEFT_OUT_KINDS = ("chip",)
"""what is left out in turn; "model" also works, at one more fit per model"""
ALL = "all"
"""name of the joint fit over all engines"""
GROWTH = 0.5
"""exponent of a group's weight in its rows: a hundred rows weigh more than three, but less than proportionally"""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFit:
    """Fitted overheads of an engine. band: quantiles of measured / predicted, with each row's chip left out of the fit.

    left_out: coefficients fitted without the rows of a chip or a model, on this engine and all others.
    """

    engine: str
    fit: Fit
    band: tuple[float, float]
    left_out: Mapping[Group, Fit]


def fit_software(facts: Facts, rows: Sequence[Served]) -> list[EngineFit]:
    """Fit each engine's overheads to all rows, and again without each chip's rows."""
    whole = _engines(facts, rows)
    names = [name for name in whole if name != ALL]
    left_out: dict[str, dict[Group, Fit]] = {engine: {} for engine in names}
    ratios: dict[str, list[Values]] = {engine: [] for engine in names}
    served_groups = {group for row in rows if not row.group for group in groups(facts, row)}
    for group in sorted(group for group in served_groups if group[0] in LEFT_OUT_KINDS):
        rest = [row for row in rows if group not in groups(facts, row)]
        for engine, fit in _engines(facts, rest, whole).items():
            own = [row for row in rows if row.case.deployment.engine == engine and group in groups(facts, row)]
            if engine == ALL or not own:
                continue
            left_out[engine][group] = fit
            predicted = _predicted(with_software(facts, [engine], fit.values), own, "tpot_s")
            ratios[engine].append(np.array([row.tpot_s for row in own]) / predicted)
            off = float(np.nanmedian(np.abs(1.0 / ratios[engine][-1] - 1.0)))
            print(f"engine {engine} without {' '.join(group)}: {len(own)} rows, {off:.1%}", file=sys.stderr, flush=True)
    engine_fits = []
    for engine in names:
        known = np.concatenate(ratios[engine])
        low, high = (float(np.nanquantile(known, share)) for share in BAND)
        band = (min(low, 1.0), max(high, 1.0))
        engine_fits.append(EngineFit(engine=engine, fit=whole[engine], band=band, left_out=left_out[engine]))
    return engine_fits


def _engines(facts: Facts, rows: Sequence[Served], near: Mapping[str, Fit] | None = None) -> dict[str, Fit]:
    """Fits of every engine and of ALL engines jointly; the joint fit is the prior of each, for engines with few rows.

    near: fits from which the search starts.
    """
    names = sorted({str(row.case.deployment.engine) for row in rows})
    shared = _both(facts, names, rows, SOFTWARE_START, near[ALL].values if near else None)
    print(f"engines together: {shared.n} rows, {shared.median_absolute_error:.1%}", file=sys.stderr, flush=True)
    fits = {ALL: shared}
    for name in names:
        own = [row for row in rows if row.case.deployment.engine == name]
        fits[name] = _both(facts, [name], own, shared.values, near[name].values if near else None)
        if near is None:
            error = fits[name].median_absolute_error
            print(f"engine {name}: {fits[name].n} rows, {error:.1%}", file=sys.stderr, flush=True)
    return fits


def _both(
    facts: Facts,
    engines: Sequence[str],
    rows: Sequence[Served],
    start: Mapping[str, float],
    near: Mapping[str, float] | None,
) -> Fit:
    """Coefficients of the decode step, then of the time to first token. near: values at which the search starts."""
    rows = sorted(rows, key=_group)
    drawn = any(row.case.deployment.sampling != GREEDY for row in rows)
    free = {name: start.get(name, value) for name, value in SOFTWARE_START.items() if drawn or name != "logit_s"}
    fit = _fit(facts, engines, rows, "tpot_s", free, SOFTWARE_PRIOR, near)
    tuned = with_software(facts, engines, fit.values)
    first_start = {name: start.get(name, value) for name, value in FIRST_START.items()}
    first = _fit(tuned, engines, [row for row in rows if row.ttft_s], "ttft_s", first_start, FIRST_PRIOR, near)
    return replace(fit, values={**fit.values, **first.values}, spread={**fit.spread, **first.spread})


def _group(row: Served) -> str:
    """Rows of one model on one chip form a group, so that a long sweep does not dominate the fit."""
    return row.group or f"{row.case.deployment.chip} {row.case.scenario.model_name}"


def _predicted(facts: Facts, rows: Sequence[Served], quantity: str) -> Values:
    answers = predict(facts, [row.case for row in rows])
    return np.array([getattr(answer, quantity) or np.nan for answer in answers])


def _fit(
    facts: Facts,
    engines: Sequence[str],
    rows: Sequence[Served],
    quantity: str,
    start: Mapping[str, float],
    prior: Mapping[str, float],
    near: Mapping[str, float] | None,
) -> Fit:
    groups = [list(members) for _, members in itertools.groupby(rows, key=_group)]
    ends = np.cumsum([len(members) for members in groups])[:-1]

    def predicted(values: Mapping[str, float]) -> list[Values]:
        return list(np.split(_predicted(with_software(facts, engines, values), rows, quantity), ends))

    measured = [
        Measured(
            group=_group(members[0]),
            values=np.array([getattr(row, quantity) for row in members]),
            clusters=np.zeros(len(members), dtype=np.int64),
        )
        for members in groups
    ]
    return least(start, predicted, measured, prior, GROWTH, near)


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


def software_rows(engine_fit: EngineFit) -> list[Fact]:
    """The calibration fact rows of a fitted engine."""
    owner, fit = f"engine-{engine_fit.engine}", engine_fit.fit
    source = f"fit of {fit.n} published serving measurements with {engine_fit.engine} {SCRIPT}"
    note = f"median absolute error of the fit {fit.median_absolute_error:.1%}"
    rows = [fitted_row(owner, name, "", fit, name, source, note, per="engine") for name in fit.values]
    for name, value in zip(("tpot_low", "tpot_high"), engine_fit.band, strict=True):
        rows.append(
            fact(
                owner=owner,
                quantity=name,
                value=rounded(value, 0.1),
                low=rounded(value, 0.1),
                high=rounded(value, 0.1),
                per="engine",
                kind="measured",
                source=f"10 % to 90 % quantile of measured over predicted by fits without that chip, {source}",
            )
        )
    return rows


def bare_rows(facts: Facts, rows: Sequence[Served]) -> list[Fact]:
    """Band of engine "none": quantiles of measured / predicted from kernels alone, all engines together.

    facts: including the engines' rows, as "none" uses their fastest kernels.
    """
    answers = predict(facts, [row.case.but(engine=ALONE) for row in rows])
    ratios = np.array([row.tpot_s / (one.tpot_s or np.nan) for row, one in zip(rows, answers, strict=True)])
    ends = (
        ("tpot_low", min(float(np.nanquantile(ratios, BAND[0])), 1.0)),
        ("tpot_high", np.nanquantile(ratios, BAND[1])),
    )
    source = f"10 % to 90 % quantile of measured over predicted for the kernels alone, {len(rows)} served rows {SCRIPT}"
    return [
        fact(
            owner=f"engine-{ALONE}",
            quantity=name,
            value=rounded(float(value), 0.1),
            low=rounded(float(value), 0.1),
            high=rounded(float(value), 0.1),
            per="engine",
            kind="measured",
            source=source,
        )
        for name, value in ends
    ]


def left_out_rows(engine_fit: EngineFit) -> list[Fact]:
    """Fact rows of coefficients fitted without a chip or a model, with a condition that names it."""
    return [
        fact(
            owner=f"engine-{engine_fit.engine}",
            quantity=name,
            condition=without(group),
            value=rounded(value, 0.01),
            low=rounded(value, 0.01),
            high=rounded(value, 0.01),
            per="engine",
            kind="estimate",
            source=f"fit of {fit.n} served rows of {engine_fit.engine}, without those of {group[1]} {SCRIPT}",
        )
        for group, fit in sorted(engine_fit.left_out.items())
        for name, value in fit.values.items()
    ]
