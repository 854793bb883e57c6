"""Published throughput tables of whole servers, to which no coefficient is fitted: MLPerf inference, TensorRT-LLM.

Neither states how many sequences run at once.  "Max load" is priced with as many as memory holds, up to the engine's
default limit.  MLPerf's server scenario states rate and latency, so that by Little's law

    sequences in flight = samples/s x mean latency / replicas

and its mean time per output token is compared as well.  A system is divided into replicas of the fewest chips that
hold the model; both accuracy targets (99 and 99.9 %) report the same run, which is counted once.  Boards without NVLink
(interconnect "N/A" in the system's description) talk over the host's lanes, and some run at other limits of power.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flashstill.arch import Attention, load_architecture
from flashstill.cost import make_conditions, precisions_of
from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts
from flashstill.hardware.launches import software_of_chip
from flashstill.parallel import Layout
from flashstill.plan.predict import Case
from flashstill.validation.anchors.launched import versioned
from flashstill.validation.anchors.rated import RATE, TPOT, Measured, compared
from flashstill.validation.anchors.sweeps import batch_latency
from flashstill.validation.anchors.tables import MILLI, Rows, read_rows
from flashstill.validation.comparison import NOT_FITTED, Comparison

MLPERF, TRTLLM = "mlperf_inference", "trtllm_throughput"
_FIRST = "first token latency"
MOST_SEQUENCES = {"vllm": 1024, "trtllm": 2048}
"""sequences that an engine runs at once at most, as these benchmarks set it"""
LENGTHS = {"llama2-70b": (294, 294), "mixtral-8x7b": (500, 146)}
"""mean prompt and answer of MLPerf's data sets: answers as tokens per sample of the rows; prompts of OpenOrca after
MLCommons, those of Mixtral's mixed set (OpenOrca, GSM8K, MBXP) estimated"""
MODELS = {"llama2-70b": "llama-2-70b", "mixtral-8x7b": "mixtral-8x7b"}
SYSTEMS = Path(__file__).with_name("mlperf_systems.csv")
"""numbers of a chip by what the description of a system says, where that differs from the data sheet"""
LEAST_MEMORY_BYTES = {"llama2-70b": 96e9, "mixtral-8x7b": 60e9}
"""chips with less memory hold the weights in 8 bits, and a cache, in pairs only"""
BATCH_LIMITS = Path(__file__).with_name("mlperf_batch_limits.csv")
"""sequences that run at once at most, by benchmark and chip: gpu_batch_size of the configurations in v4.1 (NVIDIA's,
for H100 PCIe ASUS's), which the other submitters take over with few changes"""


