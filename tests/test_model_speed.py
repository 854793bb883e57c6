"""The steps of a model on this machine, predicted beside measured, and as cases with the same predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flashstill as fs
from flashstill.cli import main
from flashstill.facts import load
from flashstill.plan.predict import predict
from flashstill.records import CostRecord, MeasuredRecord, read_records
from flashstill.validation.own import read_own
from tests.commands import refuse


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has known rates, as those that a busy one measures in no time may be any."""
    from flashstill.measure import machine

    monkeypatch.setattr(machine, "matmul_flops_per_s", lambda dtype: (1e11, 64))
    monkeypatch.setattr(machine, "read_bytes_per_s", lambda dtype: 1e10)
    monkeypatch.setattr(machine, "operation_floor_s", lambda dtype: 1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_sweep(tiny_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    sweep = ("--batch", "1,3", "--context", "16,64", "--repeats", "1", "--arithmetic", "fp32", "--out", str(out))
    main(["measure", "--model", str(tiny_teacher), *sweep, "--json"])
    document = json.loads(capsys.readouterr().out)
    steps = document["steps"]
    shapes = [(phase, batch, context) for context in (16, 64) for batch in (1, 3) for phase in ("prefill", "decode")]
    assert [(step["phase"], step["batch"], step["context"]) for step in steps] == shapes
    assert all(step["low"] <= step["seconds"] <= step["high"] for step in steps)
    assert all(step["error"] == pytest.approx(step["predicted_s"] / step["seconds"] - 1) for step in steps)
    records = read_records(out / "records.jsonl")
    assert [type(record) for record in records] == [MeasuredRecord] * 8 + [CostRecord] * 8

    rows = read_own(out / "measured.csv")
    answers = predict(load(), [row.case for row in rows])
    for step, row, answer in zip(steps, rows, answers, strict=True):
        quantity = "tpot_s" if step["phase"] == "decode" else "ttft_s"
        assert row.measured == {quantity: pytest.approx(step["seconds"], rel=1e-5)}
        assert getattr(answer, quantity) == pytest.approx(step["predicted_s"], rel=2e-2), (
            "but for a prompt of one token"
        )


@pytest.mark.usefixtures("quick")
def test_mistakes(tiny_teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in (
        (("--context", "256"), "has a context of 256 tokens; measure contexts up to 255"),
        (("--batch", "0"), "a batch must be at least 1, not 0"),
        (("--osl", "8"), "--osl measures a server; leave --model out"),
    ):
        assert sentence in refuse(capsys, "measure", "--model", tiny_teacher, "--arithmetic", "fp32", *arguments)
    with pytest.raises(fs.BadInput, match="give at least one batch and one context"):
        fs.measure_model(tiny_teacher, batch=[])
    assert "--batch measures a model; give --model" in refuse(capsys, "measure", "--batch", "8")
