"""This project's own measurements on GPUs (benchmarks/gpu/kernels.py), in the subdirectory own/ of the anchors.

No coefficient is fitted to them.  What was measured is plain torch, which no engine's rows describe.  A kernel timed
alone is predicted by the fastest of the engines' kernels timed alone, without the ratios that fit them to served steps
(as kernel_times.py does for published kernels); a model's step in a CUDA graph by engine "none", which has these ratios
and no overheads, and one whose kernels are launched one by one by engine "transformers-eager", whose launches are those
of public figures.  fp8 products were timed without the quantisation of their activations, so none is predicted.  The
chip is the one that the column `device` names, as a driver spells it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from flashstill.arch import Architecture, from_hf, load_architecture
from flashstill.cost import Conditions, make_conditions, uniform
from flashstill.cost.phases import decode_step, prefill_step
from flashstill.errors import BadInput, shortened
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts
from flashstill.hardware.launches import software_of_chip
from flashstill.hardware.software import ALONE, EAGER, software_on
from flashstill.parallel import Layout
from flashstill.validation.anchors.attention import attention
from flashstill.validation.anchors.energy import MeasuredProduct, product_joules
from flashstill.validation.anchors.packed import OWN_FOLDER
from flashstill.validation.anchors.tables import (
    MILLI,
    PRECISIONS,
    KernelSet,
    Rows,
    column,
    machine_named,
    read_rows,
    split,
)  # fmt: skip
from flashstill.validation.comparison import OWN, Comparison, Values
from flashstill.validation.kernel_times import seconds_of
from flashstill.workload import Experts, Routed, matmul

TABLES = ("gemm", "generation_attention", "context_attention", "moe", "decode")
MOST_ROWS = 20_000
"""a row may take a millisecond or two; the script writes some hundreds a table"""
TINY_EXPERTS: dict[str, Any] = {
    "model_type": "qwen3_moe", "vocab_size": 32768, "hidden_size": 2048, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 32, "num_key_value_heads": 4,
    "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": True, "decoder_sparse_step": 1,
    "mlp_only_layers": [], "tie_word_embeddings": False, "hidden_act": "silu", "max_position_embeddings": 40960,
    "attention_bias": False, "use_sliding_window": False,
}  # fmt: skip
"""the model `tiny-moe` of the script: four layers of Qwen3-30B-A3B"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """A chip, with the conditions of kernels timed alone, by precision, and those of whole steps in bf16."""

    chip: Chip
    alone: Callable[[str], Conditions]
    steps: Conditions
    eager: Conditions


def compare_own(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons by table and quantity, for the tables that are there; BadInput for a table that is too long."""
    readers: dict[str, Callable[[Machine, str, Rows], Iterator[Comparison]]] = {
        "gemm": _products, "generation_attention": _attention, "context_attention": _attention, "moe": _experts,
        "decode": _decoding,
    }  # fmt: skip
    found: list[Comparison] = []
    for table in TABLES:
        path = directory / OWN_FOLDER / f"{table}.csv"
        if not path.exists():
            continue
        all_rows = read_rows(path)
        if len(all_rows) > MOST_ROWS:
            raise BadInput(
                f"{path} has {len(all_rows):,} rows, more than the {MOST_ROWS:,} that are read of such a table"
            )
        for (device,), rows in split(all_rows, "device"):
            found += readers[table](machine_of(facts, device), f"{OWN_FOLDER}/{table}", rows)
    return _joined(found)


def _joined(found: Sequence[Comparison]) -> list[Comparison]:
    """One comparison a quantity, whose chips and kernels label its values."""
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for each in found:
        groups.setdefault((each.anchor, each.quantity), []).append(each)
    return [
        replace(
            group[0], measured=np.concatenate([each.measured for each in group]),
            predicted=np.concatenate([each.predicted for each in group]),
            chip=tuple(name for each in group for name in each.chip),
            engine=tuple(name for each in group for name in each.engine),
        )
        for group in groups.values()
    ]  # fmt: skip


def machine_of(facts: Facts, device: str) -> Machine:
    """The chip that a driver calls `device`, and how its rows are predicted."""
    chip = chip_from_facts(facts, machine_named(facts, device))
    software = replace(software_on(facts, ALONE, chip.maker_class), quantise_ratio=0.0)
    kernels = replace(software, matmul_ratio=1.0, experts_ratio=1.0)
    return Machine(
        chip=chip,
        alone=cache(lambda precision: make_conditions(chip, uniform(precision), software=kernels)),
        steps=make_conditions(chip, uniform("bf16"), software=software),
        eager=make_conditions(chip, uniform("bf16"), software=software_of_chip(facts, EAGER, chip)),
    )


def _comparison(
    machine: Machine, anchor: str, quantity: str, measured: Values, predicted: Values, kernels: Sequence[str]
) -> Comparison:
    return Comparison(
        anchor=anchor, quantity=quantity, fitted=OWN, measured=measured, predicted=predicted,
        chip=(machine.chip.name,) * len(measured), engine=tuple(kernels),
    )  # fmt: skip


