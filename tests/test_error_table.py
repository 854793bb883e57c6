"""The table of errors where measurements have no prediction."""

from __future__ import annotations

import json

import numpy as np

from flashstill.validation.comparison import NOT_FITTED, Comparison, error_rows
from flashstill.validation.error_table import table_cells
from flashstill.validation.page import markdown


def compared(measured: list[float], predicted: list[float]) -> Comparison:
    return Comparison(
        anchor="served",
        quantity="tpot_s",
        fitted=NOT_FITTED,
        measured=np.array(measured),
        predicted=np.array(predicted),
        chip=("h100-sxm",) * len(measured),
        engine=("vllm",) * len(measured),
        unanswered=3,
    )


def test_a_quantity_without_predictions_has_dashes() -> None:
    rows = error_rows(compared([], []))
    (cells,) = table_cells(rows)[1:]
    assert cells == ("served", "tpot_s", "not fitted", "all", "all", "0", "3", "-", "-", "-", "")
    assert "nan%" not in markdown(rows)


def test_a_quantity_without_predictions_is_null_in_json() -> None:
    (row,) = error_rows(compared([], []))
    assert json.dumps([row.mean_absolute_error, row.median_absolute_error, row.bias]) == "[null, null, null]"


def test_errors_are_shares_of_the_measured_value() -> None:
    # errors +100 %, -50 %, 0: mean size 50 %, median size 50 %, median with sign 0
    (cells,) = table_cells(error_rows(compared([1.0, 2.0, 4.0], [2.0, 1.0, 4.0])))[1:]
    assert cells[5:] == ("3", "3", "50.0%", "50.0%", "+0.0%", "")
