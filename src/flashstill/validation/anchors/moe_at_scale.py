"""DeepSeek-V3 on hundreds of GPUs: rates of its prefill and decode units, nodes of a day and dollars; not fitted.

    prefill   new tokens of prompts (after cached ones) over the seconds of a pass, with two-batch overlap
    decode    one step at the sequences in flight that the row tells, or else tokens/s over tokens/s of a user
    a day     nodes = new input tokens/s over the prefill rate + output tokens/s over the decode rate of a node

What rows leave out is in their sources: 32 redundant experts in both units, and two micro-batches (DeepSeek's overview
of its inference system); a profile is of equal requests and balanced routing (README of DeepSeek's profile-data).  In
production lengths vary as in public traces, and all groups wait for the busiest one.  DeepSeek's own engine is priced
as SGLang, which is built of the same libraries: DeepEP, DeepGEMM, FlashMLA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from flashstill.cost.phases import decode_step, mixed_step
from flashstill.facts import Facts
from flashstill.parallel import busiest_rank
from flashstill.plan.deployment import TWO_BATCH, Deployment
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario
from flashstill.validation.anchors.tables import Rows, read_rows
from flashstill.validation.comparison import NOT_FITTED, Comparison
from flashstill.workload import Chunks, Decoding

SCALE = "moe_at_scale"
MODEL, ENGINE, NODE = "deepseek-v3", "sglang", 8
REDUNDANT, PASS_TOKENS = 32, 16384.0
"""redundant experts of a unit, and new tokens of a prefill pass on each GPU"""
DAY_HOURS, HOUR_S = 24.0, 3600.0
_UNITS = {"B": 1e9, "M": 1e6, "": 1.0}


def compare_moe_at_scale(facts: Facts, directory: Path) -> list[Comparison]:
    """One comparison of all rows; empty if there is no file. A row of an unknown metric counts as unanswered."""
    path = directory / f"{SCALE}.csv"
    if not path.exists():
        return []
    rows = read_rows(path)
    known = _predictions(facts, rows)
    known_rows = [row for row in rows if _key(row) in known]
    pairs = [(_number(row["value"]), known[_key(row)]) for row in known_rows]
    return [
        Comparison(
            anchor=SCALE,
            quantity="rates, nodes and dollars",
            fitted=NOT_FITTED,
            measured=np.array([measured for measured, _ in pairs]),
            predicted=np.array([predicted for _, predicted in pairs]),
            chip=tuple(facts.machine(row["gpu"]).name for row in known_rows),
            engine=(ENGINE,) * len(pairs),
            unanswered=len(rows) - len(pairs),
        )
    ]


def _key(row: Mapping[str, str]) -> tuple[str, str, str]:
    return row["system"], row["config"], row["metric"]


def _predictions(facts: Facts, rows: Rows) -> dict[tuple[str, str, str], float]:
    """The prediction of every row whose metric is known."""
    chip = facts.machine(rows[0]["gpu"]).name
    day = next(row["config"] for row in rows if row["metric"] == "avg nodes")
    tokens, hits = _counted(day, "input tokens"), _counted(day, "cache hits")
    output = _counted(day, "output")
    decoding = next(row for row in rows if "avg KV length" in row["config"])
    speed = _number(next(row["value"] for row in rows if row["metric"] == "user speed"))
    context = _after(decoding["config"], "avg KV length")
    # An output token's mean context is isl + osl/2, and isl/osl is that of the day.
    prompt = context / (1.0 + output / tokens / 2.0)
    running = _number(decoding["value"]) / NODE / speed
    produced, pace = _decode(facts, chip, int(_after(decoding["config"], "EP")), running, context, REDUNDANT)
    unit = next(int(_after(row["config"], "EP")) for row in rows if row["metric"] == "input throughput")
    computed = _prefill(facts, chip, unit, prompt, prompt * hits / tokens)
    second = DAY_HOURS * HOUR_S
    nodes = (tokens - hits) / second / computed + output / second / produced
    known: dict[tuple[str, str, str], float] = {}
    for row in rows:
        config, metric, profile = row["config"], row["metric"], "profile" in row["system"]
        if metric == "input throughput":
            value = computed / (1.0 - hits / tokens) if "includes cache hits" in config else computed
            if profile:
                value = _prefill(facts, chip, int(row["gpus"]), _after(config, "length"), 0.0, balanced=True)
        elif metric == "output throughput":
            value = produced
            if profile:
                lengths = _after(config, "", "req/GPU"), _after(config, "KV")
                value, _ = _decode(facts, chip, int(row["gpus"]), *lengths, 0, balanced=True)
        elif metric == "user speed":
            value = pace
        elif metric == "avg nodes":
            value = nodes
        elif metric == "cost per day":
            value = nodes * NODE * DAY_HOURS * _after(config, r"\$")
        else:
            continue
        known[_key(row)] = value
    return known


def _unit(facts: Facts, chip: str, gpus: int, redundant: int) -> Resolved:
    deployment = Deployment(
        chip=chip, tp=1, dp=gpus, redundant_experts=redundant, engine=ENGINE, overlap=TWO_BATCH
    )  # fmt: skip
    return resolve(facts, Scenario(model=MODEL, batch=gpus, context=1), deployment)


def _prefill(facts: Facts, chip: str, gpus: int, prompt: float, cached: float, balanced: bool = False) -> float:
    """New prompt tokens/s of a node, of prompts whose first `cached` tokens are there already."""
    unit = _unit(facts, chip, gpus, 0 if balanced else REDUNDANT)
    new = prompt - cached
    prompts, uneven = PASS_TOKENS / new, 1.0
    if not balanced:
        uneven = busiest_rank(gpus, prompts, facts.value("load", "length_variation_ratio"))
    chunks = Chunks(count=prompts * uneven, length=new, past=cached)
    nothing = Decoding(sequences=0.0, context=1.0, queries=1.0)
    layout = replace(unit.layout, balanced=balanced, uneven=uneven)
    step = mixed_step(unit.model, unit.conditions, layout, nothing, chunks)
    return PASS_TOKENS / float(step.seconds) * NODE


def _decode(
    facts: Facts, chip: str, gpus: int, running: float, context: float, redundant: int, balanced: bool = False
) -> tuple[float, float]:
    """(output tokens/s of a node, tokens/s of a user) with `running` sequences on each GPU."""
    unit = _unit(facts, chip, gpus, redundant)
    if not balanced:
        context *= busiest_rank(gpus, running, facts.value("load", "length_variation_ratio"))
    step = decode_step(unit.model, unit.conditions, replace(unit.layout, balanced=balanced), running, context)
    return running * NODE / float(step.seconds), 1.0 / float(step.seconds)


def _number(text: str) -> float:
    """The number, or the middle of a range such as 20-22."""
    ends = [float(end) for end in text.split("-")]
    return sum(ends) / len(ends)


def _after(text: str, word: str, following: str = "") -> float:
    """The number right after `word`, or right before `following`."""
    found = re.search(rf"{word} ?(\d+) ?{following}", text)
    if found is None:
        raise ValueError(f"{text!r} has no number beside {word or following!r}")
    return float(found[1])


def _counted(text: str, what: str) -> float:
    """The count before `what`, as in "608B input tokens"."""
    found = re.search(rf"(\d+)([BM]?) {what}", text)
    if found is None:
        raise ValueError(f"{text!r} has no number of {what}")
    return float(found[1]) * _UNITS[found[2]]
