"""Served models: anchor rows -> deployments with measured times per token, and the comparison with predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashstill.facts import Facts
from flashstill.plan.predict import Case, predict
from flashstill.validation.anchors.tables import read_rows
from flashstill.validation.comparison import Comparison

SERVING = "serving_gpu"
NEEDED = ("model", "gpu", "backend", "isl", "osl", "concurrency", "tp_size", "pp_size")
"""without which a row cannot be priced: nothing counts as 1"""


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
            case=Case.of(
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
                chip=tuple(facts.machine(row.case.deployment.chip).name for row, _ in pairs),
                engine=tuple(str(row.case.deployment.engine) for row, _ in pairs),
                unanswered=sum(1 for row in rows if getattr(row, quantity)) - len(pairs),
                low=low,
                high=high,
            )
        )
    return found
