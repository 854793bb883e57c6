"""Published cases on chips, models and engines that the other anchors lack (serving_unseen*.csv).

They were written down from their sources before the first of them was predicted, and no coefficient is fitted to one.
A row is compared by its time per output token, or by its output rate where none was published, by its time to first
token, and by its joules per output token.  Rows with a reason in the column `apart` cannot be as their source states
them, or do not say how they were measured: they are listed, and not counted.  Of rows with a reason in the column
`boundary` only the joules are: what they hold, or what meter they were read from, is not that of a prediction.
`edits` are the numbers that a launch command sets otherwise than the facts (facts/edits.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flashstill.facts import Facts
from flashstill.plan.cells import case_of
from flashstill.plan.predict import Case
from flashstill.validation.anchors.rated import JOULES, RATE, TPOT, TTFT, Measured, compared
from flashstill.validation.anchors.tables import MILLI, read_rows
from flashstill.validation.apart import Apart
from flashstill.validation.comparison import Comparison

UNSEEN = (
    "serving_unseen",
    "serving_unseen_second",
    "serving_unseen_third",
    "serving_unseen_fourth",
    "serving_unseen_fifth",
    "serving_unseen_sixth",
)
"""the tables in the order of their writing: each was written down when faults had been mended with those before it"""
JOULES_ONLY = "joules: "
"""before the reason why only the joules of a row are apart"""
_ABOUT = ("id", "source", "quoted", "apart", "boundary", "edits")
"""columns that say where a row is from; those of measured figures begin with `measured_`, all others are a case's"""


def compare_unseen(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons by table and quantity; empty without a file."""
    comparisons = []
    for name in UNSEEN:
        figures = [figure for row in _rows(directory, name) if not row["apart"] for figure in _figures(row)]
        comparisons += compared(facts, name, figures) if figures else []
    return comparisons


def unseen_apart(directory: Path) -> list[Apart]:
    """The rows that are listed apart, or whose joules are."""
    return [
        Apart(
            case=_case(row), stack=" ".join(row[name] for name in ("engine", "chip", "model") if row[name]), reason=why
        )
        for name in UNSEEN
        for row in _rows(directory, name)
        if (why := row["apart"] or (f"{JOULES_ONLY}{row['boundary']}" if row.get("boundary") else ""))
    ]


def _rows(directory: Path, name: str) -> list[dict[str, str]]:
    path = directory / f"{name}.csv"
    return read_rows(path) if path.exists() else []


def _figures(row: Mapping[str, str]) -> list[Measured]:
    per_token, rate, first = (row[f"measured_{name}"] for name in ("tpot_ms", "output_tokens_per_s", "ttft_ms"))
    figures = [
        (TPOT, per_token, MILLI),
        (RATE, "" if per_token else rate, 1.0),
        (TTFT, first, MILLI),
        (JOULES, "" if row.get("boundary") else row.get("measured_joules_per_output_token", ""), 1.0),
    ]
    case = _case(row)
    edits = tuple(row.get("edits", "").split())
    return [
        Measured(case=case, quantity=name, value=float(text) * unit, edits=edits)
        for name, text, unit in figures
        if text
    ]


def _case(row: Mapping[str, str]) -> Case:
    cells = {name: text for name, text in row.items() if text and name not in _ABOUT}
    return case_of({name: text for name, text in cells.items() if not name.startswith("measured_")}, {})
