"""Served models: anchor rows -> cases and measured times, and the fit of what each engine adds to its kernels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from flashstill.facts import Fact, Facts
from flashstill.hardware import Software, software_of
from flashstill.plan.predict import GREEDY, Case, predict
from flashstill.validation.errors import Comparison, Values
from flashstill.validation.fit import Fit, least
from flashstill.validation.tables import read_rows

SERVING = "serving_gpu"
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
NEEDED = ("model", "gpu", "backend", "isl", "osl", "concurrency", "tp_size", "pp_size")
"""without which a row cannot be priced: nothing counts as 1"""
GROWTH = 0.5
"""a sweep of a hundred rows says more than three rows, but not thirty times as much"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One measured case. group: rows that share one weight in a fit; empty for those of one model on one chip."""

    case: Case
    tpot_s: float
    ttft_s: float | None
    group: str = ""


def served(directory: Path) -> list[Served]:
    """The rows of the serving file that say what was asked (`NEEDED`); empty where there is no file."""
    path = directory / f"{SERVING}.csv"
    if not path.exists():
        return []
    return [
        Served(
            case=Case(
                model=row["model"],
                chip=row["gpu"],
                tp=int(float(row["tp_size"])),
                pp=int(float(row["pp_size"])),
                ep=_whole(row, "moe_ep_size"),
                dp=_whole(row, "attention_dp_size"),
                precision=row["precision"] or None,
                isl=int(float(row["isl"])),
                osl=int(float(row["osl"])),
                concurrency=int(float(row["concurrency"])),
                engine=row["backend"],
            ),
            tpot_s=float(row["tpot_ms"]) * 1e-3,
            ttft_s=float(row["ttft_ms"]) * 1e-3 if row.get("ttft_ms") else None,
        )
        for row in read_rows(path)
        if row.get("tpot_ms") and all(row[name] for name in NEEDED)
    ]


def _whole(row: Mapping[str, str], name: str) -> int | None:
    text = row.get(name) or ""
    return int(float(text)) if text else None


def compare_serving(facts: Facts, rows: Sequence[Served]) -> list[Comparison]:
    """Predicted against measured time per output token and time to first token."""
    answers = predict(facts, [row.case for row in rows])
    found = []
    for quantity in ("tpot_s", "ttft_s"):
        pairs = [
            (row, answer)
            for row, answer in zip(rows, answers, strict=True)
            if getattr(row, quantity) and getattr(answer, quantity)
        ]
        low, high = (
            (np.array([getattr(answer, f"tpot_{side}_s") for _, answer in pairs]) for side in ("low", "high"))
            if quantity == "tpot_s"
            else (None, None)
        )
        found.append(
            Comparison(
                anchor=SERVING,
                quantity=quantity,
                measured=np.array([getattr(row, quantity) for row, _ in pairs]),
                predicted=np.array([getattr(answer, quantity) for _, answer in pairs]),
                chip=tuple(facts.machine(row.case.chip).name for row, _ in pairs),
                engine=tuple(str(row.case.engine) for row, _ in pairs),
                unanswered=sum(1 for row in rows if getattr(row, quantity)) - len(pairs),
                low=low,
                high=high,
            )
        )
    return found


def fit_software(facts: Facts, rows: Sequence[Served]) -> dict[str, tuple[Fit, Software]]:
    """What each engine adds, by engine, with the band that holds 80 % of its rows."""
    found = {}
    for engine in sorted({str(row.case.engine) for row in rows}):
        chosen = sorted((row for row in rows if row.case.engine == engine), key=_group)
        drawn = any(row.case.sampling != GREEDY for row in chosen)
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
    return row.group or f"{row.case.chip} {row.case.model}"


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
