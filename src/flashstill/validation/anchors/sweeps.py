"""Latency of whole batches from first prompt token to last answer token; no coefficient was fitted to these rows.

All requests of a batch are equal and start together, so latency is one prefill of all prompts and osl - 1 decode steps.
The measured engines are of 2024, older than those behind the calibration.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import make_conditions, precisions_of
from flashstill.cost.phases import decode_step, prefill_step
from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts, software_of
from flashstill.parallel import Layout
from flashstill.validation.anchors.tables import Rows, column, read_rows, split
from flashstill.validation.comparison import NOT_FITTED, Comparison, Values

SWEEPS = "batch_length_sweeps"
ENGINES = {"vLLM": "vllm", "TensorRT-LLM": "trtllm"}


def compare_sweeps(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparison of batch latencies; rows of other engines or unknown models count as unanswered."""
    path = directory / f"{SWEEPS}.csv"
    if not path.exists():
        return []
    values: dict[str, list[Values]] = defaultdict(list)
    labels: list[tuple[str, str]] = []
    unanswered = 0
    for (hardware, framework, name), rows in split(read_rows(path), "hardware", "framework", "model"):
        try:
            chip = facts.machine(hardware.removeprefix("Nvidia ").removesuffix(" GPU").lower()).name
            predicted = _latencies(facts, chip, ENGINES[framework], load_architecture(name), rows)
        except (FlashstillError, KeyError):
            unanswered += len(rows)
            continue
        values["measured"].append(column(rows, "latency_s"))
        values["predicted"].append(predicted)
        labels += [(chip, ENGINES[framework])] * len(rows)
    if not labels:
        return []
    return [
        Comparison(
            anchor=SWEEPS,
            quantity="latency of a batch (not fitted)",
            fitted=NOT_FITTED,
            measured=np.concatenate(values["measured"]),
            predicted=np.concatenate(values["predicted"]),
            chip=tuple(chip for chip, _ in labels),
            engine=tuple(engine for _, engine in labels),
            unanswered=unanswered,
        )
    ]


def _latencies(facts: Facts, chip: str, engine: str, model: Architecture, rows: Rows) -> Values:
    conditions = make_conditions(
        chip_from_facts(facts, chip), precisions_of(model, "bf16"), software=software_of(facts, engine)
    )
    batch, isl, osl = (column(rows, name) for name in ("batch", "isl", "osl"))
    layout = Layout(tp=column(rows, "num"))
    first = prefill_step(model, conditions, layout, batch, isl)
    step = decode_step(model, conditions, layout, batch, isl + osl / 2.0)
    return np.asarray(first.seconds + (osl - 1.0) * step.seconds, dtype=np.float64)
