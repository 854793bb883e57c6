"""An interval over one document is none: it is null in JSON, and words in its place say why."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flashstill.cli.evaluating import _figure
from flashstill.cli.learning import student_lines
from flashstill.evaluate.gap import gap_closed, has_gap
from flashstill.evaluate.problems import quality_records
from flashstill.evaluate.summary import COLUMNS, metric_records
from flashstill.family.finished import _overlap
from flashstill.records import NO_INTERVAL, from_line, to_line
from flashstill.report.page import _interval
from flashstill.runs.outcome import as_table
from flashstill.useful_range import range_warnings

ONE = np.array([[200.0, 30.0, 80.0, 400.0, 100.0, 2.0]])
METRICS = ("bits_per_byte", "accuracy")


def test_records_have_none() -> None:
    bits, accuracy = metric_records(ONE, METRICS, "m", "heldout", 0)
    assert (bits.low, bits.high, bits.documents) == (None, None, 1)
    assert bits.value == pytest.approx(200 / (np.log(2) * 400))
    assert json.loads(to_line(bits))["low"] is None
    assert from_line(to_line(bits)) == bits
    assert _interval(bits, "{:.2f}")["range"] == NO_INTERVAL
    assert "(" not in _figure(bits)
    (warning,) = range_warnings([accuracy])
    assert f"is 2.0% ({NO_INTERVAL})" in warning.message
    (two, _) = metric_records(np.concatenate([ONE, ONE * 2]), METRICS, "m", "heldout", 0)
    assert two.low is not None
    assert _overlap(bits, two) is None
    assert _overlap(two, two) is True


def test_no_gap_is_claimed() -> None:
    """With one document the teacher was better by as much in every draw, which proves nothing."""
    one = np.pad(ONE, ((0, 0), (0, len(COLUMNS) - ONE.shape[1])))
    better = one.copy()
    better[:, 0] *= 0.5
    assert not has_gap(better, one, 0)
    assert has_gap(np.concatenate([better] * 9), np.concatenate([one] * 9), 0)
    record = gap_closed(better, better, one, "m", "heldout", 0)
    assert (record.value, record.low, record.high) == (1.0, None, None)


def test_of_one_problem() -> None:
    (record,) = quality_records("m", {"best_of_2": {"value": 1.0, "se": 0.0, "n": 1, "tokens": 9.0}}, "test")
    assert (record.low, record.high) == (None, None)


def test_a_summary_says_so() -> None:
    names = ("bits_per_byte", "kl_to_teacher", "agreement")
    quality = as_table(metric_records(ONE, names, "student", "heldout", 0))
    assert quality["student"]["heldout"]["agreement"] == [0.8, None, None]
    summary = {
        "quality": quality, "parameters": {"student": 9}, "arithmetic": {"precision": "bf16", "threads": 1},
        "training_s": 1.0, "tokens_per_s": 2.0,
    }  # fmt: skip
    assert f"heldout: {NO_INTERVAL}" in student_lines(summary)
