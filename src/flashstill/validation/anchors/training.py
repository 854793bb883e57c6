"""Training on GPUs: published step times, rates and memory against the cost model.

megatron*.csv      iteration times and memory of Korthikanti et al. 2022: unfused attention, dropout, 18 bytes of
                   state a parameter, gradients in 32 bits
training_gpu*.csv  rates of the NeMo framework; the rows omit these settings, taken as: sequence parallelism, optimizer
                   split over replicas, fused attention, no recomputation
tpu*.csv           see tpu.py in this directory
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flashstill.arch import Architecture, Attention, FeedForward, Layer, known_models, load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.training import TrainingCost, train_step
from flashstill.cost.training_footprint import activation_bytes, state_bytes
from flashstill.errors import MissingFact
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts, software_of
from flashstill.parallel.training import TrainingPlan
from flashstill.parallel.training_parameters import end_parameters
from flashstill.validation.anchors.tables import read_rows
from flashstill.validation.anchors.tpu import tpu_runs
from flashstill.validation.anchors.trained import TrainedRun, chip_label, compare_runs
from flashstill.validation.comparison import NOT_FITTED, Comparison

GIB = 2.0**30
MODES = {
    "none": ("none", False),
    "seq": ("none", True),
    "sel": ("selective", False),
    "seqsel": ("selective", True),
    "full": ("full", False),
}
"""recomputation, and whether sequence parallelism is on"""
VOCABULARY = 51200
STEP_TIME = "iteration_time_s"
NEMO_SETTINGS = ("system", "gpus", "kind", "precision", "gbs", "mbs", "seq", "fsdp", "tp", "pp", "cp", "vp", "ep")
"""columns of training_gpu that decide the cost of a step, beside the model"""
Row = Mapping[str, str]


def compare_training(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons for every training file of the directory, by quantity."""
    return [*compare_runs(facts, training_runs(facts, directory)), *_memory(directory)]


def training_runs(facts: Facts, directory: Path) -> list[TrainedRun]:
    """Measured times and rates of all training files."""
    runs = [
        _megatron_run(facts, path.stem, row)
        for path in sorted(directory.glob("megatron*.csv"))
        for row in read_rows(path)
        if row["kind"] == STEP_TIME
    ]
    runs += [
        _nemo_run(facts, path.stem, row)
        for path in sorted(directory.glob("training_gpu*.csv"))
        for row in read_rows(path)
    ]
    return [*runs, *tpu_runs(facts, directory)]


def _megatron_run(facts: Facts, anchor: str, row: Row) -> TrainedRun:
    return TrainedRun(
        anchor=anchor,
        quantity="step time",
        framework="megatron",
        model=spelled(row["model"]),
        chip=chip_label(facts, row["gpu"].split(" (")[0] or "A100-80GB"),
        measured=float(row["measured"]),
        figure="seconds",
        key=tuple(row.items()),
        cost=lambda changed: megatron_cost(changed, row),
    )


def megatron_cost(facts: Facts, row: Row) -> TrainingCost:
    """The predicted step of a row measured with Megatron."""
    chip = chip_from_facts(facts, row["gpu"].split(" (")[0] or "A100-80GB")
    conditions = make_conditions(chip, uniform("bf16"), software=software_of(facts, "megatron"))
    return train_step(_megatron_model(row), conditions, megatron_plan(row))


def _memory(directory: Path) -> list[Comparison]:
    """Comparisons of the memory figures in the Megatron files."""
    comparisons = []
    for path in sorted(directory.glob("megatron*.csv")):
        figures = [_memory_figure(row) for row in read_rows(path) if row["kind"] != STEP_TIME]
        for quantity in dict.fromkeys(quantity for quantity, _, _ in figures):
            pairs = [(measured, predicted) for name, measured, predicted in figures if name == quantity]
            comparisons.append(
                Comparison(
                    anchor=path.stem,
                    quantity=quantity,
                    fitted=NOT_FITTED,
                    measured=np.array([measured for measured, _ in pairs]),
                    predicted=np.array([predicted for _, predicted in pairs]),
                    chip=("any",) * len(pairs),
                    engine=("megatron",) * len(pairs),
                )
            )
    return comparisons


