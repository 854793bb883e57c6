"""Calibration of the next-token distribution: a case by hand, the bias of a calibrated model, the command's table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.cli import main
from flashstill.evaluate.calibration import BINS, binned, calibration_error, calibration_record, reliability


def of(confidence: Any, right: Any, documents: int = 10) -> Any:
    confidence = np.asarray(confidence, dtype=np.float64)
    return binned(confidence, np.asarray(right, dtype=np.float64), np.arange(len(confidence)) % documents)


def test_a_case_by_hand() -> None:
    """Thirty tokens in fifteen bins of two: 28 of confidence 0.5, one of two right; the last two of 0.9 both wrong."""
    confidence = [0.9, *[0.5] * 28, 0.9]
    right = [0, *[0, 1] * 14, 0]
    sums = of(confidence, right)
    assert calibration_error(sums.sum(axis=0)) == pytest.approx(2 / 30 * 0.9)
    table = reliability(sums, "m", "d")
    assert table.tokens == (2,) * 15
    assert table.confidence == pytest.approx([0.5] * 14 + [0.9])
    assert table.right == pytest.approx([0.5] * 14 + [0.0])
    assert table.error == pytest.approx(0.06)
    noise = (14 * math.sqrt(2 * 0.25 / (math.pi * 2)) + math.sqrt(2 * 0.09 / (math.pi * 2))) / 15
    assert table.if_calibrated == pytest.approx(noise)


@pytest.mark.parametrize("tokens", [2_000, 20_000])
def test_a_calibrated_model_shows_its_known_bias_and_nothing_else(tokens: int) -> None:
    generator = np.random.default_rng(tokens)
    errors, biases = [], []
    for _ in range(40):
        confidence = generator.beta(2.0, 1.0, tokens)
        table = reliability(of(confidence, generator.random(tokens) < confidence), "m", "d")
        errors.append(table.error)
        biases.append(table.if_calibrated)
    standard_error = np.std(errors, ddof=1) / math.sqrt(len(errors))
    assert abs(np.mean(errors) - np.mean(biases)) < 4 * standard_error + 0.02 * np.mean(biases)


@pytest.mark.parametrize(("shift", "is_over"), [(0.2, True), (-0.15, False)])
def test_a_known_shift_is_found_within_its_interval(shift: float, is_over: bool) -> None:
    """Right in a share that lies below the confidence by 0.2, or above it by 0.15, whatever the confidence."""
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.3, 0.8, 20_000)
    sums = of(confidence, generator.random(20_000) < confidence - shift, documents=50)
    record = calibration_record(sums, "m", "d", 0)
    assert record.value == pytest.approx(abs(shift), abs=0.012)
    assert record.low is not None
    assert record.high is not None
    assert record.low < abs(shift) < record.high
    assert record.low < record.value < record.high
    assert (record.metric, record.tokens, record.documents) == ("calibration_error", 20_000, 50)
    table = reliability(sums, "m", "d")
    assert all((held > share) == is_over for held, share in zip(table.confidence, table.right, strict=True))


def test_fewer_tokens_than_bins_and_a_single_document() -> None:
    sums = of([0.2, 0.4, 0.9], [0, 1, 1], documents=1)
    record = calibration_record(sums, "m", "d", 0)
    assert record.value == pytest.approx((0.2 + 0.6 + 0.1) / 3)
    assert (record.low, record.high) == (None, None)
    assert reliability(sums, "m", "d").tokens == (1, 1, 1)


def test_the_command_prints_the_table(capsys: pytest.CaptureFixture[str], tiny_teacher: Path, text_file: Path) -> None:
    words = ["evaluate", str(tiny_teacher), "--data", f"plain={text_file}", "--tokens", "512", "--window", "32"]
    main([*words, "--arithmetic", "fp32", "--metric", "calibration_error", "--json"])
    document = json.loads(capsys.readouterr().out)
    [record] = [each for each in document["records"] if each["record"] == "quality"]
    [table] = document["reliability"]
    assert (table["model"], table["domain"]) == ("tiny-teacher", "plain")
    assert sum(table["tokens"]) == record["tokens"]
    assert len(table["tokens"]) == BINS
    assert max(table["tokens"]) - min(table["tokens"]) <= 1
    assert table["confidence"] == sorted(table["confidence"])
    shares = zip(table["tokens"], table["confidence"], table["right"], strict=True)
    by_hand = sum(count * abs(held - right) for count, held, right in shares) / record["tokens"]
    assert record["value"] == pytest.approx(by_hand, rel=1e-9)
    assert table["error"] == pytest.approx(record["value"], rel=1e-12)
