"""Amounts take units and names any case, in flags and in cells alike."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from flashstill.cli import main
from flashstill.units import LARGEST_COUNT, parse_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("16", 16), (" 16 ", 16), ("1e3", 1000), ("4k", 4000), ("4K", 4000), ("4Ki", 4096),
        ("1.5k", 1500), ("2M", 2_000_000), ("-3", -3), ("1.0", 1), (str(LARGEST_COUNT), LARGEST_COUNT),
        ("1.5", None), ("4m", None), ("4kB", None), ("200%", None), ("2x", None), ("²", None), ("٢", None),
        ("1_0", None), ("nan", None), ("inf", None), ("1e400", None),
        ("9" * 400, None), ("1e17", None), ("", None), ("0x10", None),
    ],
)  # fmt: skip
def test_counts(text: str, count: int | None) -> None:
    assert parse_count(text) == count


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    main([*arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_flags(capsys: pytest.CaptureFixture[str]) -> None:
    case = ("predict", "--chip", "H100-SXM", "--tp", "2", "--model")
    plain = document(
        capsys, *case, "qwen3-32b", "--isl", "4000", "--osl", "1024", "--precision", "fp8", "--weights-in", "memory"
    )
    other = document(
        capsys, *case, "QWEN3-32B", "--isl", "4k", "--osl", "1Ki", "--precision", "FP8", "--weights-in", "Memory",
        "--engine", "vLLM", "--sampling", "GREEDY", "--price", "Rented",
    )  # fmt: skip
    assert {**other, "question": None} == {**plain, "question": None}
    assert (other["question"]["isl"], other["question"]["osl"]) == (4000, 1024)
    drafted = ("--draft-tokens", "2", "--acceptance")
    heads = document(capsys, *case[:3], "--model", "deepseek-v3", "--tp", "16", "--draft", "heads", *drafted, "0.5")
    again = document(capsys, *case[:3], "--model", "deepseek-v3", "--tp", "16", "--draft", "Heads", *drafted, "50%")
    assert heads["tpot_s"] == again["tpot_s"]


def test_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("plan", "--model", "qwen3-32b", "--chips-from", "h100", "--max-chips", "2", "--batch")
    plain = document(capsys, *arguments, "1,1000", "--max-tpot", "0.04", "--max-ttft", "30", "--min-throughput", "50")
    other = document(
        capsys, *arguments, "1,1k", "--max-tpot", "40ms", "--max-ttft", "0.5min", "--min-throughput", "0.05k",
        "--tiers", "Memory,SRAM", "--precision", "Published",
    )  # fmt: skip
    assert other["front"] == plain["front"]
    assert (other["question"]["max_tpot"], other["question"]["max_ttft"]) == (0.04, 30.0)


def test_cells(tmp_path: Path) -> None:
    source, out = tmp_path / "cases.csv", tmp_path / "answers.csv"
    source.write_text(
        "model,chip,tp,isl,precision,engine,weights_in,acceptance,draft\n"
        "deepseek-v3,h200,8,4000,fp8,vllm,memory,0.5,heads\n"
        "DeepSeek-V3,H200,8,4k,FP8,vLLM,MEMORY,50%,HEADS\n"
    )
    main(["predict", "--cases", str(source), "--out", str(out)])
    first, second = csv.DictReader(out.read_text().splitlines())
    assert first["fits"] == "true"
    assert first["tpot_s"] == second["tpot_s"]


CASE = ("predict", "--model", "qwen3-32b", "--chip", "h100")
PLAN = ("plan", "--model", "qwen3-32b", "--chips-from", "h100", "--max-chips", "2")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((*CASE, "--tp", "9" * 400), "not a valid integer"),
        ((*CASE, "--tp", "2.5"), "not a valid integer; write it as 16"),
        ((*CASE, "--isl", "²"), "not a valid integer"),
        ((*CASE, "--acceptance", "nan"), "not a valid amount; write it as 0.7"),
        ((*CASE, "--acceptance", "1e999"), "not a valid amount"),
        ((*PLAN, "--max-tpot", "20MW"), "not a valid amount; write it as 20ms"),
        ((*PLAN, "--max-tpot", "inf"), "not a valid amount"),
        ((*PLAN, "--batch", "1,2.5"), "batch is '2.5'"),
        ((*CASE, "--engine", "vLM"), "the nearest known: vllm"),
        ((*CASE, "--precision", "FP9"), "unknown precision"),
        ((*CASE, "--sampling", "gredy"), "the nearest known: greedy"),
        ((*CASE, "--weights-in", "Memroy"), "memory"),
        ((*CASE, "--price", "Rent"), "rented"),
        ((*PLAN, "--tiers", "Sramm"), "the nearest known: sram"),
    ],
)
def test_what_is_none_is_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out) == (2, "")
    assert sentence in captured.err
    assert len(captured.err) < 400