def _memory_figure(row: Row) -> tuple[str, float, float]:
    """(quantity, measured, predicted) of a memory row."""
    model, plan, measured = _megatron_model(row), megatron_plan(row), float(row["measured"])
    if row["kind"] == "params_optimizer_mem_per_gpu":
        # The published figure excludes the embedding, and an LM head on the same chip.
        ends = float(end_parameters(model, plan)) * (plan.parameter_bytes + plan.gradient_bytes + plan.optimizer_bytes)
        return "bytes of parameters and optimizer", measured, (float(state_bytes(model, plan)) - ends) / GIB
    kept = float(activation_bytes(model, plan))
    if row["kind"] == "activation_mem_per_gpu":
        return "bytes of activations", measured, kept / GIB
    whole = float(activation_bytes(model, megatron_plan({**row, "recompute_mode": "none"})))
    return "activations against none recomputed", measured, 100.0 * kept / whole


def megatron_plan(row: Row) -> TrainingPlan:
    """The training plan of a row; missing values as in the paper's rows for 175 billion parameters."""
    recompute, split = MODES[row["recompute_mode"]]
    return TrainingPlan(
        batch=float(row["batch"] or 64),
        microbatch=float(row["microbatch"] or 1),
        length=float(row["seq"] or 2048),
        tp=float(row["tp"] or 8),
        pp=float(row["pp"] or 8),
        dp=float(row["dp"] or 1),
        interleave=float(row["pp_interleave"] or 3),
        sequence_parallel=split,
        recompute=recompute,
        fused_attention=False,
        dropout=True,
        gradient_bytes=4.0,
    )


def _megatron_model(row: Row) -> Architecture:
    if not row["hidden"]:
        return load_architecture(spelled(row["model"]))
    width, heads = int(row["hidden"]), int(row["heads"])
    mixer = Attention(heads=heads, kv_heads=heads, head_width=width // heads, qkv_bias=True, output_bias=True)
    block = Layer(
        count=int(row["blocks"]),
        attention=mixer,
        ffn=FeedForward(width=int(row["ff"]), gated=False, bias=True),
        norm_parameters=4 * width,
    )
    return Architecture(
        name=row["model"],
        width=width,
        vocabulary=VOCABULARY,
        layers=(block,),
        tied=True,
        context=int(row["seq"]),
        final_norm_parameters=2 * width,
    )


def _nemo_run(facts: Facts, anchor: str, row: Row) -> TrainedRun:
    model = spelled(row["model"])
    return TrainedRun(
        anchor=anchor,
        quantity=f"tokens/s per chip, {row['kind'].split()[0]}",
        framework="nemo",
        model=model,
        chip=chip_label(facts, row["system"].upper().removeprefix("DGX-")),
        measured=float(row["tok_s_gpu"]),
        figure="tokens_per_s",
        key=(model, *(row[name] for name in NEMO_SETTINGS)),
        cost=lambda changed: nemo_cost(changed, row),
    )


def nemo_cost(facts: Facts, row: Row) -> TrainingCost:
    """The predicted step of a row measured with NeMo."""
    chip = chip_from_facts(facts, row["system"].upper().removeprefix("DGX-"))
    precision = "bf16" if row["precision"].upper() == "BF16" else "fp8"
    conditions = make_conditions(chip, uniform(precision, "bf16"), software=software_of(facts, "nemo"))
    return train_step(load_architecture(spelled(row["model"])), conditions, nemo_plan(row))


def nemo_plan(row: Row) -> TrainingPlan:
    """The training plan of a row; empty and "n/a" mean 1."""

    def degree(name: str) -> float:
        return max(float(row[name]), 1.0) if re.fullmatch(r"\d+", row[name]) else 1.0

    inner = degree("tp") * degree("cp") * degree("pp") * degree("fsdp")
    return TrainingPlan(
        batch=degree("gbs"),
        microbatch=degree("mbs"),
        length=degree("seq"),
        tp=degree("tp"),
        cp=degree("cp"),
        pp=degree("pp"),
        ep=degree("ep"),
        fsdp=degree("fsdp"),
        dp=float(row["gpus"]) / inner,
        interleave=degree("vp"),
        sequence_parallel=degree("tp") > 1,
        zero1=True,
        frozen=row["kind"].startswith("LoRA"),
    )


def spelled(name: str) -> str:
    """The catalogue's spelling of a model name: LLAMA3.1_405B -> llama-3.1-405b, DeepSeekV3 (x) -> deepseek-v3.

    A name that leaves out the sizes is the only catalogue name that continues it: Nemotron_3_Nano ->
    nemotron-3-nano-30b-a3b.
    """
    plain = name.split(" (")[0].lower().replace("_", "-").replace(" ", "-")
    spelled = re.sub(r"^(llama|gpt)(?=\d)|^(deepseek)(?=v)", lambda match: f"{match[0]}-", plain)
    try:
        load_architecture(spelled)
    except MissingFact:
        longer = [known for known in known_models() if known.startswith(f"{spelled}-")]
        return longer[0] if len(longer) == 1 else spelled
    return spelled
