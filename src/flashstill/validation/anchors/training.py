"""Training on GPUs: published step times, rates and memory against the cost model.

megatron*.csv      iteration times and memory of Korthikanti et al. 2022: unfused attention, dropout, 18 bytes of
                   state a parameter, gradients in 32 bits
training_gpu*.csv  rates of the NeMo framework; the rows omit these settings, taken as: sequence parallelism, optimizer
                   split over replicas, fused attention, no recomputation
tpu*.csv           see tpu.py in this directory
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from flashstill.arch import Architecture, Attention, FeedForward, Layer, load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.training import train_step
from flashstill.cost.training_footprint import activation_bytes, state_bytes
from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts, software_of
from flashstill.parallel.training import TrainingPlan
from flashstill.parallel.training_parameters import end_parameters
from flashstill.validation.anchors.tables import Rows, read_rows
from flashstill.validation.anchors.tpu import compare_tpu
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
Row = Mapping[str, str]
Answer = Callable[[Facts, Row], tuple[str, str, float, float]]


def compare_training(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons for every training file of the directory, by quantity."""
    comparisons = []
    for pattern, engine, answer in (("megatron*.csv", "megatron", megatron), ("training_gpu*.csv", "nemo", nemo)):
        for path in sorted(directory.glob(pattern)):
            comparisons += _compared(facts, path.stem, engine, read_rows(path), answer)
    return [*comparisons, *compare_tpu(facts, directory)]


def _compared(facts: Facts, anchor: str, engine: str, rows: Rows, answer: Answer) -> list[Comparison]:
    answered: dict[str, list[tuple[str, float, float]]] = {}
    missed = 0
    for row in rows:
        try:
            quantity, chip, measured, predicted = answer(facts, row)
        except FlashstillError:
            missed += 1
            continue
        answered.setdefault(quantity, []).append((chip, measured, predicted))
    return [
        Comparison(
            anchor=anchor,
            quantity=quantity,
            fitted=NOT_FITTED,
            measured=np.array([measured for _, measured, _ in triples]),
            predicted=np.array([predicted for _, _, predicted in triples]),
            chip=tuple(chip for chip, _, _ in triples),
            engine=(engine,) * len(triples),
            unanswered=missed if number == 0 else 0,
        )
        for number, (quantity, triples) in enumerate(answered.items())
    ]


def megatron(facts: Facts, row: Row) -> tuple[str, str, float, float]:
    """(quantity, chip, measured, predicted) of a row measured with Megatron."""
    model, plan = _megatron_model(row), megatron_plan(row)
    kind, measured = row["kind"], float(row["measured"])
    chip = facts.machine(row["gpu"].split(" (")[0] or "A100-80GB").name
    if kind == "iteration_time_s":
        conditions = make_conditions(
            chip_from_facts(facts, chip), uniform("bf16"), software=software_of(facts, "megatron")
        )
        return "step time", chip, measured, float(train_step(model, conditions, plan).seconds)
    if kind == "params_optimizer_mem_per_gpu":
        # The published figure excludes the embedding, and an LM head on the same chip.
        ends = float(end_parameters(model, plan)) * (plan.parameter_bytes + plan.gradient_bytes + plan.optimizer_bytes)
        return "bytes of parameters and optimizer", chip, measured, (float(state_bytes(model, plan)) - ends) / GIB
    kept = float(activation_bytes(model, plan))
    if kind == "activation_mem_per_gpu":
        return "bytes of activations", chip, measured, kept / GIB
    whole = float(activation_bytes(model, megatron_plan({**row, "recompute_mode": "none"})))
    return "activations against none recomputed", chip, measured, 100.0 * kept / whole


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
        return load_architecture(_spelled(row["model"]))
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


def nemo(facts: Facts, row: Row) -> tuple[str, str, float, float]:
    """(quantity, chip, measured, predicted) of a row measured with NeMo."""
    model = load_architecture(_spelled(row["model"]))
    chip = chip_from_facts(facts, row["system"].upper().removeprefix("DGX-"))
    precision = "bf16" if row["precision"].upper() == "BF16" else "fp8"
    conditions = make_conditions(chip, uniform(precision, "bf16"), software=software_of(facts, "nemo"))
    predicted = float(train_step(model, conditions, nemo_plan(row)).tokens_per_s)
    return f"tokens/s per chip, {row['kind'].split()[0]}", chip.name, float(row["tok_s_gpu"]), predicted


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


def _spelled(name: str) -> str:
    """The catalogue's spelling of a model name: LLAMA3.1_405B -> llama-3.1-405b, DeepSeekV3 (x) -> deepseek-v3."""
    plain = name.split(" (")[0].lower().replace("_", "-").replace(" ", "-")
    return re.sub(r"^(llama|gpt)(?=\d)|^(deepseek)(?=v)", lambda match: f"{match[0]}-", plain)
