"""What each engine adds to its kernels, fitted to served models."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np

from flashstill.facts import Fact, Facts
from flashstill.hardware import Software, software_of
from flashstill.plan.predict import GREEDY, predict
from flashstill.validation.anchors.serving import Served
from flashstill.validation.calibration.fit import Fit, least
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
"""standard deviations in logs: kernels measured alone should hold inside an engine, the rest is open"""
FIRST_START: Mapping[str, float] = {"first_ratio": 2.0, "queue_ratio": 0.1}
BAND = (0.1, 0.9)
GROWTH = 0.5
"""a sweep of a hundred rows says more than three rows, but not thirty times as much"""


def fit_software(facts: Facts, rows: Sequence[Served]) -> dict[str, tuple[Fit, Software]]:
    """What each engine adds, by engine, with the band that holds 80 % of its rows."""
    found = {}
    for engine in sorted({str(row.case.deployment.engine) for row in rows}):
        chosen = sorted((row for row in rows if row.case.deployment.engine == engine), key=_group)
        drawn = any(row.case.deployment.sampling != GREEDY for row in chosen)
        free = {name: value for name, value in SOFTWARE_START.items() if drawn or name != "logit_s"}
        fit = _fit(facts, engine, chosen, "tpot_s", free, SOFTWARE_PRIOR)
        tuned = with_software(facts, engine, fit.values)
        first = _fit(tuned, engine, [row for row in chosen if row.ttft_s], "ttft_s", FIRST_START, {})
        ratios = np.array([row.tpot_s for row in chosen]) / _predicted(tuned, chosen, "tpot_s")
        low, high = (float(np.quantile(ratios, share)) for share in BAND)
        values = {**fit.values, **first.values}
        merged = replace(fit, values=values, spread={**fit.spread, **first.spread})
        found[engine] = (merged, replace(software_of(tuned, engine), tpot_low=low, tpot_high=high))
    return found


def _group(row: Served) -> str:
    """Measurements of one model on one chip: each group weighs the same, or the longest sweep would decide alone."""
    return row.group or f"{row.case.deployment.chip} {row.case.scenario.model_name}"


def _predicted(facts: Facts, rows: Sequence[Served], quantity: str) -> Values:
    answers = predict(facts, [row.case for row in rows])
    return np.array([getattr(answer, quantity) or np.nan for answer in answers])


def _fit(
    facts: Facts,
    engine: str,
    rows: Sequence[Served],
    quantity: str,
    start: Mapping[str, float],
    prior: Mapping[str, float],
) -> Fit:
    groups = [list(members) for _, members in itertools.groupby(rows, key=_group)]
    ends = np.cumsum([len(members) for members in groups])[:-1]

    def predicted(values: Mapping[str, float]) -> list[Values]:
        return list(np.split(_predicted(with_software(facts, engine, values), rows, quantity), ends))

    measured = [(_group(members[0]), np.array([getattr(row, quantity) for row in members])) for members in groups]
    return least(start, predicted, measured, prior, GROWTH)


def with_software(facts: Facts, engine: str, values: Mapping[str, float]) -> Facts:
    """Facts with an engine's rows replaced."""
    rows = dict(facts.rows)
    known = {field.name for field in fields(Software)}
    for name, value in values.items():
        assert name in known
        rows[f"engine-{engine}", name] = (software_row(engine, name, value, value, value, "fit"),)
    return Facts(rows=rows, machines=facts.machines)


def software_rows(engine: str, fit: Fit, software: Software) -> list[Fact]:
    """The calibration rows of an engine after a fit."""
    source = f"fit of {fit.n} published serving measurements with {engine} (scripts/calibrate)"
    rows = []
    for name, value in fit.values.items():
        factor = float(np.exp(fit.spread[name]))
        mid, low, high = (float(f"{number:.4g}") for number in (value, value / factor, value * factor))
        rows.append(software_row(engine, name, mid, low, high, source))
    band = "10 % to 90 % quantile of measured over predicted, " + source
    for name in ("tpot_low", "tpot_high"):
        value = float(f"{getattr(software, name):.4g}")
        rows.append(software_row(engine, name, value, value, value, band))
    return rows


def software_row(engine: str, name: str, value: float, low: float, high: float, source: str) -> Fact:
    """A calibration row of an engine."""
    return Fact(
        name=f"engine-{engine}",
        quantity=name,
        value=value,
        low=low,
        high=high,
        unit="s" if name.endswith("_s") else "1",
        per="engine",
        condition="",
        kind="measured",
        source=source,
        as_of="2026-11",
        note="",
    )
