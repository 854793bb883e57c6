"""Joules that boards were measured to draw: operands, memory path and static power of the class, fitted together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flashstill.facts import Fact, Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.predict import Case, predict
from flashstill.validation.anchors.energy import product_joules, products, token_cases
from flashstill.validation.calibration.fit import Fit, least
from flashstill.validation.comparison import Values

ENERGY_START: Mapping[str, float] = {
    "operand_energy_ratio": 1.0,
    "memory_path_pj_per_bit": 9.0,
    "active_power_ratio": 0.2,
}
ENERGY_PRIOR = {"operand_energy_ratio": 0.3, "memory_path_pj_per_bit": 0.25}
"""standard deviations in logs. Boards alone cannot tell a joule of a byte from a joule of the time it takes: published
system figures of 12 to 15 pJ a bit, less device and wires, hold the path; two thirds of a MAC's energy being operands
and clocking holds the operands; what remains is static."""


def fit_energy(facts: Facts, directory: Path) -> Fit:
    """Operand, memory-path and static power of the class, on both files; every model and precision weighs the same."""
    measured = products(facts, directory)
    cases, joules, _ = token_cases(directory)
    kinds = sorted({(item.chip, item.precision) for item in measured})
    names = sorted({case.scenario.model_name for case in cases})

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
    return np.array([case.scenario.model_name == name for case in cases])


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