def _products(machine: Machine, anchor: str, rows: Rows) -> Iterator[Comparison]:
    for (dtype,), group in split(rows, "gemm_dtype"):
        precision, measured = PRECISIONS[dtype], column(group, "latency") * MILLI
        conditions = machine.alone(precision)
        m, n, k = (column(group, name) for name in "mnk")
        predicted = seconds_of(conditions, matmul("gemm", m, n, k, conditions.widths), measured)
        few = m <= 64.0
        for rows_of, kept in (("up to 64 rows", few), ("128 rows and more", ~few)):
            if kept.any():
                names = [f"torch, {precision}"] * int(kept.sum())
                yield _comparison(
                    machine, anchor, f"seconds, {rows_of}", measured[kept], predicted[kept], names
                )  # fmt: skip
    metered = [row for row in rows if row["joules"]]
    if metered:
        joules = np.array([product_joules(machine.chip, measured_product(machine, row)) for row in metered])
        names = [f"torch, {PRECISIONS[row['gemm_dtype']]}" for row in metered]
        yield _comparison(machine, anchor, "joules at the measured seconds", column(metered, "joules"), joules, names)


def measured_product(machine: Machine, row: dict[str, str]) -> MeasuredProduct:
    """A row of metered products, at the rate that it kept up."""
    m, n, k = (float(row[name]) for name in "mnk")
    return MeasuredProduct(
        chip=machine.chip.name, precision=PRECISIONS[row["gemm_dtype"]], rows=m, columns=n, depth=k,
        watts=float(row["watts"]), flops_per_s=2.0 * m * n * k / (float(row["sustained"]) * MILLI),
    )  # fmt: skip


def _attention(machine: Machine, anchor: str, rows: Rows) -> Iterator[Comparison]:
    for (kernel,), group in split(rows, "kernel_source"):
        sets: list[KernelSet] = list(attention(anchor.rsplit("/", 1)[-1], machine.chip, group))
        measured = np.concatenate([item.seconds for item in sets])
        predicted = np.concatenate([_alone(machine, item) for item in sets])
        name = "torch, " + kernel.rsplit(", ", 1)[-1]
        yield _comparison(machine, anchor, "seconds", measured, predicted, [name] * len(measured))


def _alone(machine: Machine, item: KernelSet) -> Values:
    assert not isinstance(item.work, tuple)
    return seconds_of(machine.alone(item.precision), item.work, item.seconds)


def _experts(machine: Machine, anchor: str, rows: Rows) -> Iterator[Comparison]:
    """Both ways of timing are compared with the one prediction, which is of an engine's whole expert layer."""
    conditions = machine.alone("bf16")
    for (kernel,), group in split(rows, "kernel_source"):
        tokens, chosen, measured = column(group, "num_tokens"), column(group, "topk"), column(group, "latency") * MILLI
        work = Experts(
            name="experts", tokens=tokens, experts=column(group, "num_experts"), chosen=chosen,
            local_experts=column(group, "num_experts"), width=column(group, "hidden_size"),
            ffn_width=column(group, "inter_size"), matrices=3.0, value_bytes=conditions.widths.of("experts"),
            counted=Routed(pairs=tokens * chosen, distinct=column(group, "distinct")), remote=np.zeros_like(tokens),
            activation_value_bytes=conditions.widths.activation,
        )  # fmt: skip
        name = "torch, " + kernel.removeprefix("torch grouped_mm, ")
        predicted = seconds_of(conditions, work, measured)
        yield _comparison(machine, anchor, "seconds", measured, predicted, [name] * len(measured))


def model_of(name: str) -> Architecture:
    """A model of the table decode."""
    return from_hf(TINY_EXPERTS, name) if name == "tiny-moe" else load_architecture(name)


def _decoding(machine: Machine, anchor: str, rows: Rows) -> Iterator[Comparison]:
    for (phase, kernel, name), group in split(rows, "phase", "kernel_source", "model"):
        batch, context, measured = (column(group, each) for each in ("batch_size", "context", "latency"))
        conditions = machine.steps if "graph" in kernel else machine.eager
        if phase == "decode":
            step = decode_step(model_of(name), conditions, Layout(), batch, context)
        elif phase != "prefill":
            raise ValueError(f"{anchor}: the phase {shortened(phase)} is neither decode nor prefill")
        else:
            step = prefill_step(model_of(name), conditions, Layout(), batch, context)
        seconds = np.broadcast_to(np.asarray(step.seconds, dtype=np.float64), batch.shape)
        how = f"{name}, {'CUDA graph' if 'graph' in kernel else 'eager'}"
        quantity = "seconds of a step" if phase == "decode" else "seconds of a prompt"
        yield _comparison(machine, anchor, quantity, measured * MILLI, seconds, [how] * len(group))
        kept = np.array([bool(row["joules_per_token"]) for row in group])
        if kept.any():
            joules = np.broadcast_to(np.asarray(step.total_joules, dtype=np.float64), batch.shape) / batch
            metered = column([row for row, ok in zip(group, kept, strict=True) if ok], "joules_per_token")
            yield _comparison(
                machine, anchor, "joules per token", metered, joules[kept], [how] * len(metered)
            )  # fmt: skip
