"""Measured power and energy: long matrix products on boards, and joules per output token of served models.

Prompts of the ML.ENERGY tasks are short relative to their answers; their length is not published and taken as 200
tokens.  Answers are sampled with the models' own settings (top-p), not greedily.  For experts split over two GPUs their
rows say tp 1, dp 1, ep 2.  In vLLM, expert parallelism spans tp x dp GPUs, so attention is split over num_gpus / dp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flashstill.cost import Conditions, make_conditions, uniform
from flashstill.cost.chip_work import sharded_work
from flashstill.facts import Fact, Facts, csv_files
from flashstill.hardware import Chip, chip_from_facts
from flashstill.parallel import Layout, shard
from flashstill.plan.predict import Case, predict
from flashstill.validation.anchors.serving import Served, without
from flashstill.validation.anchors.tables import PRECISIONS, Rows, machine_named, read_rows
from flashstill.validation.comparison import FITTED, LEFT_OUT, Comparison, Values
from flashstill.workload import matmul

POWER, TOKENS = "gemm_power", "energy_per_token"
PROMPT_TOKENS = 200
LEFT_OUT_FILE = Path(__file__).with_name("left_out_energy.csv")
"""energy coefficients, each fitted without one model; written by scripts/calibrate"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredProduct:
    """A long matrix product: its shape, mean watts, and rate in FLOP/s."""

    chip: str
    precision: str
    rows: float
    columns: float
    depth: float
    watts: float
    flops_per_s: float


def products(facts: Facts, directory: Path) -> list[MeasuredProduct]:
    """Measured products from the power file."""
    path = directory / f"{POWER}.csv"
    return [] if not path.exists() else [_product(facts, row) for row in read_rows(path) if row["op"] == "gemm"]


def _product(facts: Facts, row: Mapping[str, str]) -> MeasuredProduct:
    sizes = {name: float(size) for name, size in re.findall(r"([mnk])=(\d+)", row["shape"])}
    rate = next(float(text) for name, text in row.items() if name.startswith("rate"))
    return MeasuredProduct(
        chip=machine_named(facts, row["device"]),
        precision=PRECISIONS[row["dtype"]],
        rows=sizes["m"],
        columns=sizes["n"],
        depth=sizes["k"],
        watts=float(row["power_W"]),
        flops_per_s=rate * 1e12,
    )


def product_joules(chip: Chip, product: MeasuredProduct) -> float:
    """Predicted joules of the product at its measured time: dynamic and static ones, at most those of the limit."""
    conditions: Conditions = make_conditions(chip, uniform(product.precision))
    m, n, k = product.rows, product.columns, product.depth
    work = matmul("gemm", m, n, k, conditions.widths)
    dynamic = sum(float(joules) for joules in sharded_work(conditions, shard([work], Layout())).joules.values())
    seconds = float(work.flops) / product.flops_per_s
    return min(dynamic + chip.static_w * seconds, chip.power_limit_w * seconds)


def token_cases(directory: Path) -> tuple[list[Case], Values, Rows]:
    """Cases of the energy file, their measured joules per output token, and the raw rows."""
    path = directory / f"{TOKENS}.csv"
    rows = [row for row in read_rows(path) if row["energy_J_per_output_token"]] if path.exists() else []
    cases = [
        Case.of(
            model=row["model_id"],
            chip=row["gpu"],
            tp=int(row["num_gpus"]) // int(row["dp"]),
            dp=int(row["dp"]),
            ep=int(row["ep"]),
            isl=PROMPT_TOKENS,
            osl=max(round(float(row["avg_output_len_tokens"])), 2),
            concurrency=max(round(float(row["avg_batch_size"])), 1),
            engine="vllm",
            sampling="top-p",
        )
        for row in rows
    ]
    return cases, np.array([float(row["energy_J_per_output_token"]) for row in rows]), rows


def token_models(cases: Sequence[Case]) -> list[str]:
    """Names of the models of the energy file."""
    return sorted({case.scenario.model_name for case in cases})


def of_model(cases: Sequence[Case], name: str) -> npt.NDArray[np.bool_]:
    """Which cases are of the model `name`."""
    return np.array([case.scenario.model_name == name for case in cases])


def token_served(directory: Path) -> list[Served]:
    """The same rows as latencies: mean tpot is mean batch / throughput."""
    cases, _, rows = token_cases(directory)
    return [
        Served(
            case=case, tpot_s=float(row["avg_batch_size"]) / float(row["output_tok_per_s"]), ttft_s=None, group=TOKENS
        )
        for case, row in zip(cases, rows, strict=True)
    ]


def compare_energy(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons of joules of long products, and of joules and latency per output token."""
    comparisons = []
    measured = products(facts, directory)
    if measured:
        chips = {item.chip: chip_from_facts(facts, item.chip) for item in measured}
        joules = np.array(
            [item.watts * 2 * item.rows * item.columns * item.depth / item.flops_per_s for item in measured]
        )
        comparisons.append(
            Comparison(
                anchor=POWER,
                quantity="joules",
                fitted=FITTED,
                measured=joules,
                predicted=np.array([product_joules(chips[item.chip], item) for item in measured]),
                chip=tuple(item.chip for item in measured),
                engine=tuple(item.precision for item in measured),
            )
        )
    return [*comparisons, *_compare_tokens(facts, directory)]


def _compare_tokens(facts: Facts, directory: Path) -> list[Comparison]:
    """Joules per token as fitted and with the row's model left out of the fit, and latency."""
    cases, joules, rows = token_cases(directory)
    if not cases:
        return []
    answers = predict(facts, cases)
    left_out: list[float] = [np.nan] * len(cases)
    for name in token_models(cases):
        coefficients = [row for row in _left_out_rows() if row.condition == without(("model", name))]
        mine = np.flatnonzero(of_model(cases, name))
        if coefficients:
            plain = [replace(row, condition="") for row in coefficients]
            for index, answer in zip(mine, predict(facts.with_rows(plain), [cases[i] for i in mine]), strict=True):
                left_out[index] = answer.joules_per_output_token or np.nan
    chips = [facts.machine(case.deployment.chip).name for case in cases]
    latency = np.array([float(row["itl_ms_p50"]) * 1e-3 for row in rows])
    predicted = (
        ("joules per output token", FITTED, joules, [answer.joules_per_output_token or np.nan for answer in answers]),
        ("joules per output token, model left out", LEFT_OUT, joules, left_out),
        ("median inter-token latency", FITTED, latency, [answer.tpot_s or np.nan for answer in answers]),
    )
    return [_comparison(quantity, fitted, measured, values, chips) for quantity, fitted, measured, values in predicted]


def _comparison(
    quantity: str, fitted: str, measured: Values, predicted: Sequence[float], chips: Sequence[str]
) -> Comparison:
    values = np.array(predicted)
    answered = np.isfinite(values)
    return Comparison(
        anchor=TOKENS,
        quantity=quantity,
        fitted=fitted,
        measured=measured[answered],
        predicted=values[answered],
        chip=tuple(chip for chip, ok in zip(chips, answered, strict=True) if ok),
        engine=tuple("vllm" for ok in answered if ok),
        unanswered=int((~answered).sum()),
    )


@cache
def _left_out_rows() -> tuple[Fact, ...]:
    return tuple(csv_files.read_rows(LEFT_OUT_FILE))
