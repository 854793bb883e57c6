"""Measured power and energy: long matrix products on boards, and joules per output token of served models.

The prompts of the ML.ENERGY tasks are short against their answers; their length is not stated and taken as 200 tokens.
Answers are drawn as the models' own settings say (top-p), not the likeliest tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashstill.cost import Conditions, make_conditions, step_cost, uniform
from flashstill.facts import Fact, Facts
from flashstill.hardware import Chip, chip_from_facts
from flashstill.parallel import Layout, shard
from flashstill.plan.predict import Case, predict
from flashstill.validation.errors import Comparison, Values
from flashstill.validation.fit import Fit, least
from flashstill.validation.serving import Served
from flashstill.validation.tables import PRECISIONS, Rows, read_rows
from flashstill.workload import Matmul

POWER, TOKENS = "gemm_power", "energy_per_token"
PROMPT_TOKENS = 200
ENERGY_START: Mapping[str, float] = {
    "operand_energy_ratio": 1.0,
    "memory_path_pj_per_bit": 9.0,
    "active_power_ratio": 0.2,
}
ENERGY_PRIOR = {"operand_energy_ratio": 0.3, "memory_path_pj_per_bit": 0.25}
"""standard deviations in logs. Boards alone cannot tell a joule of a byte from a joule of the time it takes: published
system figures of 12 to 15 pJ a bit, less device and wires, hold the path; two thirds of a MAC's energy being operands
and clocking holds the operands; what remains is static."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredProduct:
    """A long matrix product, its watts, and its rate in FLOP/s."""

    chip: str
    precision: str
    rows: float
    columns: float
    depth: float
    watts: float
    flops_per_s: float


def products(facts: Facts, directory: Path) -> list[MeasuredProduct]:
    """The rows of the power file."""
    path = directory / f"{POWER}.csv"
    return [] if not path.exists() else [_product(facts, row) for row in read_rows(path) if row["op"] == "gemm"]


def _product(facts: Facts, row: Mapping[str, str]) -> MeasuredProduct:
    sizes = {name: float(size) for name, size in re.findall(r"([mnk])=(\d+)", row["shape"])}
    rate = next(float(text) for name, text in row.items() if name.startswith("rate"))
    device = row["device"].lower().removeprefix("nvidia ").replace(" ", "-")
    return MeasuredProduct(
        chip=facts.machine(device).name,
        precision=PRECISIONS[row["dtype"]],
        rows=sizes["m"],
        columns=sizes["n"],
        depth=sizes["k"],
        watts=float(row["power_W"]),
        flops_per_s=rate * 1e12,
    )


def product_joules(chip: Chip, product: MeasuredProduct) -> float:
    """Joules that the model gives the product at its measured rate: dynamic, and static for as long as it took."""
    conditions: Conditions = make_conditions(chip, uniform(product.precision))
    m, n, k = product.rows, product.columns, product.depth
    width = conditions.precisions.widths.weight
    work = Matmul(
        name="gemm",
        rows=m,
        columns=n,
        depth=k,
        value_bytes=width,
        activation_bytes=m * k * float(width) + 2.0 * m * n,
    )
    cost = step_cost(conditions, shard([work], Layout()))
    dynamic = float(cost.work_joules)
    return dynamic + chip.static_w * float(work.flops) / product.flops_per_s


