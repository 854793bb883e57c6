"""Anchor files of expert kernels: rows -> operations with the routing that each row's benchmark drew.

A row is one chip of `moe_ep_size` groups of experts, the busiest; its pairs and distinct experts are replayed
(routing.py), so that fits learn the kernel and not the routing.  Each engine's rows belong to the engine, save those of
a library that the engine takes for some models only, or that the tables timed without tuning; such rows are named after
the library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from flashstill.hardware import Chip
from flashstill.validation.anchors.formats import kernels_alone
from flashstill.validation.anchors.routing import at_random, routed
from flashstill.validation.anchors.tables import (
    CONVERTED,
    MILLI,
    PRECISIONS,
    KernelSet,
    Rows,
    column,
    engine_in_name,
)
from flashstill.workload import Experts, Routed

COLUMNS = {"num_tokens", "topk", "distribution", "moe_ep_size", "latency"}
_PLAIN = "bfloat16"
"""format of tables without a column for it"""
_NOT_GATED = {("2688", "1856"), ("1024", "2688"), ("4096", "2688"), ("2048", "5120"), ("8192", "5120")}
"""(width, FFN width) of the Nemotron-3 models, whose FFN has no gate (hidden_act relu2 in their configurations)"""
FORMATS = PRECISIONS | CONVERTED | {"mxfp4": "mxfp4"}
_AROUND_AITER_S = 17.7e-6
"""what AITER's tables, which time the products, leave out of an expert layer: on MI350X and MI355X, in graphs and up to
256 tokens, sorting takes 13.5 us (ROCm/FlyDSL pull 540), scales of the activations 4.2 us (ROCm/aiter pull 3702)"""
_FIRST_TAKES_ALL = (0, 5, 13)
"""SGLang's benchmark gave the pairs of other groups to the first expert until this version"""


def experts(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """Sets of expert kernels by format and by the engine or library whose kernels they are."""
    groups: dict[tuple[str, str], Rows] = {}
    for row in rows:
        dtype = row.get("moe_dtype", _PLAIN)
        if dtype in FORMATS:
            groups.setdefault((FORMATS[dtype], _kernels(anchor, chip, row)), []).append(row)
    for (precision, kernels), group in sorted(groups.items()):
        widths = kernels_alone(chip, precision).widths
        tokens, chosen = column(group, "num_tokens"), column(group, "topk")
        count, split_over = column(group, "num_experts"), column(group, "moe_ep_size")
        pairs, distinct, visiting = np.array([_routed(row) for row in group]).T
        remote = tokens * chosen - pairs
        if engine_in_name(anchor) == "sglang" and _version(group[0]) <= _FIRST_TAKES_ALL:
            pairs, remote = visiting * chosen, np.zeros_like(pairs)
        work = Experts(
            name="experts",
            tokens=tokens,
            experts=count,
            chosen=chosen,
            local_experts=count / split_over,
            width=column(group, "hidden_size"),
            ffn_width=column(group, "inter_size") / column(group, "moe_tp_size"),
            matrices=np.array([_matrices(row) for row in group]),
            value_bytes=widths.of("experts"),
            counted=Routed(pairs=pairs, distinct=distinct),
            remote=remote,
            activation_value_bytes=widths.activation,
        )
        yield KernelSet(
            anchor=anchor,
            chip=chip.name,
            kind="experts",
            precision=precision,
            engine=kernels,
            work=work,
            seconds=column(group, "latency") * MILLI + (_AROUND_AITER_S if kernels == "aiter" else 0.0),
        )


def _routed(row: dict[str, str]) -> tuple[float, float, float]:
    distribution = row["distribution"]
    exponent = float(distribution.rsplit("_", 1)[-1]) if distribution.startswith("power_law") else None
    tokens, count, chosen, groups = (int(row[name]) for name in ("num_tokens", "num_experts", "topk", "moe_ep_size"))
    if distribution == "random":
        return at_random(tokens, count, chosen, groups)
    return routed(tokens, count, chosen, groups, exponent)


def _library(row: dict[str, str]) -> str:
    """The library of kernels that a row's `kernel_source` names; "" for the engine's own or none."""
    source = row.get("kernel_source", "")
    if "min_latency" in source:
        return "trtllm-gen"
    names = ("flashinfer_cutlass", "flashinfer_trtllm", "triton", "marlin")
    return next((name.replace("_", "-") for name in names if name in source), "")


def _kernels(anchor: str, chip: Chip, row: dict[str, str]) -> str:
    """The engine whose kernels a row timed, or the library if it is not the one that the engine usually takes.

    FlashInfer's CUTLASS kernels were timed with their default tactic, which engines tune when they start (block-scaled
    fp8 has one tactic only); SGLang takes Triton for some models on chips where the others run FlashInfer's.  With
    weights in mxfp4, Marlin's were timed for models with an activation function of their own (vLLM takes OpenAI's
    Triton kernels on Hopper and FlashInfer's on Blackwell), and SGLang's Triton reads them widened to 16 bits, which is
    no longer its default.
    """
    engine, library, format_name = engine_in_name(anchor), _library(row), row.get("moe_dtype")
    untuned = library == "flashinfer-cutlass" and format_name != "fp8_block"
    widened = format_name == "w4a16_mxfp4" or chip.precision("fp4") == "fp4"
    exception = engine == "sglang" and library == "triton" and widened
    marlin = library == "marlin" and format_name == "w4a16_mxfp4"
    return library if untuned or exception or marlin or library == "trtllm-gen" else engine


def _matrices(row: dict[str, str]) -> float:
    """3 matrices of a gated FFN, 2 of one without a gate.

    TensorRT-LLM's tables say which; vLLM's tables with a `kernel_source` and SGLang's of FlashInfer follow the model;
    all others were timed with a gate.
    """
    source = row.get("kernel_source", "")
    as_the_model = source.startswith(("vllm_", "sglang_flashinfer"))
    plain = as_the_model and (row["hidden_size"], row["inter_size"]) in _NOT_GATED
    return 2.0 if plain or source.endswith("nongated") else 3.0


def _version(row: dict[str, str]) -> tuple[int, ...]:
    """The leading numbers of a version: 1.3.0rc20 -> (1, 3, 0)."""
    return tuple(int(number) for number in re.findall(r"\d+", row["version"])[:3])