def compare_throughput(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons of both tables, for the files present."""
    comparisons: list[Comparison] = []
    for name, compare in ((MLPERF, compare_mlperf), (TRTLLM, compare_trtllm)):
        path = directory / f"{name}.csv"
        if path.exists():
            comparisons += compare(facts, read_rows(path))
    return comparisons


def compare_mlperf(facts: Facts, rows: Rows) -> list[Comparison]:
    """Output rates of a chip, and mean times per output token of the server scenario."""
    distinct = {(row["accelerator"], row["framework"], row["scenario"], row["tokens_per_second"]): row for row in rows}
    limits = {(row["benchmark"], row["chip"]): int(row["sequences"]) for row in read_rows(BATCH_LIMITS)}
    systems = read_rows(SYSTEMS)
    measured: list[Measured] = []
    unanswered = 0
    for row in distinct.values():
        if row["division"] != "closed":  # the open division may change the model, and states neither format nor layout
            unanswered += 1
            continue
        try:
            measured += _mlperf(facts, row, limits, systems)
        except FlashstillError:
            unanswered += 1
    return compared(facts, MLPERF, measured, unanswered, used=("gpu-amd",))


def _mlperf(
    facts: Facts, row: Mapping[str, str], limits: Mapping[tuple[str, str], int], systems: Rows
) -> list[Measured]:
    named = re.sub(
        r"AMD Instinct |AMD |NVIDIA |-NPS1.*|-CTS| Grace Hopper Superchip| 96GB|-(80|94|141)GB", "", row["accelerator"]
    )
    chip = chip_from_facts(facts, named.lower())
    engine = "vllm" if "vLLM" in row["framework"] else "trtllm"
    benchmark = re.sub(r"-99(\.9)?$", "", row["model"])
    isl, osl = LENGTHS[benchmark]
    replica = 2 if chip.memory.bytes < LEAST_MEMORY_BYTES[benchmark] and int(row["accelerators_total"]) > 1 else 1
    replicas = int(row["accelerators_total"]) / replica
    in_flight = MOST_SEQUENCES[engine]
    if row["mean_latency_s"] and row["samples_per_second"] and row["mean_tpot_s"]:
        in_flight = round(float(row["samples_per_second"]) * float(row["mean_latency_s"]) / replicas)
    case = Case.of(
        model=MODELS[benchmark],
        chip=chip.name,
        tp=replica,
        precision="fp8",
        kv_precision="fp8",
        isl=isl,
        osl=osl,
        concurrency=max(min(in_flight, limits.get((benchmark, chip.name), in_flight)), 1),
        engine=engine,
    )
    edits = _stated(chip, row, systems)
    figures = [Measured(case=case, quantity=RATE, value=float(row["tok_s_per_acc"]), copies=1.0 / replica, edits=edits)]
    if row["mean_tpot_s"]:
        figures.append(Measured(case=case, quantity=TPOT, value=float(row["mean_tpot_s"]), edits=edits))
    return figures


def _stated(chip: Chip, row: Mapping[str, str], systems: Rows) -> tuple[str, ...]:
    """Numbers of the chip that a system states otherwise than its data sheet."""
    return tuple(
        f"{chip.name}.{stated['quantity']}={stated['value']}"
        for stated in systems
        if stated["text"].upper() in row[stated["column"]].upper()
    )


def compare_trtllm(facts: Facts, rows: Rows) -> list[Comparison]:
    """Output rates at max load; rates of static batches and latencies of a first token of the early versions."""
    static = [row for row in rows if row["batch"].isdigit()]
    comparisons = compared(facts, TRTLLM, [_served(row) for row in rows if row not in static])
    timed = [(row, *_static(facts, row)) for row in static]
    kinds = (
        ("first token of an engine alone, 2023", [each for each in timed if each[0]["metric"] == _FIRST]),
        (
            "rate of static batches, 2023 and 2024",
            [each for each in timed if each[0]["metric"] != _FIRST and not each[3]],
        ),
        (
            "the same of grouped heads, read once a query head before XQA kernels",
            [each for each in timed if each[0]["metric"] != _FIRST and each[3]],
        ),
    )
    return comparisons + [
        Comparison(
            anchor=TRTLLM,
            quantity=quantity,
            fitted=NOT_FITTED,
            measured=np.array([float(row["value"]) * (MILLI if row["metric"] == _FIRST else 1.0) for row, *_ in found]),
            predicted=np.array([value for _, value, _, _ in found]),
            chip=tuple(chip for _, _, chip, _ in found),
            engine=("trtllm",) * len(found),
        )
        for quantity, found in kinds
        if found
    ]


def _static(facts: Facts, row: Mapping[str, str]) -> tuple[float, str, bool]:
    """(predicted value, chip, whether query heads share key/value heads) of a row without a server around the engine.

    Values are seconds to the first token, or output tokens per second and chip.
    """
    chip, model = chip_from_facts(facts, row["gpu"]), load_architecture(row["model"])
    software = software_of_chip(facts, "trtllm", chip)
    conditions = make_conditions(chip, precisions_of(model, "fp8", "fp8"), software=software)
    batch, isl, osl, tp = (np.array([float(row[name])]) for name in ("batch", "isl", "osl", "tp"))
    latency = batch_latency(model, conditions, Layout(tp=tp), batch, isl, osl)
    grouped = any(
        layer.attention.kv_heads < layer.attention.heads
        for layer in model.layers
        if isinstance(layer.attention, Attention)
    )
    value = latency if row["metric"] == _FIRST else batch * osl / latency / tp
    return float(value[0]), chip.name, grouped


def _version(row: Mapping[str, str]) -> str:
    """The version of TensorRT-LLM that a row's document names, as "v1.0 perf-overview"; empty if it names none."""
    named = re.match(r"v(\d[\d.]*)", row["doc"])
    return named[1] if named else ""


def _served(row: Mapping[str, str]) -> Measured:
    case = Case.of(
        model=row["model"],
        chip=row["gpu"].lower(),
        tp=int(row["tp"]),
        precision="fp8",
        kv_precision="fp8",
        isl=int(row["isl"]),
        osl=int(row["osl"]),
        concurrency=MOST_SEQUENCES["trtllm"],
        engine=versioned({"backend": "trtllm", "backend_version": _version(row)}),
    )
    return Measured(case=case, quantity=RATE, value=float(row["value"]))
