"""Served models: anchor rows -> deployments with measured latencies, and their comparison with predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from flashstill.facts import Fact, Facts, table
from flashstill.plan.predict import Case, Prediction, predict
from flashstill.validation.anchors.launched import as_launched
from flashstill.validation.anchors.tables import read_rows
from flashstill.validation.comparison import FITTED, LEFT_OUT, Comparison

SERVING = "serving_gpu"
LEFT_OUT_FILE = Path(__file__).with_name("left_out.csv")
"""coefficients of engines, each fitted without one chip or model; written by scripts/calibrate"""
NEEDED = ("model", "gpu", "backend", "isl", "osl", "concurrency", "tp_size", "pp_size")
"""columns that a row needs to be priced; a missing value never counts as 1"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One measured case. group: rows that share one weight in a fit; empty: grouped by model and chip."""

    case: Case
    tpot_s: float
    ttft_s: float | None
    group: str = ""


Group = tuple[str, str]
"""served rows left out of a fit together: ("chip", its name) or ("model", its name)"""


def groups(facts: Facts, row: Served) -> tuple[Group, Group]:
    """The chip group and the model group of a row."""
    model = row.case.scenario.model_name.rsplit("/", 1)[-1].lower()
    return ("chip", facts.machine(row.case.deployment.chip).name), ("model", model)


def without(group: Group) -> str:
    """The condition of fact rows fitted without a group."""
    return f"without {group[0]} {group[1]}"


def served(directory: Path) -> list[Served]:
    """Rows of the serving file that have all `NEEDED` columns; empty if there is no file."""
    path = directory / f"{SERVING}.csv"
    if not path.exists():
        return []
    return [
        Served(
            case=Case.of(
                model=row["model"],
                chip=row["gpu"],
                tp=int(float(row["tp_size"])),
                pp=int(float(row["pp_size"])),
                ep=_whole(row, "moe_ep_size"),
                dp=_whole(row, "attention_dp_size"),
                precision=row["precision"] or None,
                **as_launched(row),
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
    """Errors of tpot and ttft, in-sample and with the row's chip or model left out of the fit.

    The left-out errors estimate the error of a prediction for a new chip or model.
    """
    comparisons = _compared(facts, rows, predict(facts, [row.case for row in rows]), "", FITTED)
    for number, kind in enumerate(("chip", "model")):
        priced: list[tuple[Served, Prediction]] = []
        for group in sorted({groups(facts, row)[number] for row in rows}):
            coefficients = _left_out(group)
            members = [row for row in rows if groups(facts, row)[number] == group and coefficients]
            priced += zip(members, predict(facts.with_rows(coefficients), [row.case for row in members]), strict=True)
        if priced:
            answers = [answer for _, answer in priced]
            comparisons += _compared(facts, [row for row, _ in priced], answers, f", {kind} left out", LEFT_OUT)
    return comparisons


def _compared(
    facts: Facts, rows: Sequence[Served], answers: Sequence[Prediction], label: str, fitted: str
) -> list[Comparison]:
    comparisons = []
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
        comparisons.append(
            Comparison(
                anchor=SERVING,
                quantity=f"{quantity}{label}",
                fitted=fitted,
                measured=np.array([getattr(row, quantity) for row, _ in pairs]),
                predicted=np.array([getattr(answer, quantity) for _, answer in pairs]),
                chip=tuple(facts.machine(row.case.deployment.chip).name for row, _ in pairs),
                engine=tuple(str(row.case.deployment.engine) for row, _ in pairs),
                unanswered=sum(1 for row in rows if getattr(row, quantity)) - len(pairs),
                low=low,
                high=high,
            )
        )
    return comparisons


def _left_out(group: Group) -> list[Fact]:
    """Fact rows of the engines, fitted without a group."""
    return [row for row in _left_out_rows() if row.condition == without(group)]


@cache
def _left_out_rows() -> tuple[Fact, ...]:
    return tuple(table.read_rows(LEFT_OUT_FILE))
