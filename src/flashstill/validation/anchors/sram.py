"""Machines that hold a model in SRAM: published rates of one user against predictions (sram_machines.csv).

Rows of the data sheets are compared with the fact rows of the same machines, so that a rate is judged on the machine
that its maker describes.  Rates with speculative decoding state neither draft nor acceptance and stay unanswered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flashstill.facts import Facts
from flashstill.plan.predict import Case
from flashstill.validation.anchors.public import ISL, OSL
from flashstill.validation.anchors.rated import RATE, Measured, compared
from flashstill.validation.anchors.tables import Rows, read_rows
from flashstill.validation.comparison import NOT_FITTED, Comparison

SRAM = "sram_machines"
MACHINES = {"Groq LPU v1": "Groq LPU", "Groq 3 LPX (LP30)": "Groq LP30", "Cerebras": "WSE 3", "Cerebras WSE-3": "WSE 3"}
PER_USER = "tok/s/user"
_MODEL = re.compile(r"(Llama-[\d.]+-\d+B)")
_WAFERS = {"70B": 4}
"""wafers that the maker names for a model; one for smaller ones"""
QUANTITIES = {
    "on-chip SRAM per chip": ("sram_bytes", "", 1e6),
    "SRAM per chip": ("sram_bytes", "", 1e6),
    "on-chip SRAM per wafer": ("sram_bytes", "", 1e9),
    "SRAM bandwidth per chip": ("sram_bytes_per_s", "", 1e12),
    "SRAM bandwidth per wafer": ("sram_bytes_per_s", "", 1e15),
    "int8 rate": ("flops_per_s", "int8", 1e12),
    "fp16 rate": ("flops_per_s", "fp16", 1e12),
    "fp8 rate per chip": ("flops_per_s", "fp8", 1e12),
    "die area": ("die_mm2", "", 1.0),
    "process": ("process_nm", "", 1.0),
    "cores": ("compute_units", "", 1.0),
}
"""row of a data sheet -> quantity, beginning of its condition, and the row's unit in that of the facts"""


def compare_sram(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons of rates, and of the facts with the data sheets; empty without the file."""
    path = directory / f"{SRAM}.csv"
    if not path.exists():
        return []
    rows = [row for row in read_rows(path) if row["machine"] in MACHINES]
    rated = [row for row in rows if row["unit"] == PER_USER]
    plain = [row for row in rated if "speculative" not in row["field"]]
    measured = [Measured(case=_case(row), quantity=RATE, value=float(row["value"])) for row in plain]
    used = ("sram-cerebras", "sram-groq")
    return [*compared(facts, SRAM, measured, len(rated) - len(plain), used), _data_sheets(facts, rows)]


def _case(row: Mapping[str, str]) -> Case:
    named = _MODEL.search(row["field"])
    if named is None:
        raise ValueError(f"a rate of {row['machine']} names no model: {row['field']}")
    wafers = next((count for size, count in _WAFERS.items() if named[1].endswith(size)), 1)
    return Case.of(
        model=named[1].lower(), chip=_chip(row), chips=wafers, pp=wafers, tp=1, isl=ISL, osl=OSL, concurrency=1
    )


def _chip(row: Mapping[str, str]) -> str:
    return MACHINES[row["machine"]].lower().replace(" ", "-")


def _data_sheets(facts: Facts, rows: Rows) -> Comparison:
    sheet = [row for row in rows if row["field"] in QUANTITIES]
    predicted = [
        facts.value(_chip(row), quantity, condition) / unit
        for row in sheet
        for quantity, condition, unit in (QUANTITIES[row["field"]],)
    ]
    return Comparison(
        anchor=SRAM,
        quantity="fact rows against data sheets",
        fitted=NOT_FITTED,
        measured=np.array([float(row["value"]) for row in sheet]),
        predicted=np.array(predicted),
        chip=tuple(_chip(row) for row in sheet),
        engine=("data sheet",) * len(sheet),
    )
