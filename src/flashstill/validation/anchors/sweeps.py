"""Latency of whole batches from first prompt token to last answer token; the estimates of Gaudi and of the host of vLLM
of 2024 (engine vllm-v0, on H100) were made with some of these rows.

All requests of a batch are equal and start together, so latency is one prefill of all prompts and osl - 1 decode steps.
Where memory holds only b of the N requests, the others follow when these end, all at once: N // b times the latency of
b requests, and once that of the rest.  Rows below the time of a perfect machine are listed apart:
answers that ended early, and mixtures of experts fed with equal tokens, which all choose the same experts.

The measured engines are of 2024, older than those behind the calibration; the machines are those of the Argonne
Leadership Computing Facility (Chitty-Venkata et al. 2024, arXiv 2411.00136): A100 with 40 GB, MI250 counted in packages
of two dies, Gaudi2 with DeepSpeed, which is compared with the default engine of that chip.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import Conditions, make_conditions, precisions_of
from flashstill.cost.footprint import most_sequences
from flashstill.cost.phases import decode_step, prefill_step
from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.hardware.launches import software_of_chip
from flashstill.parallel import Layout
from flashstill.plan.bands import bands_of
from flashstill.validation.anchors.tables import column, read_rows, split
from flashstill.validation.comparison import FITTED, NOT_FITTED, Comparison, Values

SWEEPS = "batch_length_sweeps"
CHIPS = {
    "Nvidia A100 GPU": "A100-40GB",
    "Nvidia H100 GPU": "H100",
    "AMD MI250 GPU": "MI250",
    "Habana Gaudi2": "Gaudi2",
}
USED = ("npu-intel",)
"""makers' classes with estimates from groups of these rows"""
USED_STACKS = (("Nvidia H100 GPU", "vLLM"),)
"""hardware and frameworks with such estimates"""
ENGINES = {"vLLM": "vllm-v0", "TensorRT-LLM": "trtllm", "Deepspeed": "vllm"}
"""engine with which each framework is compared; DeepSpeed-MII on NVIDIA GPUs has none and stays unanswered"""


def compare_sweeps(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparison of batch latencies; rows of other engines or unknown models count as unanswered."""
    path = directory / f"{SWEEPS}.csv"
    if not path.exists():
        return []
    parts: dict[str, list[Values]] = defaultdict(list)
    labels: list[tuple[str, str]] = []
    unanswered = 0
    for (hardware, framework, name), rows in split(read_rows(path), "hardware", "framework", "model"):
        try:
            chip = chip_from_facts(facts, CHIPS[hardware])
            software = software_of_chip(facts, ENGINES[framework], chip)
            model = load_architecture(name)
            formats = precisions_of(model, "bf16")
            conditions = make_conditions(chip, formats, software=software)
        except (FlashstillError, KeyError):
            unanswered += len(rows)
            continue
        batch, isl, osl, chips = (column(rows, each) for each in ("batch", "isl", "osl", "num"))
        predicted = batch_latency(model, conditions, Layout(tp=chips), batch, isl, osl)
        perfect = replace(make_conditions(chip, formats), calibration=chip.calibration.perfect)
        low, high = bands_of(facts, model, conditions).tpot
        parts["measured"].append(column(rows, "latency_s"))
        parts["predicted"].append(predicted)
        parts["used"].append(
            np.full(len(rows), float(chip.maker_class in USED or (hardware, framework) in USED_STACKS))
        )
        parts["low"].append(predicted * low)
        parts["high"].append(predicted * high)
        parts["least"].append(batch_latency(model, perfect, Layout(tp=chips), batch, isl, osl))
        labels += [(chip.name, framework)] * len(rows)
    if not labels:
        return []
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    fits, beaten = np.isfinite(joined["predicted"]), joined["measured"] < joined["least"]
    used = joined["used"] > 0
    kinds = (
        ("latency of a batch", NOT_FITTED, fits & ~beaten & ~used, unanswered + int(np.sum(~fits))),
        ("latency of a batch", FITTED, fits & ~beaten & used, 0),
        ("latency of a batch, rows that beat a perfect machine", NOT_FITTED, fits & beaten, 0),
    )
    return [
        _comparison(quantity, fitted, joined, labels, chosen, missed)
        for quantity, fitted, chosen, missed in kinds
        if chosen.any() or missed
    ]


def _comparison(
    quantity: str,
    fitted: str,
    joined: dict[str, Values],
    labels: list[tuple[str, str]],
    chosen: npt.NDArray[np.bool_],
    unanswered: int,
) -> Comparison:
    named = [label for label, kept in zip(labels, chosen, strict=True) if kept]
    return Comparison(
        anchor=SWEEPS,
        quantity=quantity,
        fitted=fitted,
        measured=joined["measured"][chosen],
        predicted=joined["predicted"][chosen],
        low=joined["low"][chosen],
        high=joined["high"][chosen],
        chip=tuple(chip for chip, _ in named),
        engine=tuple(framework for _, framework in named),
        unanswered=unanswered,
    )


def batch_latency(
    model: Architecture, conditions: Conditions, layout: Layout, batch: Values, isl: Values, osl: Values
) -> Values:
    """Seconds from the start of `batch` equal requests to the last token of all; inf if not one fits in memory.

    An engine that reserves memory for tokens still to come runs fewer at once.
    """
    reserved = conditions.software.reserved_ratio
    held = isl + osl * (1.0 + reserved) / 2.0
    fitting = np.asarray(most_sequences(model, conditions, layout, held), dtype=np.float64)
    running = np.clip(np.floor(fitting), 1.0, batch)
    turns = np.floor(batch / running)
    rest = batch - turns * running

    def together(sequences: Values) -> Values:
        first = prefill_step(model, conditions, layout, sequences, isl)
        step = decode_step(model, conditions, layout, sequences, isl + osl / 2.0)
        return np.asarray(first.seconds + (osl - 1.0) * step.seconds, dtype=np.float64)

    latency = turns * together(running) + np.where(rest > 0, together(np.maximum(rest, 1.0)), 0.0)
    return np.where(fitting >= 1.0, latency, np.inf)
