"""Anchor files of expert-parallel exchanges: tokens to the chips of their experts and back, on the GPUs of one node.

DeepEP has two sets of kernels: of low latency, with which engines decode, and normal ones for prefills.  A dispatch
moves each token in 8 bits to every chip that holds one of its experts, a combine moves sums of 16 bits back.
Low-latency kernels send a copy for every expert instead; their efficiency is fitted to the bytes of the former.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flashstill.hardware import Chip
from flashstill.parallel import Exchange, copies
from flashstill.validation.anchors.tables import LAUNCHES, MICRO, WHOLE, KernelSet, Rows, column, engine_in_name
from flashstill.validation.comparison import Values

DEEPEP_OF = "sglang"
"""the engine whose image the tables of DeepEP's own kernels were measured in"""
GPUS = 8.0
"""chips of the node on which the tables were measured"""
MOST_AT_LOW_LATENCY = 256
"""tokens of a chip up to which the low-latency kernels are taken, and beyond which the normal ones"""
WIDTHS = {"dispatch": 1.0, "combine": 2.0}
"""bytes of a value on its way: fp8 out, bf16 back"""


def low_latency(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """DeepEP's kernels of low latency."""
    few = [row for row in rows if int(row["num_token"]) <= MOST_AT_LOW_LATENCY]
    for phase in WIDTHS:
        yield _exchange(anchor, chip, DEEPEP_OF, few, phase, column(few, f"{phase}_avg_t_us") * MICRO)


def normal(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """DeepEP's normal kernels with the most SMs that were tried; fewer are an option of a deployment."""
    for phase in WIDTHS:
        most = max(int(row[f"{phase}_sms"]) for row in rows)
        many = [row for row in rows if int(row["num_token"]) > MOST_AT_LOW_LATENCY and int(row[f"{phase}_sms"]) == most]
        yield _exchange(anchor, chip, DEEPEP_OF, many, phase, column(many, f"{phase}_transmit_us") * MICRO)


def layer(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """The exchange of an engine's layer, launched from Python: some 30 to 70 us more than the kernels alone take."""
    for phase, width in WIDTHS.items():
        mine = [
            {**row, "num_token": row["num_tokens"], "num_topk": row["topk"]}
            for row in rows
            if row["phase"] == phase and row.get("comm_dtype", "fp8") in ("fp8", "bfloat16")
        ]
        widths = np.array([2.0 if row.get("comm_dtype") == "bfloat16" else width for row in mine])
        seconds = column(mine, "latency") * MICRO
        yield _exchange(anchor, chip, engine_in_name(anchor), mine, phase, seconds, widths, LAUNCHES)


def _exchange(
    anchor: str,
    chip: Chip,
    engine: str,
    rows: Rows,
    phase: str,
    seconds: Values,
    widths: Values | None = None,
    timed: str = WHOLE,
) -> KernelSet:
    each = np.array([float(copies(int(row["num_topk"]), GPUS)) for row in rows])
    values = column(rows, "num_token") * column(rows, "hidden_size") * each
    work = Exchange(
        name=phase,
        kind="all-to-all",
        count=1.0,
        bytes=values * (WIDTHS[phase] if widths is None else widths),
        group=np.full(len(rows), GPUS),
        tier="expert",
    )
    return KernelSet(
        anchor=anchor,
        chip=chip.name,
        kind="all-to-all",
        precision="",
        engine=engine,
        work=work,
        seconds=seconds,
        timed=timed,
    )
