"""Served models: anchor rows -> deployments with measured latencies, and their comparison with predictions."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashstill.errors import FlashstillError
from flashstill.facts import Fact, Facts
from flashstill.hardware.software import engine_name
from flashstill.plan.bands import MEASURED, stack_of
from flashstill.plan.predict import Case, Prediction, predict
from flashstill.plan.prediction import ENDS
from flashstill.plan.resolve import Resolver
from flashstill.validation.anchors.launched import ClosedLoop, as_launched, closed_loop, versioned
from flashstill.validation.anchors.tables import read_rows
from flashstill.validation.comparison import FITTED, Comparison

SERVING = "serving_gpu"
NEEDED = ("model", "gpu", "backend", "isl", "osl", "concurrency", "tp_size", "pp_size")
"""columns that a row needs to be priced; a missing value never counts as 1"""


COMPARED = ("tpot_s", "ttft_s", "output_tokens_per_s")
"""quantities of served rows and of predictions"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One measured case. version: of the engine.  group: name of rows from elsewhere, fitted but not scored.

    loop: how it was loaded, if the row says.
    """

    case: Case
    tpot_s: float
    ttft_s: float | None
    version: str = ""
    group: str = ""
    loop: ClosedLoop | None = None

    @property
    def output_tokens_per_s(self) -> float | None:
        """Rate of the closed loop: concurrency x osl / (ttft + (osl - 1) tpot)."""
        if self.ttft_s is None:
            return None
        asked = self.case.scenario
        return asked.batch * asked.osl / (self.ttft_s + (asked.osl - 1) * self.tpot_s)


Group = tuple[str, str]
"""served rows left out of a fit together: one of LEAVE_OUT, and the name of the model, chip, engine or stack"""
LEAVE_OUT = ("model", "chip", "engine", "stack")


def stack_name(facts: Facts, row: Served) -> str:
    """The name of a row's stack: engine and version, chip, model and format."""
    deployment = row.case.deployment
    parts = (
        engine_name(str(deployment.engine)),
        row.version or row.group,
        facts.machine(deployment.chip).name,
        _model_name(row),
    )
    return " ".join(str(part) for part in (*parts, deployment.precision) if part)


def _model_name(row: Served) -> str:
    return row.case.scenario.model_name.rsplit("/", 1)[-1].lower()


def groups(facts: Facts, row: Served) -> tuple[Group, ...]:
    """The groups of a row, one of each kind of LEAVE_OUT."""
    chip, engine = facts.machine(row.case.deployment.chip).name, engine_name(str(row.case.deployment.engine))
    return ("model", _model_name(row)), ("chip", chip), ("engine", engine), ("stack", stack_name(facts, row))


def measured_rows(facts: Facts, rows: Sequence[Served]) -> list[Fact]:
    """How many measurements each stack of a chip has, as fact rows from which predictions know what was measured."""
    resolver, counts, models = Resolver(facts), Counter[tuple[str, str]](), {}
    for row in rows:
        try:
            resolved = resolver.resolve(row.case.scenario, row.case.deployment)
        except FlashstillError:
            continue
        stack = resolved.chip.name, stack_of(resolved.model, resolved.conditions)
        counts[stack] += 1
        models[stack] = resolved.model.name
    return [
        Fact(
            name=chip,
            quantity=MEASURED,
            value=float(count),
            low=float(count),
            high=float(count),
            unit="1",
            per="chip",
            condition=stack,
            kind="measured",
            source="count of published serving measurements behind the engine rows (scripts/calibrate)",
            as_of=datetime.date.today().isoformat(),
            note=models[chip, stack],
        )
        for (chip, stack), count in sorted(counts.items())
    ]


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
                **as_launched(row),
                concurrency=int(float(row["concurrency"])),
                engine=versioned(row),
            ),
            tpot_s=_seconds(row, "tpot"),
            ttft_s=_seconds(row, "ttft") if row.get("ttft_ms") else None,
            version=row.get("backend_version") or "",
            loop=closed_loop(row),
        )
        for row in read_rows(path)
        if row.get("tpot_ms") and all(row[name] for name in NEEDED)
    ]


def _seconds(row: Mapping[str, str], name: str) -> float:
    """A latency from the column in milliseconds. ValueError if it is not above 0: nothing is faster than at once."""
    seconds = float(row[f"{name}_ms"]) * 1e-3
    if not seconds > 0.0:
        raise ValueError(f"{SERVING}: a measured {name}_s is not a number above 0")
    return seconds


def _whole(row: Mapping[str, str], name: str) -> int | None:
    text = row.get(name) or ""
    return int(float(text)) if text else None


def compare_serving(facts: Facts, rows: Sequence[Served]) -> list[Comparison]:
    """Errors of the latencies and the output rate of rows that are in no doubt, as fitted."""
    return compared(facts, rows, predict(facts, [row.case for row in rows]), "", FITTED)


def compared(
    facts: Facts, rows: Sequence[Served], answers: Sequence[Prediction], label: str, fitted: str
) -> list[Comparison]:
    """Comparisons of latencies and output rate. label: added to the quantity.  fitted: see Comparison."""
    comparisons = []
    for quantity in COMPARED:
        low, high = ENDS[quantity]
        pairs = [
            (row, answer)
            for row, answer in zip(rows, answers, strict=True)
            if getattr(row, quantity) and getattr(answer, quantity)
        ]
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
                low=np.array([getattr(answer, low) for _, answer in pairs]),
                high=np.array([getattr(answer, high) for _, answer in pairs]),
            )
        )
    return comparisons