def token_cases(directory: Path) -> tuple[list[Case], Values, Rows]:
    """The cases of the energy file, their joules per output token, and the rows."""
    path = directory / f"{TOKENS}.csv"
    rows = [row for row in read_rows(path) if row["energy_J_per_output_token"]] if path.exists() else []
    cases = [
        Case(
            model=row["model_id"],
            chip=row["gpu"],
            tp=int(row["tp"]),
            dp=int(row["num_gpus"]) // int(row["tp"]),
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


def token_served(directory: Path) -> list[Served]:
    """The same rows as measured times: mean time per output token from throughput and mean batch."""
    cases, _, rows = token_cases(directory)
    return [
        Served(
            case=case, tpot_s=float(row["avg_batch_size"]) / float(row["output_tok_per_s"]), ttft_s=None, group=TOKENS
        )
        for case, row in zip(cases, rows, strict=True)
    ]


def compare_energy(facts: Facts, directory: Path) -> list[Comparison]:
    """Watts of long products, joules and latency per output token."""
    found = []
    measured = products(facts, directory)
    if measured:
        chips = {item.chip: chip_from_facts(facts, item.chip) for item in measured}
        joules = np.array(
            [item.watts * 2 * item.rows * item.columns * item.depth / item.flops_per_s for item in measured]
        )
        found.append(
            Comparison(
                anchor=POWER,
                quantity="joules",
                measured=joules,
                predicted=np.array([product_joules(chips[item.chip], item) for item in measured]),
                chip=tuple(item.chip for item in measured),
                engine=tuple(item.precision for item in measured),
            )
        )
    cases, joules, rows = token_cases(directory)
    if cases:
        answers = predict(facts, cases)
        latency = np.array([float(row["itl_ms_p50"]) * 1e-3 for row in rows])
        for quantity, target, name in (
            ("joules per output token", joules, "joules_per_output_token"),
            ("median inter-token latency", latency, "tpot_s"),
        ):
            values = np.array([getattr(answer, name) or np.nan for answer in answers])
            answered = np.isfinite(values)
            found.append(
                Comparison(
                    anchor=TOKENS,
                    quantity=quantity,
                    measured=target[answered],
                    predicted=values[answered],
                    chip=tuple(facts.machine(case.chip).name for case, ok in zip(cases, answered, strict=True) if ok),
                    engine=tuple("vllm" for ok in answered if ok),
                    unanswered=int((~answered).sum()),
                )
            )
    return found


def fit_energy(facts: Facts, directory: Path) -> Fit:
    """Operand, memory-path and static power of the class, on both files; every model and precision weighs the same."""
    measured = products(facts, directory)
    cases, joules, _ = token_cases(directory)
    kinds = sorted({(item.chip, item.precision) for item in measured})
    names = sorted({case.model for case in cases})

    def predicted(values: Mapping[str, float]) -> list[Values]:
        table = with_energy(facts, values)
        chips = {item.chip: chip_from_facts(table, item.chip) for item in measured}
        boards = [
            np.array(
                [product_joules(chips[item.chip], item) for item in measured if (item.chip, item.precision) == kind]
            )
            for kind in kinds
        ]
        answers = np.array([answer.joules_per_output_token or np.nan for answer in predict(table, cases)])
        return [*boards, *(answers[_of(cases, name)] for name in names)]

    targets = [
        (
            " ".join(kind),
            np.array(
                [
                    item.watts * 2 * item.rows * item.columns * item.depth / item.flops_per_s
                    for item in measured
                    if (item.chip, item.precision) == kind
                ]
            ),
        )
        for kind in kinds
    ] + [(name, joules[_of(cases, name)]) for name in names]
    return least(ENERGY_START, predicted, targets, ENERGY_PRIOR)


def _of(cases: list[Case], name: str) -> np.ndarray:
    return np.array([case.model == name for case in cases])


def with_energy(facts: Facts, values: Mapping[str, float]) -> Facts:
    """Facts with the energy rows of the GPU class replaced."""
    rows = dict(facts.rows)
    for name, value in values.items():
        rows["gpu", name] = (energy_row(name, value, value, value, "fit", ""),)
    return Facts(rows=rows, machines=facts.machines)


def energy_row(name: str, value: float, low: float, high: float, source: str, note: str) -> Fact:
    """An energy row of the GPU class."""
    return Fact(
        name="gpu",
        quantity=name,
        value=value,
        low=low,
        high=high,
        unit="pJ" if "pj" in name else "1",
        per="class",
        condition="",
        kind="measured",
        source=source,
        as_of="2026-11",
        note=note,
    )
