"""PaLM on a torus slice: published latencies and longest contexts against the cost model.

The rows are those of Pope et al. 2022 (arXiv 2211.05102, tables 1 to 3) or of another machine in the same columns:
layout of the weights ("WS-1D", "WS-2D", "WG-XYZ": gathered over all chips), attention split by "head" or "batch",
precision of the weights.  A row with id HW names the machine.  If the chips do not divide a model's heads, heads are
added until they do, as in the paper (PaLM 540B: 48 to 64).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from flashstill.arch import Architecture, Attention, load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.footprint import sequence_bytes
from flashstill.cost.phases import decode_step, prefill_step
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts, software_of
from flashstill.parallel import Layout
from flashstill.validation.anchors.tables import read_rows
from flashstill.validation.comparison import FITTED, NOT_FITTED, Comparison

ENGINE = "jax"
MACHINE = "TPU v4"
"""the machine of the paper, used if no row names another"""
CACHE_SHARE = 0.3
"""share of memory for keys and values (Pope et al. 2022, table 1)"""
_GATHERED = {"WG-X": 1.0 / 3.0, "WG-XY": 2.0 / 3.0, "WG-XYZ": 1.0}
"""weights gathered over one, two or all three axes of a cube"""

Row = Mapping[str, str]


def compare_palm(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons for every file whose name begins with palm: latencies and longest contexts."""
    comparisons = []
    for path in sorted(directory.glob("palm*.csv")):
        rows = read_rows(path)
        named = next((row["model"] for row in rows if row["id"] == "HW"), MACHINE)
        machine = facts.machine(named).name
        chip = chip_from_facts(facts, machine)
        timed = [row for row in rows if row["latency_s"]]
        contexts = [row for row in rows if row["phase"] == "max context"]
        for quantity, chosen, answers in (
            ("latency", timed, [latency_s(facts, chip, row) for row in timed]),
            ("longest context", contexts, [longest_context(chip, row) for row in contexts]),
        ):
            measured = [row["latency_s"] or re.sub(r"\D.*", "", row["other"]) for row in chosen]
            if chosen:
                comparisons.append(
                    Comparison(
                        anchor=path.stem,
                        quantity=quantity,
                        fitted=FITTED if quantity == "latency" and named == MACHINE else NOT_FITTED,
                        measured=np.array([float(value) for value in measured]),
                        predicted=np.array(answers),
                        chip=(machine,) * len(chosen),
                        engine=(ENGINE,) * len(chosen),
                    )
                )
    return comparisons


def latency_s(facts: Facts, chip: Chip, row: Row) -> float:
    """Predicted seconds of a prefill, or of all decode steps of a row."""
    chips = int(row["chips"])
    layout = row_layout(row, chips)
    model = padded(load_architecture(row["model"]), chips)
    conditions = make_conditions(chip, uniform(row["weight_dtype"], "bf16"), software=software_of(facts, ENGINE))
    batch, context = float(row["batch"]), float(row["context_len"])
    if row["phase"] == "prefill":
        return float(prefill_step(model, conditions, layout, batch, float(row["input_len"] or context)).seconds)
    step = decode_step(model, conditions, layout, batch, context)
    return float(step.seconds) * float(row["output_tokens"] or 1)


def row_layout(row: Row, chips: int) -> Layout:
    """The layout named in a row."""
    weights = row["ffn_layout"] or "WS-2D"
    by_batch = "batch" in row["attn_layout"]
    if weights in _GATHERED:
        gather = 2.0 ** round(math.log2(chips) * _GATHERED[weights])
        return Layout(tp=float(chips), ffn="gathered", gather=gather, shard_batch=by_batch)
    return Layout(tp=float(chips), ffn="1d" if weights.endswith("1D") else "2d", shard_batch=by_batch)


def longest_context(chip: Chip, row: Row) -> float:
    """Longest context, in tokens per sequence, for which `CACHE_SHARE` of the memory suffices."""
    chips = int(row["chips"])
    model = padded(load_architecture(row["model"]), chips)
    width = re.search(r"multihead dh(\d+)", row["attn_layout"])
    if width:
        model = multihead(model, int(width[1]))
    widths = uniform(row["weight_dtype"] or "bf16").widths
    bytes_per_token = float(sequence_bytes(model, 1.0, widths, row_layout(row, chips)))
    return CACHE_SHARE * chip.memory.bytes / (float(row["batch"]) * bytes_per_token)


def padded(model: Architecture, chips: int) -> Architecture:
    """The model with query heads added until the chips divide them."""
    return _with_attention(model, lambda mixer: replace(mixer, heads=math.ceil(mixer.heads / chips) * chips))


def multihead(model: Architecture, head_width: int) -> Architecture:
    """The model with one key/value head per query head."""
    return _with_attention(model, lambda mixer: replace(mixer, kv_heads=mixer.heads, head_width=head_width))


def _with_attention(model: Architecture, change: Callable[[Attention], Attention]) -> Architecture:
    layers = tuple(
        replace(layer, attention=change(layer.attention)) if isinstance(layer.attention, Attention) else layer
        for layer in model.layers
    )
    return replace(model, layers=layers)
