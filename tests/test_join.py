"""What crosses between the arms: records, the frontier, printed quantities, the machine at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.distill.data.holding_out import documents_to_hold_out
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import load
from flashstill.frontier import on_front
from flashstill.hardware import chip_from_facts
from flashstill.records import MeasuredRecord, QualityRecord, from_line, read_records, to_line, write_records
from flashstill.units import show
from tests.commands import Cli

numbers = st.floats(0.01, 100.0)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30))
def test_frontier(points: list[tuple[float, float]]) -> None:
    flags = on_front(points)
    assert any(flags)
    for (cost, bad), flag in zip(points, flags, strict=True):
        beaten = any(c <= cost and b <= bad and (c < cost or b < bad) for c, b in points)
        assert flag == (not beaten)


@given(value=st.floats(allow_nan=False, allow_infinity=False), tokens=st.integers(0, 10**9), name=st.text(max_size=20))
def test_records_survive_the_disk(value: float, tokens: int, name: str) -> None:
    record = QualityRecord(
        model=name, domain="heldout", metric="m", value=value, low=value, high=value, tokens=tokens, documents=1
    )
    assert from_line(to_line(record)) == record
    assert "\n" not in to_line(record)


def test_record_files(tmp_path: Path) -> None:
    record = MeasuredRecord(
        model="a", machine="m", phase="decode", batch=1, context=2, seconds=3.0, low=2.0, high=4.0, repeats=5,
        precision="bf16",
    )  # fmt: skip
    write_records(tmp_path / "r.jsonl", [record, record])
    assert read_records(tmp_path / "r.jsonl") == [record, record]
    row = json.loads(to_line(record))
    broken: object
    for broken in ({**row, "schema": 99}, {**row, "record": "other"}, {**row, "extra": 1}, [], 3):
        with pytest.raises(BadInput):
            from_line(json.dumps(broken))
    with pytest.raises(BadInput, match="cannot be read"):
        read_records(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.35e12, "B/s", "3.35 TB/s"),
        (0.0283, "s", "28.3 ms"),
        (1e3, "W", "1 kW"),
        (0.0, "J", "0 J"),
        (2.5e-7, "s", "250 ns"),
        (0.000252, "J", "252 µJ"),
        (2.99, "USD/h", "$2.99/h"),
        (0.00208, "USD", "$0.00208"),
        (2e6, "USD", "$2,000,000"),
        (0.759, "pJ", "0.759 pJ"),
        (309.4, "pJ", "309 pJ"),
        (0.67, "1", "0.67"),
        (46225.0, "mm2", "46,225 mm2"),
    ],
)
def test_quantities_for_a_person(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text


@given(st.lists(st.integers(1, 100_000), min_size=2, max_size=200), st.integers(1, 50_000))
def test_documents_to_hold_out(characters: list[int], tokens: int) -> None:
    held = documents_to_hold_out(characters, tokens, 512)
    assert 1 <= held < len(characters)
    assert held == 1 or sum(characters[:held]) <= 0.3 * sum(characters)


def test_this_machine_is_unknown_until_it_is_measured() -> None:
    with pytest.raises(MissingFact, match="run `flashstill measure`"):
        chip_from_facts(load(), "this-machine")


@pytest.mark.slow
def test_measuring_makes_this_machine_a_chip(cli: Cli, home: Path) -> None:
    done = cli("measure", "--json")
    assert done.returncode == 0, done.stderr
    rows = {(row["quantity"], row["condition"]): row for row in json.loads(done.stdout)["facts"]}
    assert 1e7 < rows["flops_per_s", "bf16 dense"]["value"] < 1e15
    assert 1e7 < rows["memory_bytes_per_s", "DDR5"]["value"] < 1e13
    assert rows["power_limit_w", ""]["kind"] == "estimate"
    assert "this-machine" in cli("chips").stdout
    explained = cli("explain", "--model", "SmolLM2-135M", "--chip", "this-machine", "--batch", 1, "--json")
    assert explained.returncode == 0, explained.stderr
    document = json.loads(explained.stdout)
    assert document["joules_per_token"]["total"] > 0
    weights = 134_515_008 * 2.0  # bytes, each read once in a step
    assert weights / rows["memory_bytes_per_s", "DDR5"]["value"] <= document["seconds_perfect"] <= document["seconds"]


@pytest.mark.slow
def test_json_of_explain(cli: Cli) -> None:
    done = cli("explain", "--model", "Llama-3.1-70B", "--chip", "tpu-v5p", "--batch", 16, "--context", 2048, "--json")
    document = json.loads(done.stdout)
    assert done.stderr == ""
    levels = dict(document["joules_per_token"])
    assert levels.pop("total") == pytest.approx(sum(levels.values()))
    assert set(document["pj_per_mac"]) == {"compute", "movement"}
    assert document["bound"] == "memory"
    assert document["seconds"] > document["seconds_perfect"] > 0
