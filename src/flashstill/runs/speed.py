"""The speed of one model on this machine: prefill and decode over batches and contexts, predicted beside measured.

Predictions come first, from this machine's fact rows alone (they know nothing of the model's times), so that a batch
that does not fit is refused before anything runs.

As rows of `calibrate`, which describe serving, a step has a case with the same prediction: all requests begin at once
(burst_share 1) and stay together (cohort = batch), so that no prompt interrupts a decode step.

    decode step at context S      isl 1, osl 2 S - 1: the mean context is S
    prefill of S tokens           isl S, osl 1
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashstill.arch.adapter.fields import CONTEXT
from flashstill.arch.adapter.sizes import stated_size
from flashstill.arch.catalogue import read_config
from flashstill.distill.models import load_model
from flashstill.distill.models.arithmetic import AUTO, Arithmetic, decided, in_use, shape_of
from flashstill.errors import BadInput, check_counts
from flashstill.facts import load, user_directory
from flashstill.facts.csv_files import to_csv
from flashstill.files import disk_errors, write_text
from flashstill.measure import measure_machine, measure_models
from flashstill.measure.sweep import DECODE_STEPS_PER_REPEAT, MACHINE
from flashstill.plan.deployment import Deployment
from flashstill.plan.grid import price_grid
from flashstill.progress import Progress
from flashstill.records import CostRecord, MeasuredRecord, write_records
from flashstill.tables import Displayed, Table, cell

ENGINE = "none"
"""no engine: steps are called one by one from Python"""
RECORDS, CASES = "records.jsonl", "measured.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """A measured step beside its prediction."""

    measured: MeasuredRecord
    predicted: CostRecord

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted.seconds / self.measured.seconds - 1.0

    def case(self, model: str) -> dict[str, str]:
        """The row of measured cases whose prediction is that of this step."""
        is_decode = self.measured.phase == "decode"
        isl, osl = (1, 2 * self.measured.context - 1) if is_decode else (self.measured.context, 1)
        milliseconds = f"{self.measured.seconds * 1e3:.6g}"
        return {
            "model": model, "chip": MACHINE, "engine": ENGINE, "precision": self.measured.precision,
            "isl": str(isl), "osl": str(osl), "concurrency": str(self.measured.batch), "burst_share": "1",
            "cohort": str(self.measured.batch), "measured_tpot_ms": milliseconds if is_decode else "",
            "measured_ttft_ms": "" if is_decode else milliseconds,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpeed(Displayed):
    """A model's sweep. machine: the file of this machine's rows, which the predictions come from."""

    model: str
    arithmetic: Arithmetic
    machine: Path
    steps: tuple[Timed, ...]

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per step, measured beside predicted, in seconds."""
        return [
            {
                "phase": step.measured.phase, "batch": step.measured.batch, "context": step.measured.context,
                "seconds": step.measured.seconds, "low": step.measured.low, "high": step.measured.high,
                "repeats": step.measured.repeats, "precision": step.measured.precision,
                "predicted_s": step.predicted.seconds, "bound": step.predicted.bound, "error": step.error,
            }
            for step in self.steps
        ]  # fmt: skip

    def _table(self) -> Table:
        names = ("phase", "batch", "context", "seconds", "predicted_s", "error")
        rows = [[cell(row[name]) for name in names] for row in self.as_records()]
        return Table(names, rows, f"{self.model} in {self.arithmetic}")

    def as_dict(self) -> dict[str, Any]:
        """The document of `flashstill measure --model --json`."""
        return {
            "model": self.model,
            "machine": str(self.machine),
            "arithmetic": {"precision": self.arithmetic.precision, "threads": self.arithmetic.threads},
            "steps": self.as_records(),
            "cases": [step.case(self.model) for step in self.steps],
            "definitions": DEFINITIONS,
        }


DEFINITIONS = {
    "prefill": "one forward pass over a batch of prompts of `context` tokens, logits of their last tokens only",
    "decode": "one forward pass of a token per sequence after such a prefill, with the choice of the next token",
    "seconds": f"the median; a repeat has one prefill and {DECODE_STEPS_PER_REPEAT} decode steps, and the first repeat"
    " is a warm-up",
    "error": "predicted / measured - 1",
}


def measure_model(
    directory: Path,
    batches: Sequence[int],
    contexts: Sequence[int],
    repeats: int,
    progress: Progress,
    arithmetic: str = AUTO,
    out: Path | None = None,
) -> ModelSpeed:
    """Time a model directory at every batch and context. out: where records and measured cases are written.

    This machine is measured first if `flashstill measure` has not been run yet.  BadInput for a directory that holds no
    model or a context that it does not have; InfeasiblePlan if the largest batch does not fit.
    """
    if not batches or not contexts:
        raise BadInput("give at least one batch and one context")
    check_counts({"repeats": repeats, "a batch": min(batches), "a context": min(contexts)})
    architecture = read_config(directory / "config.json", directory.resolve().name)
    used = in_use(decided(arithmetic, shape_of(directory)))
    path = user_directory() / f"{MACHINE}.csv"
    if not path.exists():
        write_text(path, to_csv(measure_machine(load(), progress, used)))
        progress.say(f"this machine's speed is written to {path}")
    facts, deployed = load(), Deployment(chip=MACHINE, chips=1, precision=used.precision, engine=ENGINE)
    predicted: list[CostRecord] = []
    for context in contexts:
        predicted += price_grid(facts, [architecture], [deployed], batches, context)
    model = load_model(directory, used.dtype)
    longest = stated_size(model.config, CONTEXT)
    if longest is not None and max(contexts) >= longest:
        raise BadInput(f"{directory} has a context of {longest:,} tokens; measure contexts up to {longest - 1:,}")
    measured: list[MeasuredRecord] = []
    for context in contexts:
        measured += measure_models({architecture.name: model}, batches, context, repeats, progress, math.inf)
    found = ModelSpeed(
        model=str(directory), arithmetic=used, machine=path, steps=tuple(_paired(measured, predicted)),
    )  # fmt: skip
    if out is not None:
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        write_records(out / RECORDS, [*measured, *predicted])
        write_text(out / CASES, cases_csv(found))
    return found


def _paired(measured: Sequence[MeasuredRecord], predicted: Sequence[CostRecord]) -> list[Timed]:
    known = {(record.phase, record.batch, record.context): record for record in predicted}
    return [Timed(measured=each, predicted=known[each.phase, each.batch, each.context]) for each in measured]


def cases_csv(found: ModelSpeed) -> str:
    """The steps as a CSV file for `validate --measured` and `calibrate`."""
    rows = [step.case(found.model) for step in found.steps]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
